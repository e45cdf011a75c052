// The agent's end: lines of JSON on a socket, each answered by one line.
package main

import (
	"bufio"
	"encoding/json"
	"net"
	"sync"
	"time"

	"pitwall.dev/powerunit/internal/failpoint"
)

const (
	protocol     = 1
	maxLineBytes = 64 << 10
	// graceAfterStart is how long a new fence waits for its agent.
	graceAfterStart = 10 * time.Second
)

type request struct {
	Id int64  `json:"id"`
	Op string `json:"op"`
	// DeadlineMs is on the boot clock.
	DeadlineMs int64   `json:"deadline_ms"`
	Target     *target `json:"target"`
	Vm         string  `json:"vm"`
}

type reply struct {
	Id         int64 `json:"id"`
	Protocol   int   `json:"protocol"`
	DeadlineMs int64 `json:"deadline_ms"`
	// Vms are those that are guarded; with hello only.
	Vms   []string `json:"vms,omitempty"`
	Error string   `json:"error,omitempty"`
}

// serve takes connections until nobody needs the fence any more.
func serve(listener net.Listener, g *guard) error {
	go g.watch()
	var mu sync.Mutex
	connected := 0
	left := make(chan struct{}, 1)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			connected++
			mu.Unlock()
			go func() {
				defer func() {
					conn.Close()
					mu.Lock()
					connected--
					mu.Unlock()
					select {
					case left <- struct{}{}:
					default:
					}
				}()
				talk(conn, g)
			}()
		}
	}()
	time.Sleep(graceAfterStart)
	for {
		mu.Lock()
		alone := connected == 0
		mu.Unlock()
		if alone && g.isIdle() {
			return listener.Close()
		}
		select {
		case <-left:
		case <-time.After(time.Second):
		}
	}
}

func talk(conn net.Conn, g *guard) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLineBytes)
	out := json.NewEncoder(conn)
	for lines.Scan() {
		var r request
		answer := reply{Protocol: protocol}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			answer.Error = "not a line of JSON"
		} else {
			answer.Id = r.Id
			answer.Error = apply(r, g)
			if r.Op == "hello" {
				answer.Vms = g.vms()
			}
		}
		answer.DeadlineMs = g.deadline()
		if out.Encode(answer) != nil {
			return
		}
	}
}

func apply(r request, g *guard) string {
	switch {
	case r.Op == "hello":
	case r.Op == "renew" && r.DeadlineMs > 0:
		g.renew(r.DeadlineMs)
		return said(failpoint.At("fence.renewed"))
	case r.Op == "guard" && r.Target != nil && r.Target.Vm != "" && r.Target.Dir != "":
		g.add(*r.Target)
		return said(failpoint.At("fence.guarded"))
	case r.Op == "release" && r.Vm != "":
		g.remove(r.Vm)
	default:
		return "unknown or incomplete: " + r.Op
	}
	return ""
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
