package supervise

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/users"
)

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT, "quit": syscall.SIGQUIT, "9": syscall.SIGKILL, "SIGRTMIN+3": 37, "nonsense": syscall.SIGTERM, "99": syscall.SIGTERM,
	} {
		if got := parseSignal(text); got != want {
			t.Errorf("parseSignal(%q) = %v; want %v", text, got, want)
		}
	}
}

func TestLookPathUsesTheGivenPath(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/tool", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/data", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"PATH=/nowhere:" + dir}
	if got, err := LookPath("tool", env, "/"); err != nil || got != dir+"/tool" {
		t.Errorf("LookPath = %q, %v", got, err)
	}
	if _, err := LookPath("data", env, "/"); err == nil {
		t.Error("found a file that cannot be run")
	}
	if got, _ := LookPath("./x", env, "/"); got != "./x" {
		t.Errorf("a name with a slash became %q", got)
	}
}

// reaper is one for all tests: two would take each other's children.
var reaper = sync.OnceValue(NewProcesses)

func TestEndsReachTheirStarter(t *testing.T) {
	processes := reaper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	self := users.Identity{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if self.UID != 0 {
		t.Skip("setting groups needs root")
	}
	for script, want := range map[string]Exit{"exit 7": {Code: 7}, "kill -9 $$": {Signal: syscall.SIGKILL}, "true": {}} {
		p, err := processes.Start(Spec{Argv: []string{"sh", "-c", script}, Dir: "/", User: self, Files: [3]*os.File{null, null, null}})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Wait(); got != want {
			t.Errorf("%s: %+v; want %+v", script, got, want)
		}
	}
	_, err = processes.Start(Spec{Argv: []string{"/no/such"}, Dir: "/", User: self, Files: [3]*os.File{null, null, null}})
	if start, ok := err.(*StartError); !ok || start.Code != 127 {
		t.Errorf("missing program: %v", err)
	}
}

func TestASignalForOneThatHasEndedReachesNobody(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("setting groups needs root")
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	start := func(script string) *Process {
		p, err := reaper().Start(Spec{Argv: []string{"sh", "-c", script}, Dir: "/", Files: [3]*os.File{null, null, null}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ended, other := start("true"), start("exec sleep 60")
	ended.Wait()
	ended.PID = other.PID // as if the kernel had given it again
	ended.Signal(syscall.SIGKILL)
	ended.SignalAlone(syscall.SIGKILL)
	other.Signal(syscall.SIGTERM) // a SIGKILL would have come first
	if got := other.Wait(); got.Signal != syscall.SIGTERM {
		t.Errorf("the other ended with %+v", got)
	}
}

func TestIsInit(t *testing.T) {
	for program, want := range map[string]bool{
		"/sbin/init": true, "/init": true, "/lib/systemd/systemd": true, "init": false, "/usr/bin/tini": false, "/bin/init.sh": false, "": false,
	} {
		if got := IsInit(program); got != want {
			t.Errorf("IsInit(%q) = %v", program, got)
		}
	}
}

func TestAnInitIsProcessOneOfItsOwn(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("namespaces need root")
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	spec := Spec{Argv: []string{"sh", "-c", "test $$ = 1"}, Dir: "/", Files: [3]*os.File{null, null, null}, Namespaces: syscall.CLONE_NEWPID}
	p, err := reaper().Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Wait(); got != (Exit{}) {
		t.Errorf("%+v", got)
	}
}

func TestHowARunEndedIsToldWhileTheNextOneRuns(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("setting groups needs root")
	}
	marker := t.TempDir() + "/again"
	script := "test -e " + marker + " && exec sleep 60; : >" + marker + "; exit 3"
	service := NewService(reaper(), boot.Process{Argv: []string{"sh", "-c", script}, Restart: "on-failure"})
	restarted := make(chan Status, 1)
	service.OnChange(func(status Status) {
		if status.Restarts == 1 {
			restarted <- status
		}
	})
	service.Start()
	defer service.Stop(time.Second)
	told := <-restarted
	for running := false; !running; {
		service.mu.Lock()
		running = service.process != nil && service.process.PID != 0 && !isDone(service.process)
		service.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	if told.Exit == nil || told.Exit.Code != 3 {
		t.Errorf("the run before ended with %+v", told.Exit)
	}
}

func isDone(p *Process) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
