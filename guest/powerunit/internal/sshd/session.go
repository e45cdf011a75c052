package sshd

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
	"pitwall.dev/powerunit/internal/supervise"
)

// session is one session channel (RFC 4254, section 6): requests set it up, one of shell, exec and subsystem starts its process.
type session struct {
	*connection
	channel  ssh.Channel
	env      []string
	terminal string
	master   *os.File
	slave    *os.File
	process  *supervise.Process
	failure  *failure // nothing could be started
	// drained waits until both output pipes are empty; nil with a terminal.
	drained func()
}

// failure is what the client is told in place of a process that could not be started, as a shell would tell it.
type failure struct {
	message string
	code    int
}

func (c *connection) serveSession(incoming ssh.NewChannel) {
	channel, requests, err := incoming.Accept()
	if err != nil {
		return
	}
	x := &session{connection: c, channel: channel}
	for request := range requests {
		ok := x.handle(request)
		if request.WantReply {
			_ = request.Reply(ok, nil)
		}
		if ok && x.process != nil && isStart(request.Type) {
			go x.finish()
		}
		if ok && x.failure != nil && isStart(request.Type) {
			_, _ = io.WriteString(channel.Stderr(), x.failure.message+"\r\n")
			x.end(supervise.Exit{Code: x.failure.code})
		}
	}
	// The client is gone or has closed the channel: what it started hangs up.
	if x.process != nil {
		x.process.Signal(syscall.SIGHUP)
	} else {
		x.closeTerminal()
		channel.Close()
	}
}

func (x *session) isFree() bool { return x.process == nil && x.failure == nil }

func isStart(kind string) bool { return kind == "shell" || kind == "exec" || kind == "subsystem" }

func (x *session) handle(request *ssh.Request) bool {
	switch request.Type {
	case "env":
		var m struct{ Name, Value string }
		if ssh.Unmarshal(request.Payload, &m) != nil || len(x.env) >= 64 || strings.ContainsAny(m.Name, "=\x00") || strings.Contains(m.Value, "\x00") {
			return false
		}
		x.env = append(x.env, m.Name+"="+m.Value)
		return true
	case "pty-req":
		var m struct {
			Term                         string
			Columns, Rows, Width, Height uint32
			Modes                        string
		}
		if ssh.Unmarshal(request.Payload, &m) != nil || x.master != nil || x.rights.noPty {
			return false
		}
		return x.openTerminal(m.Term, m.Columns, m.Rows)
	case "window-change":
		var m struct{ Columns, Rows, Width, Height uint32 }
		return ssh.Unmarshal(request.Payload, &m) == nil && x.master != nil && resize(x.master, m.Columns, m.Rows) == nil
	case "signal":
		var m struct{ Name string }
		if ssh.Unmarshal(request.Payload, &m) != nil || x.process == nil {
			return false
		}
		number := unix.SignalNum("SIG" + m.Name)
		if number != 0 {
			x.process.Signal(number)
		}
		return number != 0
	case "shell":
		return x.isFree() && x.run("")
	case "exec":
		var m struct{ Command string }
		return ssh.Unmarshal(request.Payload, &m) == nil && x.isFree() && x.run(m.Command)
	case "subsystem":
		var m struct{ Name string }
		if ssh.Unmarshal(request.Payload, &m) != nil || m.Name != "sftp" || !x.isFree() {
			return false
		}
		return x.helper(SftpName)
	default:
		return false
	}
}

func (x *session) openTerminal(term string, columns, rows uint32) bool {
	master, slave, err := pty.Open()
	if err != nil {
		return false
	}
	_ = slave.Chown(int(x.user.UID), 5) // group tty
	_ = resize(master, columns, rows)
	x.master, x.slave, x.terminal = master, slave, term
	return true
}

func resize(terminal *os.File, columns, rows uint32) error {
	return pty.Setsize(terminal, &pty.Winsize{Cols: uint16(min(columns, 65535)), Rows: uint16(min(rows, 65535))})
}

func (x *session) closeTerminal() {
	if x.master != nil {
		x.master.Close()
		x.slave.Close()
	}
}

func (x *session) environment(shell string) []string {
	env := append([]string{}, x.server.env...)
	env = supervise.WithDefault(env, "PATH", supervise.DefaultPath)
	env = append(env, "HOME="+x.user.Home, "USER="+x.user.Name, "LOGNAME="+x.user.Name, "SHELL="+shell)
	if x.terminal != "" {
		env = append(env, "TERM="+x.terminal)
	}
	return supervise.LastOfEach(append(env, x.env...))
}

