// Package cgroups keeps the image's processes apart from powerunit's own: all of them are below `vm`, whose memory ends before the
// VM's does, so that powerunit and SSH live on when the image eats everything. A kernel without cgroups still runs the image.
package cgroups

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const root = "/sys/fs/cgroup"

// Groups below `vm`.
const (
	Service  = "service"
	Sessions = "sessions"
)

const (
	mib        = 1 << 20
	minReserve = 6 * mib
	maxReserve = 32 * mib
)

// Setup makes the groups. Call it once, when the cgroup filesystem is mounted.
func Setup() {
	_ = os.WriteFile(root+"/cgroup.subtree_control", []byte("+memory +pids +cpu +io"), 0)
	if os.Mkdir(root+"/vm", 0o755) != nil {
		return
	}
	_ = os.WriteFile(root+"/vm/cgroup.subtree_control", []byte("+memory +pids"), 0)
	for _, name := range []string{Service, Sessions} {
		_ = os.Mkdir(root+"/vm/"+name, 0o755)
	}
	if info := new(unix.Sysinfo_t); unix.Sysinfo(info) == nil {
		total := info.Totalram * uint64(info.Unit)
		_ = os.WriteFile(root+"/vm/memory.max", []byte(strconv.FormatUint(total-reserve(total), 10)), 0)
	}
}

// reserve is what the image may not have: an eighth, at most 32 MiB.
func reserve(total uint64) uint64 {
	return min(max(total/8, minReserve), maxReserve, total/2)
}

// Open returns a group to start processes in; nil when there is none.
func Open(name string) *os.File {
	file, err := os.OpenFile(root+"/vm/"+name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return file
}

// OOMKills counts the processes of a group that the kernel has killed for want of memory.
func OOMKills(name string) uint64 {
	content, err := os.ReadFile(root + "/vm/" + name + "/memory.events")
	if err != nil {
		return 0
	}
	return killsIn(string(content))
}

func killsIn(events string) uint64 {
	for line := range strings.Lines(events) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(count), 10, 64)
			return n
		}
	}
	return 0
}
