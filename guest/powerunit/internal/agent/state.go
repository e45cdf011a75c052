// Package agent serves powerunit's gRPC services: GuestControlService to the node, GuestService also to users.
package agent

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/supervise"
)

// State is what WatchState tells: BOOTING -> READY -> STOPPING, or FAILED from anywhere.
type State struct {
	mu      sync.Mutex
	version string
	state   pb.GuestState
	message string
	service supervise.Status
	count   uint64        // of changes
	changed chan struct{} // closed and replaced at each change
	told    uint64        // the count of what the node was last sent
	heard   chan struct{} // closed and replaced when the node was sent something
}

// NewState begins as BOOTING.
func NewState(version string) *State {
	return &State{version: version, state: pb.GuestState_GUEST_STATE_BOOTING, changed: make(chan struct{}), heard: make(chan struct{})}
}

func (s *State) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.count++
	close(s.changed)
	s.changed = make(chan struct{})
}

// tell records that the node was sent what current returned with count.
func (s *State) tell(count uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = max(s.told, count)
	close(s.heard)
	s.heard = make(chan struct{})
}

// AwaitTold waits until the node was sent the latest state, at most for limit.
func (s *State) AwaitTold(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mu.Lock()
		isTold, heard := s.told == s.count, s.heard
		s.mu.Unlock()
		if isTold {
			return
		}
		select {
		case <-heard:
		case <-timer.C:
			return
		}
	}
}

// Ready says that the VM is up.
func (s *State) Ready() { s.change(func() { s.state = pb.GuestState_GUEST_STATE_READY }) }

// Stopping says that the VM is on its way down.
func (s *State) Stopping() { s.change(func() { s.state = pb.GuestState_GUEST_STATE_STOPPING }) }

// Fail says that the VM cannot go on.
func (s *State) Fail(err error) {
	s.change(func() { s.state, s.message = pb.GuestState_GUEST_STATE_FAILED, err.Error() })
}

// Service records what has become of the image's process.
func (s *State) Service(status supervise.Status) { s.change(func() { s.service = status }) }

func wireExit(exit *supervise.Exit) *pb.Exit {
	if exit == nil {
		return nil
	}
	return &pb.Exit{Code: int32(exit.Code), Signal: int32(exit.Signal), OutOfMemory: exit.OutOfMemory}
}

var healths = map[supervise.Health]pb.Health{
	supervise.Starting: pb.Health_HEALTH_STARTING, supervise.Healthy: pb.Health_HEALTH_HEALTHY, supervise.Unhealthy: pb.Health_HEALTH_UNHEALTHY,
}

func (s *State) current() (response *pb.WatchStateResponse, count uint64, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &pb.WatchStateResponse{
		State: s.state, Message: s.message, ServiceExit: wireExit(s.service.Exit), Uptime: new(uptime()), PowerunitVersion: s.version,
		RestartCount: s.service.Restarts, Health: healths[s.service.Health],
	}, s.count, s.changed
}

// uptime is the time since the kernel started, proc(5).
func uptime() time.Duration {
	content, _ := os.ReadFile("/proc/uptime")
	first, _, _ := strings.Cut(string(content), " ")
	seconds, _ := strconv.ParseFloat(first, 64)
	return time.Duration(seconds * float64(time.Second))
}
