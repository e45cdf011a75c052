package agent

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
	"pitwall.dev/powerunit/internal/boot"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/logring"
	"pitwall.dev/powerunit/internal/rpc"
	"pitwall.dev/powerunit/internal/sshfront"
	"pitwall.dev/powerunit/internal/supervise"
)

const (
	defaultGrace  = 10 * time.Second
	lastWordLimit = time.Second
	// clockTolerance is what a clock may be off before it is set: a step does programs more harm.
	clockTolerance = 100 * time.Millisecond
)

// Server has the methods for the node, those for users among them.
type Server struct {
	control *rpc.Server
}

// NewServer is ready for connections.
func NewServer(state *State, service *supervise.Service, processes *supervise.Processes, ssh *sshfront.Front, env []string) *Server {
	guest := &guestService{service: service, processes: processes, env: env, executions: newExecutions()}
	s := &Server{guest.server(nil)}
	control := &controlService{state: state, service: service, ssh: ssh, guest: guest}
	s.control.Handle(pb.GuestControlService_WatchState, rpc.Streaming(control.watchState))
	s.control.Handle(pb.GuestControlService_Shutdown, rpc.Unary(control.shutdown))
	s.control.Handle(pb.GuestControlService_Dial, control.dial)
	s.control.Handle(pb.GuestControlService_SetTime, rpc.Unary(setTime))
	s.control.Handle(pb.GuestControlService_AddEntropy, rpc.Unary(addEntropy))
	return s
}

// Control serves a session of the guest channel to its end.
func (s *Server) Control(conn net.Conn) { s.control.Serve(conn) }

type controlService struct {
	state   *State
	service *supervise.Service
	ssh     *sshfront.Front
	guest   *guestService
}

func (c *controlService) watchState(_ *pb.WatchStateRequest, stream *rpc.Stream) error {
	for {
		current, count, changed := c.state.current()
		if err := stream.Send(current); err != nil {
			return err
		}
		c.state.tell(count)
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (c *controlService) shutdown(request *pb.ShutdownRequest) (*pb.ShutdownResponse, error) {
	grace := defaultGrace
	if request.Grace != nil {
		grace = *request.Grace
	}
	c.state.Stopping()
	go func() {
		c.service.Stop(grace)
		c.state.AwaitTold(lastWordLimit) // how the service ended
		boot.Shutdown()
	}()
	return &pb.ShutdownResponse{}, nil
}

func setTime(request *pb.SetTimeRequest) (*pb.SetTimeResponse, error) {
	if request.Time == nil || request.Time.Unix() <= 0 {
		return nil, rpc.Errorf(rpc.InvalidArgument, "time: is required")
	}
	if time.Until(*request.Time).Abs() < clockTolerance {
		return &pb.SetTimeResponse{}, nil
	}
	now := unix.NsecToTimeval(request.Time.UnixNano())
	if err := unix.Settimeofday(&now); err != nil {
		return nil, rpc.Errorf(rpc.Internal, "set the clock: %v", err)
	}
	return &pb.SetTimeResponse{}, nil
}

type guestService struct {
	service    *supervise.Service
	processes  *supervise.Processes
	env        []string
	executions *executions
	// logins, unless nil, are the users that the caller acts as.
	logins []string
}

// server is a table of the methods for a caller who acts as one of these users alone, or, with nil, as whomever. What acts as root whoever
// asks, the methods about files, is for the latter.
func (g *guestService) server(logins []string) *rpc.Server {
	guest := *g
	guest.logins = logins
	server := rpc.NewServer()
	server.Handle(pb.GuestService_Exec, guest.exec)
	server.Handle(pb.GuestService_StartExec, rpc.Unary(guest.startExec))
	server.Handle(pb.GuestService_AttachExec, guest.attachExec)
	server.Handle(pb.GuestService_ListExecs, rpc.Unary(guest.listExecs))
	server.Handle(pb.GuestService_ReadLogs, rpc.Streaming(guest.readLogs))
	server.Handle(pb.GuestService_GetStats, rpc.Unary(getStats))
	if logins != nil {
		return server
	}
	server.Handle(pb.GuestService_StatFile, rpc.Unary(statFile))
	server.Handle(pb.GuestService_ListFiles, rpc.Streaming(listFiles))
	server.Handle(pb.GuestService_ReadFile, rpc.Streaming(readFile))
	server.Handle(pb.GuestService_WriteFile, writeFile)
	server.Handle(pb.GuestService_WatchFiles, rpc.Streaming(watchFiles))
	return server
}

func (g *guestService) readLogs(request *pb.ReadLogsRequest, stream *rpc.Stream) error {
	var next uint64
	for first := true; ; first = false {
		entries, after, changed, closed := g.service.Logs.Next(next)
		if request.Since != nil {
			entries = logring.Since(entries, *request.Since)
		}
		if first && request.TailLines > 0 {
			entries = logring.Tail(entries, int(request.TailLines))
		}
		for _, entry := range entries {
			if err := stream.Send(wireLog(entry)); err != nil {
				return err
			}
		}
		next = after
		if closed || !request.Follow {
			return nil
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func wireLog(entry logring.Entry) *pb.ReadLogsResponse {
	kind := pb.ReadLogsResponse_STREAM_STDOUT
	if entry.Stderr {
		kind = pb.ReadLogsResponse_STREAM_STDERR
	}
	return &pb.ReadLogsResponse{Stream: kind, Data: entry.Data, Time: &entry.Time}
}
