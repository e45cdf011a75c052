package supervise

import "time"

const (
	firstWait   = 100 * time.Millisecond
	longestWait = 30 * time.Second
	// settled is how long a run must last for the waits to begin anew.
	settled = 10 * time.Second
)

// restarts decides whether and when an ended process is started again.
type restarts struct {
	policy string // of boot.Process
	wait   time.Duration
}

// after tells of a run that has ended; false: never again.
func (r *restarts) after(exit Exit, ran time.Duration) (wait time.Duration, again bool) {
	switch {
	case r.policy == "always":
	case r.policy == "on-failure" && (exit.Code != 0 || exit.Signal != 0):
	default:
		return 0, false
	}
	if r.wait == 0 || ran >= settled {
		r.wait = firstWait
	} else {
		r.wait = min(2*r.wait, longestWait)
	}
	return r.wait, true
}
