package agent

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"pitwall.dev/powerunit/internal/boot"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/logring"
	"pitwall.dev/powerunit/internal/sshd"
	"pitwall.dev/powerunit/internal/supervise"
)

const (
	defaultGrace = 10 * time.Second
	window       = 1 << 20
	maxMessage   = 1 << 20
)

// Server holds one gRPC server for the node and one for users.
type Server struct {
	control, guest *listener
}

// NewServer starts serving; connections come later.
func NewServer(state *State, service *supervise.Service, processes *supervise.Processes, ssh *sshd.Server, env []string) *Server {
	options := []grpc.ServerOption{
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(4 * window), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxConcurrentStreams(512),
	}
	s := &Server{control: newListener(), guest: newListener()}
	guest := &guestService{service: service, processes: processes, env: env}
	users := grpc.NewServer(options...)
	pb.RegisterGuestServiceServer(users, guest)
	go func() { _ = users.Serve(s.guest) }()
	node := grpc.NewServer(options...)
	pb.RegisterGuestServiceServer(node, guest)
	pb.RegisterGuestControlServiceServer(node, &controlService{state: state, service: service, ssh: ssh, guest: s.guest})
	go func() { _ = node.Serve(s.control) }()
	return s
}

// Control takes a session of the guest channel.
func (s *Server) Control(conn net.Conn) { s.control.conns <- conn }

// listener hands ready-made connections to a gRPC server.
type listener struct{ conns chan net.Conn }

func newListener() *listener { return &listener{make(chan net.Conn)} }

func (l *listener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (l *listener) Close() error              { return nil }
func (l *listener) Addr() net.Addr            { return streamAddress{} }

type controlService struct {
	pb.UnimplementedGuestControlServiceServer
	state   *State
	service *supervise.Service
	ssh     *sshd.Server
	guest   *listener
}

func (c *controlService) WatchState(_ *pb.WatchStateRequest, stream grpc.ServerStreamingServer[pb.WatchStateResponse]) error {
	for {
		current, changed := c.state.current()
		if err := stream.Send(current); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

func (c *controlService) Shutdown(_ context.Context, request *pb.ShutdownRequest) (*pb.ShutdownResponse, error) {
	grace := defaultGrace
	if request.Grace != nil {
		grace = request.Grace.AsDuration()
	}
	c.state.Stopping()
	go func() {
		c.service.Stop(grace)
		boot.Shutdown()
	}()
	return &pb.ShutdownResponse{}, nil
}

type guestService struct {
	pb.UnimplementedGuestServiceServer
	service   *supervise.Service
	processes *supervise.Processes
	env       []string
}

func (g *guestService) ReadLogs(request *pb.ReadLogsRequest, stream grpc.ServerStreamingServer[pb.ReadLogsResponse]) error {
	var next uint64
	for first := true; ; first = false {
		entries, after, changed, closed := g.service.Logs.Next(next)
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
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

func (g *guestService) GetStats(context.Context, *pb.GetStatsRequest) (*pb.GetStatsResponse, error) {
	stats, err := readStats()
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return stats, nil
}
