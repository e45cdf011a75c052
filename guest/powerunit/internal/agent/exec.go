package agent

import (
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/creack/pty"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/supervise"
	"pitwall.dev/powerunit/internal/users"
)

type execStream = grpc.BidiStreamingServer[pb.ExecRequest, pb.ExecResponse]

// execution is one call of Exec.
type execution struct {
	stream  execStream
	send    sync.Mutex
	stdin   *os.File // our end
	outputs sync.WaitGroup
	process *supervise.Process
	tty     bool
}

// Exec runs a command until it ends or the caller leaves, which hangs it up.
func (g *guestService) Exec(stream execStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil || len(start.Argv) == 0 || start.Argv[0] == "" {
		return status.Error(codes.InvalidArgument, "start.argv: the first message must name a command")
	}
	user, err := users.Load().Resolve(start.User)
	if err != nil {
		return status.Error(codes.InvalidArgument, "start.user: "+err.Error())
	}
	x := &execution{stream: stream, tty: start.Tty}
	if err := x.start(g, start, user); err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	defer x.stdin.Close()
	go x.receive()
	ended := make(chan supervise.Exit, 1)
	go func() {
		x.outputs.Wait()
		ended <- x.process.Wait()
	}()
	select {
	case exit := <-ended:
		return x.reply(&pb.ExecResponse{Message: &pb.ExecResponse_Exit{Exit: wireExit(exit)}})
	case <-stream.Context().Done():
		x.process.Signal(syscall.SIGHUP)
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

func (x *execution) start(g *guestService, start *pb.ExecStart, user users.Identity) error {
	env := append([]string{}, g.env...)
	for name, value := range start.Env {
		env = append(env, name+"="+value)
	}
	env = supervise.WithDefault(supervise.WithDefault(env, "PATH", supervise.DefaultPath), "HOME", user.Home)
	spec := supervise.Spec{Argv: start.Argv, Env: env, Dir: start.WorkingDir, User: user, Terminal: start.Tty}
	if spec.Dir == "" {
		spec.Dir = user.Home
	}
	if info, err := os.Stat(spec.Dir); err != nil || !info.IsDir() {
		spec.Dir = "/"
	}
	if start.Tty {
		master, slave, err := pty.Open()
		if err != nil {
			return err
		}
		defer slave.Close()
		_ = slave.Chown(int(user.UID), 5) // group tty
		x.stdin, spec.Files = master, [3]*os.File{slave, slave, slave}
		x.resize(start.Size)
		x.copyOut(master, false)
	} else if err := x.pipes(&spec); err != nil {
		return err
	} else {
		defer func() {
			for _, file := range spec.Files {
				file.Close()
			}
		}()
	}
	process, err := g.processes.Start(spec)
	if err != nil {
		x.stdin.Close()
		return err
	}
	x.process = process
	return nil
}

func (x *execution) pipes(spec *supervise.Spec) error {
	in, stdin, err := os.Pipe()
	if err != nil {
		return err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	fail, stderr, err := os.Pipe()
	if err != nil {
		return err
	}
	x.stdin, spec.Files = stdin, [3]*os.File{in, stdout, stderr}
	x.copyOut(out, false)
	x.copyOut(fail, true)
	return nil
}

func (x *execution) copyOut(from *os.File, isStderr bool) {
	x.outputs.Go(func() {
		buffer := make([]byte, chunk)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				message := &pb.ExecResponse{Message: &pb.ExecResponse_Stdout{Stdout: buffer[:n]}}
				if isStderr {
					message = &pb.ExecResponse{Message: &pb.ExecResponse_Stderr{Stderr: buffer[:n]}}
				}
				if x.reply(message) != nil {
					break
				}
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

func (x *execution) reply(message *pb.ExecResponse) error {
	x.send.Lock()
	defer x.send.Unlock()
	return x.stream.Send(message)
}

func (x *execution) resize(size *pb.WindowSize) {
	if size != nil && x.tty {
		_ = pty.Setsize(x.stdin, &pty.Winsize{Cols: uint16(min(size.Columns, 65535)), Rows: uint16(min(size.Rows, 65535))})
	}
}

func (x *execution) receive() {
	for {
		request, err := x.stream.Recv()
		if err != nil {
			if err == io.EOF && !x.tty {
				x.stdin.Close()
			}
			return
		}
		switch message := request.Message.(type) {
		case *pb.ExecRequest_Stdin:
			_, _ = x.stdin.Write(message.Stdin)
		case *pb.ExecRequest_Resize:
			x.resize(message.Resize)
		case *pb.ExecRequest_Signal:
			x.process.Signal(syscall.Signal(message.Signal))
		}
	}
}
