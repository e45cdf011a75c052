package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const hidden = syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC

// early are the mounts that finding disks needs; they move into the final root.
var early = []mount{
	{"proc", "/proc", "proc", hidden, ""},
	{"sysfs", "/sys", "sysfs", hidden, ""},
	{"dev", "/dev", "devtmpfs", syscall.MS_NOSUID, "mode=0755"},
}

func mountAll(mounts []mount) error {
	for _, m := range mounts { // in order: a target exists once everything above it is mounted
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return nil
}

// Early mounts what the rest needs, reads the configuration and loads the kernel modules.
func Early() (*Config, error) {
	if err := mountAll(early); err != nil {
		return nil, err
	}
	config, err := readConfig()
	if err != nil {
		return nil, err
	}
	return config, loadModules("/lib/modules")
}

// loadModules loads every NN-name.ko in the order of the names. Removing each keeps the initramfs, which stays in memory, small.
func loadModules(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	for _, path := range paths { // Glob sorts
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(file.Fd()), "", 0)
		file.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", filepath.Base(path), err)
		}
		os.Remove(path)
	}
	return nil
}

var dieOnce sync.Once

// Die reports why the VM cannot go on, on the kernel's console, and ends the VM.
func Die(err error) {
	dieOnce.Do(func() {
		Say("powerunit: " + err.Error())
		time.Sleep(300 * time.Millisecond) // let the node read the state and the console
		PowerOff()
	})
}

// Say writes a line to the kernel log and so to whatever console there is.
func Say(line string) {
	if file, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(file, "<2>%s\n", line)
		file.Close()
	}
}

// PowerOff ends the VM after everything is on disk. The VMM is told to take a reset for the end, because that works without ACPI.
func PowerOff() {
	syscall.Sync()
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}
