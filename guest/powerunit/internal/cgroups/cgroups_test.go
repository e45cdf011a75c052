package cgroups

import "testing"

func TestReserveLeavesMostToTheImage(t *testing.T) {
	for total, want := range map[uint64]uint64{8 * mib: 4 * mib, 40 * mib: 6 * mib, 200 * mib: 25 * mib, 8192 * mib: 32 * mib} {
		if got := reserve(total); got != want {
			t.Errorf("reserve(%d MiB) = %d MiB; want %d", total/mib, got/mib, want/mib)
		}
	}
}

func TestKillsAreCounted(t *testing.T) {
	if got := killsIn("low 0\nhigh 0\nmax 31\noom 2\noom_kill 3\noom_group_kill 0\n"); got != 3 {
		t.Errorf("killsIn = %d; want 3", got)
	}
	if got := killsIn("low 0\n"); got != 0 {
		t.Errorf("killsIn = %d; want 0", got)
	}
}
