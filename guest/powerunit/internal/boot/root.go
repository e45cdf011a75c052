package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const diskWait = 10 * time.Second

// inRoot are the mounts of the running system, as a container runtime presents them.
var inRoot = []mount{
	{"devpts", "/dev/pts", "devpts", syscall.MS_NOSUID | syscall.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"shm", "/dev/shm", "tmpfs", hidden, "mode=1777"},
	{"mqueue", "/dev/mqueue", "mqueue", hidden, ""},
	{"cgroup", "/sys/fs/cgroup", "cgroup2", hidden, "nsdelegate"},
}

var deviceLinks = map[string]string{
	"/dev/fd":     "/proc/self/fd",
	"/dev/stdin":  "/proc/self/fd/0",
	"/dev/stdout": "/proc/self/fd/1",
	"/dev/stderr": "/proc/self/fd/2",
	"/dev/core":   "/proc/kcore",
}

// Root mounts image and disk as an overlay, makes it the root, and gives it its own files and mounts.
func Root(config *Config) error {
	base, err := findDisk("/sys/block", config.Disks, "base")
	if err != nil {
		return err
	}
	data, err := findDisk("/sys/block", config.Disks, "data")
	if err != nil {
		return err
	}
	err = mountAll([]mount{
		{base, "/base", "squashfs", syscall.MS_RDONLY, ""},
		{data, "/data", "ext4", syscall.MS_NOATIME, ""},
	})
	if err != nil {
		return err
	}
	for _, dir := range []string{"/data/upper", "/data/work"} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	root := []mount{{"root", "/root", "overlay", 0, "lowerdir=/base,upperdir=/data/upper,workdir=/data/work"}}
	if err := mountAll(root); err != nil {
		return err
	}
	if err := enter("/root"); err != nil {
		return err
	}
	if err := mountAll(inRoot); err != nil {
		return err
	}
	for link, target := range deviceLinks {
		_ = os.Symlink(target, link) // devtmpfs may have it
	}
	if err := syscall.Sethostname([]byte(config.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	makeVolumes("/", config.Process.Volumes)
	if err := ownFiles(config); err != nil {
		return err
	}
	if config.ReadOnlyRoot {
		makeVolumes("/", []string{config.Process.WorkingDir}) // nobody can later
		return closeRoot(config.Process.Volumes)
	}
	return nil
}

// closeRoot makes the root's mount read-only. The disk below it stays writable through the mounts of the volumes.
func closeRoot(volumes []string) error {
	for _, volume := range volumes {
		target := filepath.Join("/", volume)
		if err := syscall.Mount(target, target, "", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
			return fmt.Errorf("volume %s: %w", volume, err)
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("read-only root: %w", err)
	}
	return nil
}

// makeVolumes makes the folders that the image lacks. What cannot be made, the process will miss and name.
func makeVolumes(root string, volumes []string) {
	for _, volume := range volumes {
		_ = os.MkdirAll(filepath.Join(root, volume), 0o755)
	}
}

// enter moves the early mounts below the new root and makes it "/".
func enter(root string) error {
	for _, m := range early {
		target := filepath.Join(root, m.target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.target, target, "", syscall.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.target, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := syscall.Mount(root, "/", "", syscall.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move root: %w", err)
	}
	if err := syscall.Chroot("."); err != nil {
		return fmt.Errorf("chroot: %w", err)
	}
	return os.Chdir("/")
}

// ownFiles binds the VM's name, hosts and resolver over the image's files, which themselves stay as they are.
func ownFiles(config *Config) error {
	const dir = "/dev/.pitwall" // devtmpfs: memory, and present in every image
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	if config.Network.Address.IsValid() {
		hosts += fmt.Sprintf("%s\t%s\n", config.Network.Address.Addr(), config.Hostname)
	}
	resolver := ""
	for _, server := range config.Network.DNS {
		resolver += fmt.Sprintf("nameserver %s\n", server)
	}
	for name, content := range map[string]string{"hostname": config.Hostname + "\n", "hosts": hosts, "resolv.conf": resolver} {
		source := filepath.Join(dir, name)
		if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
			return err
		}
		if err := bindOver(source, "/etc/"+name); err != nil {
			return err
		}
	}
	return nil
}

// bindOver needs a file to bind over: an image without it, or with a dangling link there, gets an empty one.
func bindOver(source, target string) error {
	if _, err := os.Stat(target); err != nil {
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if info, err := os.Lstat(target); err == nil && info.Mode()&os.ModeSymlink != 0 {
			if err := os.Remove(target); err != nil {
				return err
			}
		}
		file, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		file.Close()
	}
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", target, err)
	}
	return nil
}

// findDisk returns the device of the base or data disk; it appears shortly after its driver.
func findDisk(sysBlock, by, name string) (string, error) {
	for deadline := time.Now().Add(diskWait); ; time.Sleep(2 * time.Millisecond) {
		paths, _ := filepath.Glob(filepath.Join(sysBlock, "vd*"))
		for _, path := range paths {
			if isDisk(path, by, name) {
				device := "/dev/" + filepath.Base(path)
				if _, err := os.Stat(device); err == nil {
					return device, nil
				}
			}
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no %s disk (by %s) after %v", name, by, diskWait)
		}
	}
}

func isDisk(path, by, name string) bool {
	if by == ByMode {
		content, err := os.ReadFile(filepath.Join(path, "ro"))
		return err == nil && (strings.TrimSpace(string(content)) == "1") == (name == "base")
	}
	content, err := os.ReadFile(filepath.Join(path, "serial"))
	return err == nil && strings.TrimSpace(string(content)) == name
}
