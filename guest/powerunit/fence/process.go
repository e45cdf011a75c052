// Processes, held by pidfd so that a pid that is used again is never killed, and told apart by their start time.
package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// pidfd_open(2), pidfd_send_signal(2): the same numbers on every architecture; package syscall has no names for them.
const (
	sysPidfdSendSignal = 424
	sysPidfdOpen       = 434
	clockBoottime      = 7
)

// killBudget is how long a killed process may take to be gone before it is recorded as stuck.
const killBudget = 2 * time.Second

type process struct {
	pid        int
	startTicks uint64
	fd         int
}

// openProcess is false for what is gone, and for zombies.
func openProcess(pid int) (process, bool) {
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return process{}, false
	}
	// Read after the pidfd is held: from now on this pid cannot become another process unnoticed.
	ticks, alive := startTicks(pid)
	if !alive {
		syscall.Close(int(fd))
		return process{}, false
	}
	return process{pid: pid, startTicks: ticks, fd: int(fd)}, true
}

func (p process) kill() bool {
	_, _, errno := syscall.Syscall6(sysPidfdSendSignal, uintptr(p.fd), uintptr(syscall.SIGKILL), 0, 0, 0, 0)
	return errno == 0
}

// waitGone is false when the process is still there after the limit.
func (p process) waitGone(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if ticks, alive := startTicks(p.pid); !alive || ticks != p.startTicks {
			return true
		}
	}
	return false
}

func (p process) close() {
	syscall.Close(p.fd)
}

// startTicks reads field 22 of /proc/PID/stat (proc_pid_stat(5)).
func startTicks(pid int) (uint64, bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	end := bytes.LastIndexByte(stat, ')') // the name before may hold anything
	if end < 0 {
		return 0, false
	}
	fields := bytes.Fields(stat[end+1:])
	if len(fields) < 20 || string(fields[0]) == "Z" || string(fields[0]) == "X" {
		return 0, false
	}
	ticks, err := strconv.ParseUint(string(fields[19]), 10, 64)
	return ticks, err == nil
}

// whereabouts tells where all processes are: by their working directory, as the kernel names it, and by what they see as their root.
// A jailed process has no directory that the kernel could name from here.
type whereabouts struct {
	byDir  map[string][]int
	byRoot map[folder][]int
}

// folder is what makes a folder that folder, whatever it is called.
type folder struct {
	major, minor uint32
	inode        uint64
}

// folderAt asks for what is known already: a file system that does not answer, somebody else's, must not hold up the fence.
func folderAt(path string) (folder, bool) {
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &stat); err != nil {
		return folder{}, false
	}
	return folder{stat.Dev_major, stat.Dev_minor, stat.Ino}, true
}

func lookAround() whereabouts {
	found := whereabouts{map[string][]int{}, map[folder][]int{}}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return found
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if cwd, err := os.Readlink("/proc/" + entry.Name() + "/cwd"); err == nil {
			found.byDir[cwd] = append(found.byDir[cwd], pid)
		}
		if root, ok := folderAt("/proc/" + entry.Name() + "/root"); ok {
			found.byRoot[root] = append(found.byRoot[root], pid)
		}
	}
	return found
}

// in lists those that work in a VM's folder, and those whose root is a jail there: FOLDER/firecracker/ID/root.
func (w whereabouts) in(dir string) []int {
	pids := append(append([]int{}, w.byDir[dir]...), w.byDir[dir+" (deleted)"]...)
	jails, _ := filepath.Glob(filepath.Join(dir, "firecracker", "*", "root"))
	for _, jail := range jails {
		if root, ok := folderAt(jail); ok {
			pids = append(pids, w.byRoot[root]...)
		}
	}
	return pids
}

// bootMs is the time since boot, asleep or not.
func bootMs() int64 {
	var ts syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Sec*1000 + ts.Nsec/1_000_000
}
