//go:build failpoints

// Package failpoint has named places where a test may break the programs of this module, as services/runtime/src/failpoints.ts has it
// for the others: PITWALL_FAILPOINTS=NAME[#PASSING]=ACTION,… with exit, stop:2s, sleep:2s and throw. Names of other programs' places are
// passed by. A VM's init has the variable from the kernel's command line. Each strike is told in the file that PITWALL_FAILPOINTS_LOG names.
package failpoint

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

var (
	mu       sync.Mutex
	passings = map[string]int{}
)

// At passes a place. The error is what a place that throws says.
func At(name string) error {
	mu.Lock()
	passings[name]++
	numbered := name + "#" + strconv.Itoa(passings[name])
	mu.Unlock()
	for entry := range strings.SplitSeq(os.Getenv("PITWALL_FAILPOINTS"), ",") {
		place, action, _ := strings.Cut(entry, "=")
		if place != name && place != numbered {
			continue
		}
		kind, argument, _ := strings.Cut(action, ":")
		wait, _ := time.ParseDuration(argument)
		tell(name, kind)
		switch kind {
		case "exit":
			os.Exit(137)
		case "throw", "enospc":
			return fmt.Errorf("the failpoint %s threw", name)
		case "sleep":
			time.Sleep(wait)
		case "stop":
			if os.Getpid() == 1 {
				time.Sleep(wait) // nobody can stop an init
			} else {
				stop(wait)
			}
		}
		break
	}
	return nil
}

func tell(name, kind string) {
	path := os.Getenv("PITWALL_FAILPOINTS_LOG")
	if path == "" {
		return
	}
	if file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
		_, _ = file.WriteString(name + " " + kind + "\n")
		_ = file.Close()
	}
}

// stop has somebody else stop this process and wake it, in that order whatever else the machine is doing, and waits until they are through.
func stop(wait time.Duration) {
	seconds := strconv.FormatFloat(wait.Seconds(), 'f', 3, 64)
	_ = exec.Command("sh", "-c", `kill -STOP "$2"; sleep "$1"; kill -CONT "$2"`, "sh", seconds, strconv.Itoa(os.Getpid())).Run()
}
