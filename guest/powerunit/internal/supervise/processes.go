// Package supervise starts processes and collects their ends. Powerunit is PID 1: every orphan of the VM becomes its child, so one
// reaper waits for all and hands each status to whoever started that process.
package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"pitwall.dev/powerunit/internal/failpoint"
	"pitwall.dev/powerunit/internal/users"
)

// DefaultPath is what a container runtime gives a process whose environment has no PATH.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Exit is how a process ended.
type Exit struct {
	Code   int
	Signal syscall.Signal
	// OutOfMemory says that the kernel killed for want of memory; only a Service knows.
	OutOfMemory bool
}

// Spec is a process to start.
type Spec struct {
	// Path is the program; empty: Argv[0] looked up in the PATH of Env.
	Path string
	Argv []string
	Env  []string
	Dir  string
	User users.Identity
	// Files are stdin, stdout and stderr.
	Files [3]*os.File
	// Link is file 3, when there is one.
	Link *os.File
	// Terminal makes Files[0] the controlling terminal.
	Terminal bool
	// Namespaces are clone flags; 0: those of powerunit.
	Namespaces uintptr
	// Cgroup places the process; nil: where powerunit is.
	Cgroup *os.File
}

// Process is a running one, leader of its own session and process group.
type Process struct {
	PID  int
	of   *Processes
	done chan struct{}
	exit Exit
}

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns how the process ended.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// Signal sends to the whole process group. Once the process has ended it does nothing: its number may be another's then.
func (p *Process) Signal(s syscall.Signal) { p.send(-p.PID, s) }

// SignalAlone sends to the process and to none that it has started; like Signal in all else.
func (p *Process) SignalAlone(s syscall.Signal) { p.send(p.PID, s) }

// send holds the lock under which ends are collected: until its end is collected, a process keeps its number.
func (p *Process) send(to int, s syscall.Signal) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if p.of.known[p.PID] == p {
		_ = syscall.Kill(to, s)
	}
}

// Processes knows all that powerunit started.
type Processes struct {
	mu    sync.Mutex // held from fork to registration, so that no end is collected before somebody waits for it, and while a signal is sent
	known map[int]*Process
	// Exposed starts processes with the usual chance to be killed when memory ends, where powerunit itself has none.
	Exposed bool
}

// NewProcesses starts the reaper.
func NewProcesses() *Processes {
	ps := &Processes{known: map[int]*Process{}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	go func() {
		for range signals {
			ps.reap()
		}
	}()
	return ps
}

func (ps *Processes) reap() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		p := ps.known[pid]
		if p == nil {
			continue // an orphan
		}
		delete(ps.known, pid)
		if status.Signaled() {
			p.exit = Exit{Signal: status.Signal()}
		} else {
			p.exit = Exit{Code: status.ExitStatus()}
		}
		_ = failpoint.At("guest.reap") // nobody hears of an error
		close(p.done)
	}
}

// StartError says why a process could not start, with the code that a shell would exit with.
type StartError struct {
	Code int
	Err  error
}

func (e *StartError) Error() string { return e.Err.Error() }

// Start runs a process. Its error is a *StartError.
func (ps *Processes) Start(spec Spec) (*Process, error) {
	path := spec.Path
	if path == "" {
		found, err := LookPath(spec.Argv[0], spec.Env, spec.Dir)
		if err != nil {
			return nil, err
		}
		path = found
	}
	credential := &syscall.Credential{Uid: spec.User.UID, Gid: spec.User.GID, Groups: spec.User.Groups}
	attributes := &syscall.ProcAttr{
		Dir:   spec.Dir,
		Env:   spec.Env,
		Files: []uintptr{spec.Files[0].Fd(), spec.Files[1].Fd(), spec.Files[2].Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: spec.Terminal, Credential: credential, Cloneflags: spec.Namespaces},
	}
	if spec.Link != nil {
		attributes.Files = append(attributes.Files, spec.Link.Fd())
	}
	if spec.Cgroup != nil {
		attributes.Sys.UseCgroupFD, attributes.Sys.CgroupFD = true, int(spec.Cgroup.Fd())
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	pid, err := syscall.ForkExec(path, spec.Argv, attributes)
	if err != nil {
		code := 126
		if errors.Is(err, syscall.ENOENT) {
			code = 127
		}
		return nil, &StartError{code, fmt.Errorf("cannot run %s: %w", spec.Argv[0], err)}
	}
	if ps.Exposed {
		_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("0"), 0)
	}
	p := &Process{PID: pid, of: ps, done: make(chan struct{})}
	ps.known[pid] = p
	return p, nil
}

// LookPath finds a program in the PATH of env, not of powerunit.
func LookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := DefaultPath
	if value, ok := Getenv(env, "PATH"); ok {
		path = value
	}
	for _, folder := range filepath.SplitList(path) {
		if folder == "" {
			folder = "."
		}
		candidate := filepath.Join(folder, name)
		if !filepath.IsAbs(candidate) {
			candidate = filepath.Join(dir, candidate)
		}
		if info, err := os.Stat(candidate); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return candidate, nil
		}
	}
	return "", &StartError{127, fmt.Errorf("cannot run %s: not found in PATH %s", name, path)}
}

// Getenv finds the last value of a variable.
func Getenv(env []string, name string) (string, bool) {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value, true
		}
	}
	return "", false
}

// WithDefault adds a variable unless env has it.
func WithDefault(env []string, name, value string) []string {
	if _, ok := Getenv(env, name); ok {
		return env
	}
	return append(env[:len(env):len(env)], name+"="+value)
}

// LastOfEach keeps the last value of each variable: programs differ in which they take.
func LastOfEach(env []string) []string {
	at := map[string]int{}
	kept := env[:0:0]
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if i, ok := at[name]; ok {
			kept[i] = entry
			continue
		}
		at[name] = len(kept)
		kept = append(kept, entry)
	}
	return kept
}
