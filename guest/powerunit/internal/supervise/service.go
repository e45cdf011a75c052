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
	"pitwall.dev/powerunit/internal/cgroups"
	"pitwall.dev/powerunit/internal/logring"
	"pitwall.dev/powerunit/internal/users"
)

const (
	logBytes  = 1 << 20
	pipeBytes = 4 << 10
)

// Service is the image's own process: none -> running -> ended, and running again when its policy says so.
//
// One goroutine, run, starts it and hears of its ends; Stop ends both.
type Service struct {
	processes *Processes
	config    boot.Process
	cgroup    *os.File
	Logs      *logring.Ring
	pipes     sync.WaitGroup

	mu       sync.Mutex
	process  *Process // nil while none runs
	status   Status
	onChange func(Status)
	stopping chan struct{} // closed by Stop
	stopOnce sync.Once
	over     chan struct{} // closed when it will not run again
}

// Status is what others may know of a Service.
type Status struct {
	// Exit is how it last ended; nil until it has.
	Exit     *Exit
	Restarts uint32
	Health   Health
}

// NewService does not start anything yet.
func NewService(processes *Processes, config boot.Process) *Service {
	return &Service{
		processes: processes, config: config, Logs: logring.New(logBytes), onChange: func(Status) {},
		stopping: make(chan struct{}), over: make(chan struct{}),
	}
}

// OnChange sets who hears of each change. Call it before Start.
func (s *Service) OnChange(f func(Status)) { s.onChange = f }

func (s *Service) update(change func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
	s.onChange(s.status)
}

// Start runs the process, if the image has one, and returns once it was started. A failure is an end like any other: the VM stays
// reachable.
func (s *Service) Start() {
	if len(s.config.Argv) == 0 {
		s.Logs.Close()
		close(s.over)
		return
	}
	s.cgroup = cgroups.Open(cgroups.Service)
	process, exit := s.begin()
	go s.run(process, exit)
}

// run follows the process that was begun, and those that come after it.
func (s *Service) run(process *Process, exit Exit) {
	again := restarts{policy: s.config.Restart}
	for {
		started, kills := time.Now(), cgroups.OOMKills(cgroups.Service)
		if process != nil {
			exit = process.Wait()
			exit.OutOfMemory = (exit.Signal == syscall.SIGKILL || exit.Code == 128+int(syscall.SIGKILL)) && cgroups.OOMKills(cgroups.Service) > kills
		}
		ended := exit // the status is read while the next run goes on
		s.update(func(status *Status) { status.Exit = &ended })
		wait, restart := again.after(exit, time.Since(started))
		if !restart || !s.sleep(wait) {
			break
		}
		s.update(func(status *Status) { status.Restarts++ })
		process, exit = s.begin()
	}
	close(s.over)
	s.pipes.Wait() // a descendant may still write
	s.Logs.Close()
}

// sleep returns false when Stop came.
func (s *Service) sleep(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.stopping:
		return false
	}
}

// begin starts the process, or says how that ended.
func (s *Service) begin() (*Process, Exit) {
	process, spec, err := s.start()
	if err != nil {
		s.Logs.Write(true, []byte("powerunit: "+err.Error()+"\n"))
		code := 126
		var start *StartError
		if errors.As(err, &start) {
			code = start.Code
		}
		return nil, Exit{Code: code}
	}
	s.mu.Lock()
	s.process = process
	s.mu.Unlock()
	if check := s.config.Healthcheck; check != nil && len(check.Test) > 1 && (check.Test[0] == "CMD" || check.Test[0] == "CMD-SHELL") {
		s.update(func(status *Status) { status.Health = Starting })
		go s.watchHealth(process, spec)
	}
	select {
	case <-s.stopping: // Stop may have looked before there was a process
		process.Signal(syscall.SIGKILL)
	default:
	}
	return process, Exit{}
}

func (s *Service) start() (*Process, Spec, error) {
	user, err := users.Load().Resolve(s.config.User)
	if err != nil {
		return nil, Spec{}, err
	}
	dir := s.config.WorkingDir
	if dir == "" {
		dir = "/"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, Spec{}, fmt.Errorf("working directory: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, Spec{}, err
	}
	defer null.Close()
	stdout, err := s.pipe(false)
	if err != nil {
		return nil, Spec{}, err
	}
	defer stdout.Close()
	stderr, err := s.pipe(true)
	if err != nil {
		return nil, Spec{}, err
	}
	defer stderr.Close()
	env := WithDefault(WithDefault(s.config.Env, "PATH", DefaultPath), "HOME", user.Home)
	spec := Spec{Argv: s.config.Argv, Env: env, Dir: dir, User: user, Files: [3]*os.File{null, stdout, stderr}, Cgroup: s.cgroup}
	started := spec
	if IsInit(spec.Argv[0]) && user.UID == 0 { // others may not mount
		if started, err = asInit(spec); err != nil {
			return nil, Spec{}, err
		}
	}
	process, err := s.processes.Start(started)
	return process, spec, err
}

func (s *Service) pipe(isStderr bool) (*os.File, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.pipes.Go(func() {
		defer reader.Close()
		buffer := make([]byte, pipeBytes)
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

// Stop sends the image's stop signal, waits for grace, then kills. It is not started again, and its end is known when Stop returns.
func (s *Service) Stop(grace time.Duration) {
	s.stopOnce.Do(func() { close(s.stopping) })
	s.mu.Lock()
	process := s.process
	s.mu.Unlock()
	if process == nil {
		return
	}
	defer func() { <-s.over }()
	select {
	case <-process.Done():
		return
	default:
	}
	process.SignalAlone(parseSignal(s.config.StopSignal))
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
