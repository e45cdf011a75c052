package supervise

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/logring"
	"pitwall.dev/powerunit/internal/users"
)

const logBytes = 1 << 20

// Service is the image's own process: none -> running -> ended. It is started once.
type Service struct {
	processes *Processes
	config    boot.Process
	Logs      *logring.Ring

	mu      sync.Mutex
	process *Process
	onExit  func(Exit)
}

// NewService does not start anything yet.
func NewService(processes *Processes, config boot.Process) *Service {
	return &Service{processes: processes, config: config, Logs: logring.New(logBytes), onExit: func(Exit) {}}
}

// OnExit sets who hears about the end. Call it before Start.
func (s *Service) OnExit(f func(Exit)) { s.onExit = f }

// Start runs the process, if the image has one. A failure is an end like any other: the VM stays reachable.
func (s *Service) Start() {
	if len(s.config.Argv) == 0 {
		s.Logs.Close()
		return
	}
	process, err := s.start()
	if err != nil {
		s.Logs.Write(true, []byte("powerunit: "+err.Error()+"\n"))
		s.Logs.Close()
		code := 126
		var start *StartError
		if errors.As(err, &start) {
			code = start.Code
		}
		s.onExit(Exit{Code: code})
		return
	}
	s.mu.Lock()
	s.process = process
	s.mu.Unlock()
	go func() { s.onExit(process.Wait()) }()
}

func (s *Service) start() (*Process, error) {
	user, err := users.Load().Resolve(s.config.User)
	if err != nil {
		return nil, err
	}
	dir := s.config.WorkingDir
	if dir == "" {
		dir = "/"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("working directory: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	var pipes sync.WaitGroup
	stdout, err := s.pipe(false, &pipes)
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	stderr, err := s.pipe(true, &pipes)
	if err != nil {
		return nil, err
	}
	defer stderr.Close()
	go func() {
		pipes.Wait()
		s.Logs.Close()
	}()
	cgroup := serviceCgroup()
	if cgroup != nil {
		defer cgroup.Close()
	}
	spec := Spec{Argv: s.config.Argv, Env: WithDefault(WithDefault(s.config.Env, "PATH", DefaultPath), "HOME", user.Home), Dir: dir, User: user, Files: [3]*os.File{null, stdout, stderr}}
	if cgroup != nil {
		spec.CgroupFD = int(cgroup.Fd())
	}
	return s.processes.Start(spec)
}

// serviceCgroup lets the service's memory and processes be told from powerunit's own. A kernel without it still runs the image.
func serviceCgroup() *os.File {
	const path = "/sys/fs/cgroup/service"
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil
	}
	file, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return file
}

func (s *Service) pipe(isStderr bool, open *sync.WaitGroup) (*os.File, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	open.Go(func() {
		defer reader.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := reader.Read(buffer)
			if n > 0 {
				s.Logs.Write(isStderr, buffer[:n])
			}
			if err != nil {
				return
			}
		}
	})
	return writer, nil
}

// Stop sends the image's stop signal, waits for grace, then kills.
func (s *Service) Stop(grace time.Duration) {
	s.mu.Lock()
	process := s.process
	s.mu.Unlock()
	if process == nil {
		return
	}
	select {
	case <-process.Done():
		return
	default:
	}
	_ = syscall.Kill(process.PID, parseSignal(s.config.StopSignal))
	select {
	case <-process.Done():
	case <-time.After(grace):
		process.Signal(syscall.SIGKILL)
		<-process.Done()
	}
}

// parseSignal reads SIGTERM, TERM or 15; what it does not know is SIGTERM.
func parseSignal(text string) syscall.Signal {
	var number int
	if _, err := fmt.Sscanf(text, "%d", &number); err == nil && number > 0 && number < 65 {
		return syscall.Signal(number)
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if signal := unix.SignalNum(name); signal != 0 {
		return signal
	}
	var offset int
	if _, err := fmt.Sscanf(name, "SIGRTMIN+%d", &offset); err == nil && offset >= 0 && offset <= 30 {
		return syscall.Signal(34 + offset)
	}
	return syscall.SIGTERM
}
