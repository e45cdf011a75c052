package agent

import (
	"slices"
	"strconv"
	"sync"
	"time"

	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/logring"
	"pitwall.dev/powerunit/internal/rpc"
	"pitwall.dev/powerunit/internal/supervise"
)

const (
	scrollbackBytes = 256 << 10
	maxRunning      = 64
	maxEnded        = 64
)

// executions are the commands of StartExec: those that run, and the latest that have ended.
type executions struct {
	mu    sync.Mutex
	count uint64
	byID  map[string]*background
	ended []string // oldest first
}

type background struct {
	*execution
	id      string
	argv    []string
	started time.Time
	output  *logring.Ring // closed once exit is known
	exit    *supervise.Exit
}

func newExecutions() *executions { return &executions{byID: map[string]*background{}} }

func (g *guestService) startExec(request *pb.StartExecRequest) (*pb.StartExecResponse, error) {
	all := g.executions
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.byID)-len(all.ended) >= maxRunning {
		return nil, rpc.Errorf(rpc.ResourceExhausted, "%d commands run in the background already", maxRunning)
	}
	ring := logring.New(scrollbackBytes)
	x, err := g.begin(request.Start, func(isStderr bool, data []byte) error {
		ring.Write(isStderr, data)
		return nil
	})
	if err != nil {
		return nil, err
	}
	all.count++
	b := &background{execution: x, id: strconv.FormatUint(all.count, 10), argv: request.Start.Argv, started: time.Now(), output: ring}
	all.byID[b.id] = b
	go func() {
		exit := x.wait()
		all.mu.Lock()
		b.exit = &exit
		if all.ended = append(all.ended, b.id); len(all.ended) > maxEnded {
			delete(all.byID, all.ended[0])
			all.ended = slices.Delete(all.ended, 0, 1)
		}
		all.mu.Unlock()
		ring.Close()
	}()
	return &pb.StartExecResponse{ExecId: b.id}, nil
}

func (g *guestService) listExecs(*pb.ListExecsRequest) (*pb.ListExecsResponse, error) {
	all := g.executions
	all.mu.Lock()
	defer all.mu.Unlock()
	response := &pb.ListExecsResponse{}
	for _, b := range all.byID {
		if !g.mayBe(b.login) {
			continue
		}
		response.Execs = append(response.Execs, &pb.ExecInfo{ExecId: b.id, Argv: b.argv, StartTime: &b.started, Exit: wireExit(b.exit)})
	}
	slices.SortFunc(response.Execs, func(a, b *pb.ExecInfo) int { return a.StartTime.Compare(*b.StartTime) })
	return response, nil
}

func (g *guestService) attachExec(stream *rpc.Stream) error {
	var first pb.AttachExecRequest
	if err := stream.Recv(&first); err != nil {
		return err
	}
	if first.ExecId == nil {
		return rpc.Errorf(rpc.InvalidArgument, "exec_id: the first message must name a command")
	}
	g.executions.mu.Lock()
	b := g.executions.byID[*first.ExecId]
	g.executions.mu.Unlock()
	if b == nil || !g.mayBe(b.login) {
		return rpc.Errorf(rpc.NotFound, "no command %q", *first.ExecId)
	}
	go b.receive(stream)
	var next uint64
	for {
		entries, after, changed, closed := b.output.Next(next)
		for _, entry := range entries {
			message := &pb.AttachExecResponse{Stdout: entry.Data}
			if entry.Stderr {
				message = &pb.AttachExecResponse{Stderr: entry.Data}
			}
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		if next = after; closed {
			g.executions.mu.Lock()
			exit := b.exit
			g.executions.mu.Unlock()
			return stream.Send(&pb.AttachExecResponse{Exit: wireExit(exit)})
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (b *background) receive(stream *rpc.Stream) {
	for {
		var request pb.AttachExecRequest
		if stream.Recv(&request) != nil {
			return // gone, or it only listens from now on
		}
		if request.Stdin != nil {
			b.input(request.Stdin)
		}
		if request.StdinEnd != nil && *request.StdinEnd && !b.tty {
			b.endInput()
		}
		b.resize(request.Resize)
		b.signal(request.Signal)
	}
}
