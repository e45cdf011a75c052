// What is guarded, and when it is killed.
package main

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"pitwall.dev/powerunit/internal/failpoint"
)

// target is one VM that may be started elsewhere.
type target struct {
	Vm    string `json:"vm"`
	Epoch string `json:"epoch"`
	// Dir is the VM's folder: whatever works there, or is jailed in it, is the VM's, also what the agent has started and not yet told of.
	Dir string `json:"dir"`
	// Pid is 0 until the VMM has been started.
	Pid        int    `json:"pid"`
	StartTicks string `json:"start_ticks"`
}

// guard is shared by the connection and the clock; mu is held for each step.
type guard struct {
	mu         sync.Mutex
	record     *record
	deadlineMs int64
	targets    map[string]target
	changed    chan struct{}
}

func newGuard(record *record) *guard {
	return &guard{record: record, targets: map[string]target{}, changed: make(chan struct{}, 1)}
}

func (g *guard) wake() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// renew moves the deadline. An earlier one than the current one is taken too: the agent knows what it may.
func (g *guard) renew(deadlineMs int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deadlineMs = deadlineMs
	g.wake()
}

func (g *guard) add(t target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.targets[t.Vm] = t
	g.wake()
}

func (g *guard) remove(vm string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.targets, vm)
	g.wake()
}

func (g *guard) vms() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.targets))
}

func (g *guard) deadline() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.deadlineMs
}

// isIdle says whether nothing that is guarded runs.
func (g *guard) isIdle() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	idle := true
	around := lookAround()
	for _, t := range g.targets {
		for _, p := range processesOf(t, around) {
			p.close()
			idle = false
		}
	}
	return idle
}

// trippedEvery is how soon a VMM is found that was started after the deadline.
const trippedEvery = 100 * time.Millisecond

// watch kills what is guarded from the deadline on. It returns never.
func (g *guard) watch() {
	for {
		wait := time.Hour
		g.mu.Lock()
		if len(g.targets) > 0 {
			if left := time.Duration(g.deadlineMs-bootMs()) * time.Millisecond; left > 0 {
				wait = left
			} else {
				g.trip()
				wait = trippedEvery
			}
		}
		g.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-g.changed:
			timer.Stop()
		}
	}
}

// trip kills everything that is guarded and runs; each kill is recorded when the process is gone.
func (g *guard) trip() {
	type victim struct {
		target  target
		process process
	}
	var killed []victim
	around := lookAround()
	for _, t := range g.targets {
		for _, p := range processesOf(t, around) {
			if failpoint.At("fence.kill") == nil && p.kill() {
				killed = append(killed, victim{t, p})
			} else {
				p.close()
			}
		}
	}
	for _, v := range killed {
		gone := v.process.waitGone(killBudget)
		v.process.close()
		g.record.write(map[string]any{
			"event": "killed", "vm": v.target.Vm, "epoch": v.target.Epoch, "pid": v.process.pid, "gone": gone,
			"deadline_ms": g.deadlineMs, "at_ms": bootMs(),
		})
		_ = failpoint.At("fence.killed") // there is nothing left to fail
	}
}

// processesOf opens the VMM by pid and start time, and whatever else works in the VM's folder or is jailed in it.
func processesOf(t target, around whereabouts) []process {
	var found []process
	if t.Pid > 0 {
		ticks, err := strconv.ParseUint(t.StartTicks, 10, 64)
		if p, ok := openProcess(t.Pid); ok {
			if err == nil && p.startTicks == ticks {
				found = append(found, p)
			} else {
				p.close()
			}
		}
	}
	for _, pid := range around.in(t.Dir) {
		if pid == t.Pid {
			continue
		}
		if p, ok := openProcess(pid); ok {
			found = append(found, p)
		}
	}
	return found
}
