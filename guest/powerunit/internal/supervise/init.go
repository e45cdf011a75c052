package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// InitName is the name under which powerunit prepares namespaces for an image's own init and becomes it (docs/decisions/0006).
const InitName = "powerunit-init"

// IsInit tells the programs that insist on being process 1: systemd, s6-overlay, OpenRC and their kin.
func IsInit(program string) bool {
	base := filepath.Base(program)
	return filepath.IsAbs(program) && (base == "init" || base == "systemd")
}

// asInit makes the process number 1 of a PID namespace of its own, with mounts of its own. What it mounts stays there, but for /run,
// which it shares with SSH sessions: its sockets are there.
func asInit(spec Spec) (Spec, error) {
	path, err := LookPath(spec.Argv[0], spec.Env, spec.Dir)
	if err != nil {
		return spec, err
	}
	if _, err := os.Stat(path); err != nil {
		return spec, &StartError{127, fmt.Errorf("cannot run %s: %w", path, err)}
	}
	if err := mountRun(); err != nil {
		return spec, err
	}
	spec.Path = "/proc/self/exe"
	spec.Argv = append([]string{InitName, path}, spec.Argv...)
	spec.Env = WithDefault(spec.Env, "container", "oci") // systemd leaves the hardware alone
	spec.Namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	return spec, nil
}

// mountRun does it once, however often the init is started again.
var mountRun = sync.OnceValue(func() error {
	if err := os.MkdirAll("/run", 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("run", "/run", "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return nil
})

// BecomeInit is the program InitName: its arguments are a path, and the argument list for what is there. It returns only an error.
func BecomeInit(args []string) error {
	runtime.LockOSThread() // namespaces are a thread's
	if len(args) < 3 {
		return fmt.Errorf("%s: expected a path and arguments", InitName)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("control group namespace: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("mount /: %w", err)
	}
	_ = syscall.Unmount("/sys/fs/cgroup", syscall.MNT_DETACH) // it is not mounted over itself
	const hidden = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC
	for _, m := range []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"proc", "/proc", "proc", hidden},
		{"cgroup", "/sys/fs/cgroup", "cgroup2", hidden}, // seen from the service's own group
	} {
		if err := syscall.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return syscall.Exec(args[1], args[2:], os.Environ())
}
