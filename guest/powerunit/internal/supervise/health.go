package supervise

import (
	"os"
	"syscall"
	"time"

	"pitwall.dev/powerunit/internal/boot"
)

// Health is what the image's health check says.
type Health int

// None means that the image has no health check.
const (
	None Health = iota
	Starting
	Healthy
	Unhealthy
)

// verdict counts checks as Docker does: failures in the start period do not count until a check has passed.
type verdict struct {
	config   *boot.Healthcheck
	health   Health
	failures int
}

func (v *verdict) take(passed bool, sinceStart time.Duration) {
	switch {
	case passed:
		v.health, v.failures = Healthy, 0
	case v.health == Starting && sinceStart < ms(v.config.StartPeriodMs):
	default:
		if v.failures++; v.failures >= v.config.Retries {
			v.health = Unhealthy
		}
	}
}

func (v *verdict) interval(sinceStart time.Duration) time.Duration {
	if v.health == Starting && v.config.StartIntervalMs > 0 && sinceStart < ms(v.config.StartPeriodMs) {
		return ms(v.config.StartIntervalMs)
	}
	return ms(v.config.IntervalMs)
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// watchHealth checks for as long as the process runs.
func (s *Service) watchHealth(process *Process, like Spec) {
	v := verdict{config: s.config.Healthcheck, health: Starting}
	started := time.Now()
	for {
		timer := time.NewTimer(v.interval(time.Since(started)))
		select {
		case <-timer.C:
		case <-process.Done():
			timer.Stop()
			return
		}
		passed := s.check(like)
		v.take(passed, time.Since(started))
		s.update(func(status *Status) { status.Health = v.health })
	}
}

// check runs the test once, as the service runs.
func (s *Service) check(spec Spec) bool {
	test := s.config.Healthcheck.Test
	if spec.Argv = test[1:]; test[0] == "CMD-SHELL" {
		spec.Argv = append([]string{"/bin/sh", "-c"}, test[1:]...)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer null.Close()
	spec.Files = [3]*os.File{null, null, null}
	process, err := s.processes.Start(spec)
	if err != nil {
		return false
	}
	timer := time.NewTimer(ms(s.config.Healthcheck.TimeoutMs))
	defer timer.Stop()
	select {
	case <-process.Done():
		return process.Wait() == Exit{}
	case <-timer.C:
		process.Signal(syscall.SIGKILL)
		<-process.Done()
		return false
	}
}
