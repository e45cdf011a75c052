package agent

import (
	"io"
	"syscall"

	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/rpc"
	"pitwall.dev/powerunit/internal/supervise"
)

// exec runs a command until it ends or the caller leaves, which hangs it up.
func (g *guestService) exec(stream *rpc.Stream) error {
	var first pb.ExecRequest
	if err := stream.Recv(&first); err != nil {
		return err
	}
	x, err := g.begin(first.Start, func(isStderr bool, data []byte) error {
		if isStderr {
			return stream.Send(&pb.ExecResponse{Stderr: data})
		}
		return stream.Send(&pb.ExecResponse{Stdout: data})
	})
	if err != nil {
		return err
	}
	go func() {
		for {
			var request pb.ExecRequest
			if err := stream.Recv(&request); err != nil {
				if err == io.EOF && !x.tty {
					x.endInput()
				}
				return
			}
			if request.Stdin != nil {
				x.input(request.Stdin)
			}
			x.resize(request.Resize)
			x.signal(request.Signal)
		}
	}()
	ended := make(chan supervise.Exit, 1)
	go func() { ended <- x.wait() }()
	select {
	case exit := <-ended:
		return stream.Send(&pb.ExecResponse{Exit: wireExit(&exit)})
	case <-stream.Context().Done():
		x.process.Signal(syscall.SIGHUP)
		return nil
	}
}
