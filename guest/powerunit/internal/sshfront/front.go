// Package sshfront is PID 1's half of SSH: it owns the listener and hands each connection to the process that serves SSH, which is a
// program of its own so that PID 1 stays small and survives it. It is started with the VM and with the first connection after it has
// left; it leaves when it has had nothing to do for a while (internal/sshd, "Run").
package sshfront

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/supervise"
)

// Settings is what the SSH process reads from its standard input.
type Settings struct {
	boot.SSH
	// Env is the image's environment.
	Env []string `json:"env"`
}

// Admission is who is let in on one connection.
type Admission struct {
	// SessionKey, when not empty, is a key or a certificate beside the VM's own keys: a certificate if it is good, too.
	SessionKey string
	// Logins, unless nil, are the users that it logs in as; it is then the only key.
	Logins []string
	// HostCertificate, when not empty, is a line about the VM's host key, which is shown beside it.
	HostCertificate string
	// Kept, unless nil, are the fingerprints of the VM's own keys that stay its keys, from now on.
	Kept []string
}

// Fingerprint is OpenSSH's of a key as it is on the wire.
func Fingerprint(key []byte) string {
	digest := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(digest[:])
}

// ProgramPath is where the initramfs has the SSH program.
const ProgramPath = "/powerunit-ssh"

// Front is safe for use by many goroutines.
type Front struct {
	processes *supervise.Processes
	program   int // opened before the initramfs was left

	mu       sync.Mutex
	settings Settings
	link     *net.UnixConn // nil while no process serves
	sent     uint64        // connections given over link
}

// New opens the program; call it before the root is switched.
func New(config boot.SSH, env []string, processes *supervise.Processes) (*Front, error) {
	program, err := openProgram()
	if err != nil {
		return nil, err
	}
	return &Front{processes: processes, program: program, settings: Settings{config, env}}, nil
}

// openProgram opens it under a number that the process's own files do not take when it is started.
func openProgram() (int, error) {
	file, err := os.Open(ProgramPath)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 64)
}

// Listen serves port 22 in the background. A port that the image's own process took first is its right.
func (f *Front) Listen() {
	listener, err := net.Listen("tcp", ":22")
	if err != nil {
		boot.Say("powerunit: ssh: " + err.Error())
		return
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if err := f.give(conn.(*net.TCPConn), Admission{}); err != nil { // Accept of a TCP listener returns nothing else
				boot.Say("powerunit: ssh: " + err.Error())
			}
			conn.Close()
		}
	}()
}

// Dial opens a connection to the SSH server.
func (f *Front) Dial(admission Admission) (*net.UnixConn, error) {
	ours, theirs, err := pair(syscall.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	if err := f.give(theirs, admission); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

// Keep takes away all of the VM's own keys but those of these fingerprints.
func (f *Front) Keep(fingerprints []string) error {
	conn, err := f.Dial(Admission{Kept: fingerprints})
	if err != nil {
		return err
	}
	return conn.Close()
}

// keep leaves the lines of a list whose keys have one of these fingerprints.
func keep(lines, fingerprints []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		words := strings.Fields(line)
		if len(words) < 2 {
			return true
		}
		key, err := base64.StdEncoding.DecodeString(words[1])
		return err != nil || !slices.Contains(fingerprints, Fingerprint(key))
	})
}

// Start has a process wait for the first connection.
func (f *Front) Start() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.start(); err != nil {
		boot.Say("powerunit: ssh: " + err.Error())
	}
}

func pair(kind int) (ours, theirs *net.UnixConn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "ssh")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			return nil, nil, err
		}
		conns[i] = conn.(*net.UnixConn) // it was made as one
	}
	return conns[0], conns[1], nil
}

// give sends a connection to the process. One that has died meanwhile is followed by another.
func (f *Front) give(conn syscall.Conn, admission Admission) error {
	message, err := json.Marshal(admission)
	if err != nil {
		return err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if admission.Kept != nil { // for processes that are yet to come
		f.settings.AuthorizedKeys = keep(f.settings.AuthorizedKeys, admission.Kept)
	}
	for range 2 {
		if err = f.start(); err != nil {
			return err
		}
		if failed := raw.Control(func(fd uintptr) {
			_, _, err = f.link.WriteMsgUnix(message, syscall.UnixRights(int(fd)), nil)
		}); failed != nil {
			return failed
		}
		if err == nil {
			f.sent++
			return nil
		}
		f.link.Close()
		f.link = nil
	}
	return err
}

// start starts the process, unless there is one. f.mu is held.
func (f *Front) start() error {
	if f.link != nil {
		return nil
	}
	ours, theirs, err := pair(syscall.SOCK_SEQPACKET)
	if err != nil {
		return err
	}
	defer theirs.Close()
	told, err := json.Marshal(f.settings)
	if err != nil {
		return err
	}
	link, err := theirs.File()
	if err != nil {
		return err
	}
	defer link.Close()
	stdin, settings, err := os.Pipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	null, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0) // what it says when it fails
	if err != nil {
		return err
	}
	defer null.Close()
	process, err := f.processes.Start(supervise.Spec{
		Path:  fmt.Sprintf("/proc/self/fd/%d", f.program),
		Argv:  []string{"powerunit-ssh"},
		Env:   []string{"GOMAXPROCS=2", "GOGC=50"},
		Dir:   "/",
		Files: [3]*os.File{stdin, null, null},
		Link:  link,
	})
	if err != nil {
		settings.Close()
		ours.Close()
		return err
	}
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", process.PID), []byte("-1000"), 0)
	go func() {
		_, _ = settings.Write(told)
		settings.Close()
	}()
	f.link, f.sent = ours, 0
	go f.hear(ours)
	return nil
}

// hear lets the process go when it says how many connections it has had and that is all there were.
func (f *Front) hear(link *net.UnixConn) {
	var count [8]byte
	for {
		n, err := link.Read(count[:])
		f.mu.Lock()
		isOver := err != nil || n == 0 || n == len(count) && binary.LittleEndian.Uint64(count[:]) == f.sent
		if isOver && f.link == link {
			f.link = nil
		}
		f.mu.Unlock()
		if isOver {
			link.Close()
			if err != nil && !errors.Is(err, net.ErrClosed) {
				boot.Say("powerunit: ssh: its process ended: " + err.Error())
			}
			return
		}
	}
}
