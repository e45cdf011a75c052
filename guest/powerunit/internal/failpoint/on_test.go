//go:build failpoints

package failpoint

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// The threads that are busy meanwhile are what a stop has to reach besides the caller's.
func TestAStoppedPlaceIsPassedAfterTheStop(t *testing.T) {
	const stopFor = 50 * time.Millisecond
	t.Setenv("PITWALL_FAILPOINTS", "here=stop:"+stopFor.String())
	var isOver atomic.Bool
	defer isOver.Store(true)
	for range 2 * runtime.NumCPU() {
		go func() {
			for !isOver.Load() {
			}
		}()
	}
	for range 20 {
		begun := time.Now()
		if err := At("here"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < stopFor {
			t.Fatalf("it was passed after %v", took)
		}
	}
}
