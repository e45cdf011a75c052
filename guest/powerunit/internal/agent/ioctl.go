package agent

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlBytes passes a structure that package unix does not know.
func ioctlBytes(fd int, request uint, data []byte) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(&data[0]))); errno != 0 {
		return errno
	}
	return nil
}
