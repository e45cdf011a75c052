//go:build failpoints

package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// As services/runtime/src/failpoints.ts has it, without what this process does not do: PITWALL_FAILPOINTS=NAME[#PASSING]=ACTION,… with
// exit, stop:2s and sleep:2s; throw is an exit with code 1. Names of another program's places are passed by.
var (
	passings   = map[string]int{}
	passingsMu sync.Mutex
)

func failpoint(name string) {
	passingsMu.Lock()
	passings[name]++
	passing := strconv.Itoa(passings[name])
	passingsMu.Unlock()
	for entry := range strings.SplitSeq(os.Getenv("PITWALL_FAILPOINTS"), ",") {
		place, action, _ := strings.Cut(entry, "=")
		if place != name && place != name+"#"+passing {
			continue
		}
		kind, argument, _ := strings.Cut(action, ":")
		wait, _ := time.ParseDuration(argument)
		switch kind {
		case "exit":
			os.Exit(137)
		case "throw", "enospc":
			os.Exit(1)
		case "sleep":
			time.Sleep(wait)
		case "stop":
			// Somebody else must wake a stopped process.
			wake := exec.Command("sh", "-c", `sleep "$1"; kill -CONT "$2"`, "sh", strconv.FormatFloat(wait.Seconds(), 'f', 3, 64), strconv.Itoa(os.Getpid()))
			if wake.Start() == nil {
				_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			}
		}
		return
	}
}
