package boot

import (
	"syscall"
	"time"
)

const lastGrace = 200 * time.Millisecond

// Shutdown ends every other process, makes the disk consistent and ends the VM. It does not return.
func Shutdown() {
	_ = syscall.Kill(-1, syscall.SIGTERM) // all but ourselves
	time.Sleep(lastGrace)
	_ = syscall.Kill(-1, syscall.SIGKILL)
	syscall.Sync()
	_ = syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
	PowerOff()
}
