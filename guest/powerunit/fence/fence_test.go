package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// jailVariable has this program change its root to a folder and wait there, as a jailed VMM does.
const jailVariable = "FENCE_TEST_JAIL"

func TestMain(m *testing.M) {
	if jail := os.Getenv(jailVariable); jail != "" {
		if err := errors.Join(syscall.Chroot(jail), syscall.Chdir("/")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("jailed")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

func TestKillsWhatIsJailedInTheFolder(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root changes a process's root")
	}
	dir := t.TempDir()
	jail := filepath.Join(dir, "firecracker", "vm-1", "root")
	if err := os.MkdirAll(jail, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), jailVariable+"="+jail)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &sleeper{cmd: cmd, exited: make(chan struct{})}
	line, _ := bufio.NewReader(output).ReadString('\n')
	go func() { cmd.Wait(); close(s.exited) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-s.exited })
	if line != "jailed\n" {
		t.Fatalf("it is not jailed: %s", line)
	}
	other := startSleeper(t, "vm-2")
	g, _ := newTestGuard(t)
	g.renew(bootMs())
	g.add(target{Vm: "vm-1", Epoch: "1", Dir: dir})
	if !s.ends(late) {
		t.Fatal("a jailed VMM that nobody has told of runs on after the deadline")
	}
	if other.ends(100 * time.Millisecond) {
		t.Fatal("another VM's process was killed")
	}
}

type sleeper struct {
	cmd    *exec.Cmd
	exited chan struct{}
	target target
}

func startSleeper(t *testing.T, vm string) *sleeper {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &sleeper{cmd: cmd, exited: make(chan struct{})}
	go func() { cmd.Wait(); close(s.exited) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-s.exited })
	ticks, alive := startTicks(cmd.Process.Pid)
	if !alive {
		t.Fatal("the process is not there")
	}
	s.target = target{Vm: vm, Epoch: "1", Dir: cmd.Dir, Pid: cmd.Process.Pid, StartTicks: strconv.FormatUint(ticks, 10)}
	return s
}

func (s *sleeper) ends(limit time.Duration) bool {
	select {
	case <-s.exited:
		return true
	case <-time.After(limit):
		return false
	}
}

func newTestGuard(t *testing.T) (*guard, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fence.log")
	record, err := openRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard(record)
	go g.watch()
	return g, path
}

const (
	soon = 300
	late = 5 * time.Second
)

func TestKillsAtTheDeadlineAndRecordsIt(t *testing.T) {
	g, path := newTestGuard(t)
	s := startSleeper(t, "vm-1")
	deadline := bootMs() + soon
	g.renew(deadline)
	g.add(s.target)
	if !s.ends(late) {
		t.Fatal("it runs on after the deadline")
	}
	if now := bootMs(); now < deadline {
		t.Fatalf("it was killed %d ms before the deadline", deadline-now)
	}
	var line struct {
		Event, Vm string
		Pid       int
		Gone      bool
	}
	var text []byte
	for end := time.Now().Add(late); len(text) == 0 && time.Now().Before(end); text, _ = os.ReadFile(path) {
	}
	if err := json.Unmarshal(text, &line); err != nil || line.Event != "killed" || line.Vm != "vm-1" || line.Pid != s.target.Pid || !line.Gone {
		t.Fatalf("the record says %q (%v)", text, err)
	}
}

func TestALaterDeadlineKeepsItAlive(t *testing.T) {
	g, _ := newTestGuard(t)
	s := startSleeper(t, "vm")
	g.renew(bootMs() + soon)
	g.add(s.target)
	g.renew(bootMs() + 60_000)
	if s.ends(3 * soon * time.Millisecond) {
		t.Fatal("it was killed although the deadline had moved")
	}
}

func TestWhatIsReleasedIsLeftAlone(t *testing.T) {
	g, _ := newTestGuard(t)
	kept, released := startSleeper(t, "kept"), startSleeper(t, "released")
	g.renew(bootMs() + soon)
	g.add(kept.target)
	g.add(released.target)
	g.remove("released")
	if !kept.ends(late) {
		t.Fatal("what is guarded runs on")
	}
	if released.ends(soon * time.Millisecond) {
		t.Fatal("what was released was killed")
	}
}

func TestAPidWithAnotherStartTimeIsAnotherProcess(t *testing.T) {
	g, _ := newTestGuard(t)
	s := startSleeper(t, "vm")
	other := s.target
	other.Dir = t.TempDir()
	other.StartTicks = "1"
	g.renew(bootMs() - 1)
	g.add(other)
	if s.ends(3 * soon * time.Millisecond) {
		t.Fatal("it was killed by its pid alone")
	}
}

func TestKillsWhatIsStartedTooLate(t *testing.T) {
	g, _ := newTestGuard(t)
	dir := t.TempDir()
	g.renew(bootMs() - 1)
	g.add(target{Vm: "vm", Epoch: "1", Dir: dir})
	cmd := exec.Command("sleep", "60")
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { cmd.Wait(); close(exited) }()
	select {
	case <-exited:
	case <-time.After(late):
		cmd.Process.Kill()
		t.Fatal("what was started after the deadline runs on")
	}
}

func TestSpeaksLinesOfJson(t *testing.T) {
	g, _ := newTestGuard(t)
	ours, theirs := net.Pipe()
	go talk(theirs, g)
	lines := bufio.NewScanner(ours)
	ask := func(text string) (r reply) {
		fmt.Fprintln(ours, text)
		if !lines.Scan() {
			t.Fatalf("%s was not answered", text)
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := ask(`{"id":1,"op":"hello"}`); r.Id != 1 || r.Protocol != protocol || r.DeadlineMs != 0 || r.Error != "" {
		t.Fatalf("hello: %+v", r)
	}
	if r := ask(`{"id":2,"op":"renew","deadline_ms":99999999999}`); r.DeadlineMs != 99999999999 {
		t.Fatalf("renew: %+v", r)
	}
	for _, wrong := range []string{`{"op":"guard"}`, `{"op":"renew"}`, `{"op":"explode"}`, `{`} {
		if r := ask(wrong); !strings.Contains(r.Error, "unknown or incomplete") && r.Error != "not a line of JSON" {
			t.Fatalf("%s: %+v", wrong, r)
		}
	}
}
