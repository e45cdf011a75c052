package supervise

import (
	"syscall"
	"testing"
	"time"

	"pitwall.dev/powerunit/internal/boot"
)

func TestRestartsFollowThePolicy(t *testing.T) {
	failed, killed := Exit{Code: 1}, Exit{Signal: syscall.SIGKILL}
	for policy, want := range map[string][3]bool{
		"": {}, "never": {}, "on-failure": {false, true, true}, "always": {true, true, true},
	} {
		for i, exit := range []Exit{{}, failed, killed} {
			if _, again := (&restarts{policy: policy}).after(exit, 0); again != want[i] {
				t.Errorf("%q after %+v: %v", policy, exit, again)
			}
		}
	}
}

func TestWaitsDoubleUpToALimitAndBeginAnewAfterALongRun(t *testing.T) {
	r := restarts{policy: "always"}
	for _, want := range []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000} {
		if got, _ := r.after(Exit{}, settled-1); got != want*time.Millisecond {
			t.Fatalf("waits %v; want %v ms", got, int64(want))
		}
	}
	if got, _ := r.after(Exit{}, settled); got != firstWait {
		t.Errorf("after a long run it waits %v", got)
	}
}

func TestHealthIsCountedAsDockerCounts(t *testing.T) {
	v := verdict{config: &boot.Healthcheck{StartPeriodMs: 1000, IntervalMs: 300, StartIntervalMs: 50, Retries: 2}, health: Starting}
	for i, step := range []struct {
		passed bool
		at     time.Duration
		want   Health
	}{
		{false, 500 * time.Millisecond, Starting}, {false, 900 * time.Millisecond, Starting}, {true, 950 * time.Millisecond, Healthy},
		{false, 960 * time.Millisecond, Healthy}, {false, 970 * time.Millisecond, Unhealthy}, {true, 2 * time.Second, Healthy},
	} {
		if v.take(step.passed, step.at); v.health != step.want {
			t.Fatalf("step %d: %v; want %v", i, v.health, step.want)
		}
	}
	fresh := verdict{config: v.config, health: Starting}
	if got := fresh.interval(0); got != 50*time.Millisecond {
		t.Errorf("in the start period it checks every %v", got)
	}
	if got := fresh.interval(time.Second); got != 300*time.Millisecond {
		t.Errorf("later it checks every %v", got)
	}
}

func TestTheLastValueOfAVariableCounts(t *testing.T) {
	got := LastOfEach([]string{"A=1", "B=2", "A=3"})
	if len(got) != 2 || got[0] != "A=3" || got[1] != "B=2" {
		t.Errorf("LastOfEach = %v", got)
	}
}
