package supervise

import "syscall"

// unlimited is RLIM_INFINITY.
const unlimited = ^uint64(0)

// Limits that container engines start processes with, where the kernel's own for an init differ.
var limits = map[int]syscall.Rlimit{
	syscall.RLIMIT_NOFILE: {Cur: 1 << 20, Max: 1 << 20},
	syscall.RLIMIT_CORE:   {Cur: unlimited, Max: unlimited},
	rlimitNproc:           {Cur: unlimited, Max: unlimited},
}

const rlimitNproc = 6 // asm-generic/resource.h; package syscall has no name for it

// InheritedLimits sets the umask and the limits that every process of the VM inherits. Setting them by name also keeps Go from
// restoring its own idea of RLIMIT_NOFILE in what it starts.
func InheritedLimits() {
	syscall.Umask(0o022)
	for kind, limit := range limits {
		_ = syscall.Setrlimit(kind, &limit)
	}
}
