package agent

import (
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"pitwall.dev/powerunit/internal/cgroups"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/rpc"
	"pitwall.dev/powerunit/internal/supervise"
	"pitwall.dev/powerunit/internal/users"
)

// execution is a command that somebody has asked for.
type execution struct {
	process *supervise.Process
	tty     bool
	// login is the name of the user that it was started as; empty for a bare number.
	login   string
	output  func(isStderr bool, data []byte) error
	outputs sync.WaitGroup

	mu    sync.Mutex
	stdin *os.File // our end; with a terminal its master
}

// begin starts a command. output gets what it writes, one call at a time for each of its streams; an error stops that stream.
func (g *guestService) begin(start *pb.ExecStart, output func(isStderr bool, data []byte) error) (*execution, error) {
	if start == nil || len(start.Argv) == 0 || start.Argv[0] == "" {
		return nil, rpc.Errorf(rpc.InvalidArgument, "start.argv: must name a command")
	}
	user, err := g.who(start.User)
	if err != nil {
		return nil, err
	}
	x := &execution{tty: start.Tty, login: loginOf(start.User, user.Name), output: output}
	if err := x.start(g, start, user); err != nil {
		return nil, rpc.Errorf(rpc.FailedPrecondition, "%v", err)
	}
	return x, nil
}

// loginOf is whose command it is to those who may be some users alone: one that was given a group of its own is nobody's of them.
func loginOf(asked, name string) string {
	if strings.Contains(asked, ":") {
		return ""
	}
	return name
}

// who is the user that a command is run as: root, or the first whom the caller may be, unless one is named. Who may be some users alone names
// one of them as it is, without a group, which may be any.
func (g *guestService) who(name string) (users.Identity, error) {
	if g.logins == nil {
		user, err := users.Load().Resolve(name)
		if err != nil {
			return user, rpc.Errorf(rpc.InvalidArgument, "start.user: %v", err)
		}
		return user, nil
	}
	if name == "" && len(g.logins) > 0 {
		name = g.logins[0]
	}
	if !g.mayBe(name) {
		return users.Identity{}, rpc.Errorf(rpc.PermissionDenied, "start.user: your role lets you act as %s, not as %q", strings.Join(g.logins, ", "), name)
	}
	user, known := users.Load().Login(name)
	if !known {
		return user, rpc.Errorf(rpc.InvalidArgument, "start.user: the image has no user %q", name)
	}
	return user, nil
}

func (g *guestService) mayBe(login string) bool {
	return g.logins == nil || slices.Contains(g.logins, login)
}

// wait returns once the process has ended and all of its output was given away.
func (x *execution) wait() supervise.Exit {
	x.outputs.Wait()
	exit := x.process.Wait()
	x.endInput()
	return exit
}

func (x *execution) start(g *guestService, start *pb.ExecStart, user users.Identity) error {
	env := append([]string{}, g.env...)
	for name, value := range start.Env {
		env = append(env, name+"="+value)
	}
	env = supervise.WithDefault(supervise.WithDefault(supervise.LastOfEach(env), "PATH", supervise.DefaultPath), "HOME", user.Home)
	spec := supervise.Spec{Argv: start.Argv, Env: env, Dir: start.WorkingDir, User: user, Terminal: start.Tty}
	if spec.Dir == "" {
		spec.Dir = user.Home
	}
	if info, err := os.Stat(spec.Dir); err != nil || !info.IsDir() {
		spec.Dir = "/"
	}
	if spec.Cgroup = cgroups.Open(cgroups.Sessions); spec.Cgroup != nil {
		defer spec.Cgroup.Close()
	}
	var ours []*os.File
	if start.Tty {
		master, slave, err := pty.Open()
		if err != nil {
			return err
		}
		_ = slave.Chown(int(user.UID), 5) // group tty
		x.stdin, ours, spec.Files = master, []*os.File{master}, [3]*os.File{slave, slave, slave}
		x.resize(start.Size)
	} else {
		var err error
		if ours, spec.Files, err = pipes(); err != nil {
			return err
		}
		x.stdin, ours = ours[0], ours[1:]
	}
	process, err := g.processes.Start(spec)
	for _, file := range spec.Files {
		file.Close()
	}
	if err != nil {
		x.stdin.Close()
		for _, file := range ours {
			file.Close()
		}
		return err
	}
	x.process = process
	for i, file := range ours {
		x.copyOut(file, i == 1)
	}
	return nil
}

// pipes are stdin, stdout and stderr: our ends and the command's.
func pipes() (ours []*os.File, theirs [3]*os.File, err error) {
	for i := range theirs {
		reader, writer, err := os.Pipe()
		if err != nil {
			for j := range i {
				ours[j].Close()
				theirs[j].Close()
			}
			return nil, theirs, err
		}
		if i == 0 {
			reader, writer = writer, reader // flows the other way
		}
		ours, theirs[i] = append(ours, reader), writer
	}
	return ours, theirs, nil
}

func (x *execution) copyOut(from *os.File, isStderr bool) {
	x.outputs.Go(func() {
		buffer := make([]byte, chunk)
		for {
			n, err := from.Read(buffer)
			if n > 0 && x.output(isStderr, buffer[:n]) != nil {
				break
			}
			if err != nil {
				break
			}
		}
		if !x.tty {
			from.Close()
		}
	})
}

func (x *execution) input(data []byte) {
	x.mu.Lock()
	stdin := x.stdin
	x.mu.Unlock()
	if stdin != nil {
		_, _ = stdin.Write(data)
	}
}

// endInput closes standard input; a terminal closes with its process.
func (x *execution) endInput() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stdin != nil {
		x.stdin.Close()
		x.stdin = nil
	}
}

func (x *execution) resize(size *pb.WindowSize) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if size != nil && x.tty && x.stdin != nil {
		_ = pty.Setsize(x.stdin, &pty.Winsize{Cols: uint16(min(size.Columns, 65535)), Rows: uint16(min(size.Rows, 65535))})
	}
}

func (x *execution) signal(number *int32) {
	if number != nil && *number > 0 && *number < 65 {
		x.process.Signal(syscall.Signal(*number))
	}
}
