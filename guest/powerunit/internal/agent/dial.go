package agent

import (
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
)

const (
	dialTimeout = 5 * time.Second
	chunk       = 32 << 10
)

type dialStream = grpc.BidiStreamingServer[pb.DialRequest, pb.DialResponse]

// Dial connects the stream to a target in the VM; see the proto.
func (c *controlService) Dial(stream dialStream) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	switch target := first.GetTarget().GetTarget().(type) {
	case *pb.TunnelTarget_Tcp:
		return dialTCP(stream, target.Tcp.Port)
	case *pb.TunnelTarget_Ssh:
		if err := accept(stream); err != nil {
			return err
		}
		c.ssh.Serve(newStreamConn(stream), target.Ssh.SessionKey)
		return nil
	case *pb.TunnelTarget_GuestApi:
		if err := accept(stream); err != nil {
			return err
		}
		conn := newStreamConn(stream)
		c.guest.conns <- conn
		<-conn.closed
		return nil
	default:
		return status.Error(codes.InvalidArgument, "target: the first message must name one")
	}
}

func accept(stream dialStream) error {
	return stream.Send(&pb.DialResponse{Message: &pb.DialResponse_Accepted{Accepted: &pb.DialAccepted{}}})
}

// dialTCP tries both loopbacks and then the VM's own addresses: an image's server may listen on any of them.
func dialTCP(stream dialStream, port uint32) error {
	if port == 0 || port > 65535 {
		return status.Errorf(codes.InvalidArgument, "target.tcp.port: expected 1 to 65535, got %d", port)
	}
	conn, err := connect(strconv.Itoa(int(port)))
	if err != nil {
		return status.Errorf(codes.NotFound, "nothing listens on port %d in the VM", port)
	}
	defer conn.Close()
	if err := accept(stream); err != nil {
		return err
	}
	var up sync.WaitGroup
	up.Go(func() {
		for {
			message, err := stream.Recv()
			if err == io.EOF {
				_ = conn.CloseWrite()
				return
			}
			if err == nil {
				_, err = conn.Write(message.GetData())
			}
			if err != nil {
				conn.Close() // ends the other direction too
				return
			}
		}
	})
	buffer := make([]byte, chunk)
	for {
		n, err := conn.Read(buffer)
		if n > 0 {
			if err := sendData(stream, buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			// gRPC servers cannot half-close before they return; an empty chunk tells the node.
			if err := sendData(stream, nil); err != nil {
				return err
			}
			up.Wait()
			return nil
		}
		if err != nil {
			return status.Error(codes.Aborted, err.Error())
		}
	}
}

func connect(port string) (*net.TCPConn, error) {
	hosts := []string{"127.0.0.1", "::1"}
	if addresses, err := net.InterfaceAddrs(); err == nil {
		for _, address := range addresses {
			if prefix, ok := address.(*net.IPNet); ok && !prefix.IP.IsLoopback() && !prefix.IP.IsLinkLocalUnicast() {
				hosts = append(hosts, prefix.IP.String())
			}
		}
	}
	for _, host := range hosts {
		if conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), dialTimeout); err == nil {
			return conn.(*net.TCPConn), nil // Dial("tcp") returns nothing else
		}
	}
	return nil, syscall.ECONNREFUSED
}

func sendData(stream dialStream, data []byte) error {
	return stream.Send(&pb.DialResponse{Message: &pb.DialResponse_Data{Data: data}})
}

// streamConn is a Dial stream as a net.Conn, for servers that live in powerunit itself. Deadlines do nothing: the stream's own
// context ends it.
type streamConn struct {
	stream dialStream
	rest   []byte
	send   sync.Mutex
	once   sync.Once
	closed chan struct{}
}

func newStreamConn(stream dialStream) *streamConn {
	c := &streamConn{stream: stream, closed: make(chan struct{})}
	go func() {
		select {
		case <-stream.Context().Done():
			c.Close()
		case <-c.closed:
		}
	}()
	return c
}

func (c *streamConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		message, err := c.stream.Recv()
		if err != nil {
			return 0, err
		}
		c.rest = message.GetData()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *streamConn) Write(p []byte) (int, error) {
	c.send.Lock()
	defer c.send.Unlock()
	for sent := 0; sent < len(p); {
		select {
		case <-c.closed: // the handler may have returned: the stream must not be used any more
			return sent, net.ErrClosed
		default:
		}
		n := min(chunk, len(p)-sent)
		if err := sendData(c.stream, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}

func (c *streamConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

type streamAddress struct{}

func (streamAddress) Network() string { return "guest-channel" }
func (streamAddress) String() string  { return "guest-channel" }

func (*streamConn) LocalAddr() net.Addr              { return streamAddress{} }
func (*streamConn) RemoteAddr() net.Addr             { return streamAddress{} }
func (*streamConn) SetDeadline(time.Time) error      { return nil }
func (*streamConn) SetReadDeadline(time.Time) error  { return nil }
func (*streamConn) SetWriteDeadline(time.Time) error { return nil }