// run starts what was asked for; empty: a login shell.
func (x *session) run(command string) bool {
	shell := x.user.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	_, err := os.Stat(shell)
	words := splitWords(command)
	switch {
	case err != nil && len(words) == 0:
		return x.fail(&failure{"this image has no shell (" + shell + "); name a program to run", notFound})
	case isScp(command) && x.lacks("scp"):
		return x.helper(ScpName, scpArguments(command)...)
	case err != nil:
		return x.start(supervise.Spec{Argv: words, Env: x.environment("")})
	case command == "":
		return x.start(supervise.Spec{Path: shell, Argv: []string{"-" + filepath.Base(shell)}, Env: x.environment(shell)})
	}
	return x.start(supervise.Spec{Path: shell, Argv: []string{filepath.Base(shell), "-c", command}, Env: x.environment(shell)})
}

func (x *session) lacks(program string) bool {
	_, err := supervise.LookPath(program, x.environment(""), "/")
	return err != nil
}

// helper runs this very program under another name, as the user.
func (x *session) helper(name string, arguments ...string) bool {
	return x.start(supervise.Spec{Path: "/proc/self/exe", Argv: append([]string{name}, arguments...), Env: x.environment("")})
}

// fail grants the request all the same: a client that is refused shows a message of its own, and not why.
func (x *session) fail(why *failure) bool {
	x.failure = why
	return true
}

// notFound is what shells end with when there is no such program.
const notFound = 127

func failureOf(err error) *failure {
	code := notFound - 1
	var start *supervise.StartError
	if errors.As(err, &start) {
		code = start.Code
	}
	return &failure{err.Error(), code}
}

func (x *session) start(spec supervise.Spec) bool {
	spec.User, spec.Dir, spec.Cgroup = x.user, x.user.Home, x.server.cgroup
	if len(spec.Argv) == 0 {
		return false
	}
	if info, err := os.Stat(spec.Dir); err != nil || !info.IsDir() {
		spec.Dir = "/"
	}
	if x.master != nil {
		return x.startOnTerminal(spec)
	}
	return x.startOnPipes(spec)
}

func (x *session) startOnTerminal(spec supervise.Spec) bool {
	spec.Files, spec.Terminal = [3]*os.File{x.slave, x.slave, x.slave}, true
	process, err := x.server.processes.Start(spec)
	x.slave.Close()
	if err != nil {
		x.master.Close()
		return x.fail(failureOf(err))
	}
	x.process = process
	go func() { _, _ = io.Copy(x.master, x.channel) }()
	return true
}

func (x *session) startOnPipes(spec supervise.Spec) bool {
	var ours, theirs [3]*os.File
	for i := range theirs {
		reader, writer, err := os.Pipe()
		if err != nil {
			return x.fail(failureOf(err))
		}
		ours[i], theirs[i] = reader, writer
	}
	ours[0], theirs[0] = theirs[0], ours[0] // stdin flows the other way
	spec.Files = theirs
	process, err := x.server.processes.Start(spec)
	for _, file := range theirs {
		file.Close()
	}
	if err != nil {
		for _, file := range ours {
			file.Close()
		}
		return x.fail(failureOf(err))
	}
	x.process = process
	go func() {
		_, _ = io.Copy(ours[0], x.channel)
		ours[0].Close()
	}()
	x.outputs(ours[1], ours[2])
	return true
}

// outputs copies both streams and makes finish wait for them.
func (x *session) outputs(stdout, stderr *os.File) {
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(x.channel, stdout); stdout.Close() })
	copies.Go(func() { _, _ = io.Copy(x.channel.Stderr(), stderr); stderr.Close() })
	x.drained = copies.Wait
}

// finish sends what is left of the output, then how the process ended.
func (x *session) finish() {
	if x.master != nil {
		_, _ = io.Copy(x.channel, x.master) // ends with EIO when the last holder of the terminal has gone
		x.master.Close()
	} else {
		x.drained()
	}
	x.end(x.process.Wait())
}

// end tells how it ended and closes the channel.
func (x *session) end(exit supervise.Exit) {
	// Before the end of the output: a client that has ended its own side closes the channel at that, and hears no more.
	if exit.Signal != 0 {
		name := strings.TrimPrefix(unix.SignalName(exit.Signal), "SIG")
		_, _ = x.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name    string
			Core    bool
			Message string
			Lang    string
		}{name, false, "", ""}))
	} else {
		_, _ = x.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{uint32(exit.Code)}))
	}
	_ = x.channel.CloseWrite()
	x.channel.Close()
}
