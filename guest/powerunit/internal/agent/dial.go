package agent

import (
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/rpc"
	"pitwall.dev/powerunit/internal/sshfront"
)

const (
	dialTimeout = 5 * time.Second
	chunk       = 32 << 10
)

// dial connects the stream to a target in the VM; see the proto.
func (c *controlService) dial(stream *rpc.Stream) error {
	var first pb.DialRequest
	if err := stream.Recv(&first); err != nil {
		return err
	}
	switch target := first.Target; {
	case target != nil && target.Tcp != nil:
		return dialTCP(stream, target.Tcp.Port)
	case target != nil && target.Ssh != nil:
		return c.dialSSH(stream, sshfront.Admission{
			SessionKey: target.Ssh.SessionKey, Kept: kept(target.Ssh.KeptKeys), HostCertificate: target.Ssh.HostCertificate,
		})
	case target != nil && target.LimitedSsh != nil:
		logins := append([]string{}, target.LimitedSsh.Logins...) // not nil: that is for whomever
		return c.dialSSH(stream, sshfront.Admission{
			SessionKey: target.LimitedSsh.SessionKey, Logins: logins,
			Kept: kept(target.LimitedSsh.KeptKeys), HostCertificate: target.LimitedSsh.HostCertificate,
		})
	case target != nil && target.GuestApi != nil:
		return serve(stream, c.guest.server(nil))
	case target != nil && target.LimitedGuestApi != nil:
		if fingerprints := kept(target.LimitedGuestApi.KeptKeys); fingerprints != nil {
			if err := c.ssh.Keep(fingerprints); err != nil {
				return rpc.Errorf(rpc.FailedPrecondition, "the VM's SSH server cannot be told of its keys: %v", err)
			}
		}
		return serve(stream, c.guest.server(append([]string{}, target.LimitedGuestApi.Logins...)))
	default:
		return rpc.Errorf(rpc.InvalidArgument, "target: the first message must name one")
	}
}

// kept are fingerprints, not nil unless nothing is said.
func kept(keys *pb.KeptKeys) []string {
	if keys == nil {
		return nil
	}
	return append([]string{}, keys.Fingerprints...)
}

func (c *controlService) dialSSH(stream *rpc.Stream, admission sshfront.Admission) error {
	conn, err := c.ssh.Dial(admission)
	if err != nil {
		return rpc.Errorf(rpc.FailedPrecondition, "the VM's SSH server cannot be reached: %v", err)
	}
	return splice(stream, conn)
}

// serve has the stream carry calls of its own.
func serve(stream *rpc.Stream, server *rpc.Server) error {
	if err := accept(stream); err != nil {
		return err
	}
	conn := newStreamConn(stream)
	defer conn.Close()
	server.Serve(conn)
	return nil
}

func accept(stream *rpc.Stream) error {
	return stream.Send(&pb.DialResponse{Accepted: &pb.DialAccepted{}})
}

// dialTCP tries both loopbacks and then the VM's own addresses: an image's server may listen on any of them.
func dialTCP(stream *rpc.Stream, port uint32) error {
	if port == 0 || port > 65535 {
		return rpc.Errorf(rpc.InvalidArgument, "target.tcp.port: expected 1 to 65535, got %d", port)
	}
	conn, err := connect(strconv.Itoa(int(port)))
	if err != nil {
		return rpc.Errorf(rpc.NotFound, "nothing listens on port %d in the VM", port)
	}
	return splice(stream, conn)
}

// halfCloser is a TCP or UNIX connection.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// splice accepts and copies both ways until both have ended.
func splice(stream *rpc.Stream, conn halfCloser) error {
	defer conn.Close()
	if err := accept(stream); err != nil {
		return err
	}
	var up sync.WaitGroup
	up.Go(func() {
		for {
			var message pb.DialRequest
			err := stream.Recv(&message)
			if err == io.EOF {
				_ = conn.CloseWrite()
				return
			}
			if err == nil {
				_, err = conn.Write(message.Data)
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
			if err := sendData(stream, []byte{}); err != nil {
				return err
			}
			up.Wait()
			return nil
		}
		if err != nil {
			return rpc.Errorf(rpc.Aborted, "%v", err)
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

func sendData(stream *rpc.Stream, data []byte) error {
	return stream.Send(&pb.DialResponse{Data: data})
}

// streamConn is a Dial stream as a net.Conn, for servers that live in powerunit itself. Deadlines do nothing: the stream's own
// context ends it.
type streamConn struct {
	stream *rpc.Stream
	rest   []byte
	send   sync.Mutex
	once   sync.Once
	closed chan struct{}
}

func newStreamConn(stream *rpc.Stream) *streamConn {
	return &streamConn{stream: stream, closed: make(chan struct{})}
}

func (c *streamConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		var message pb.DialRequest
		if err := c.stream.Recv(&message); err != nil {
			return 0, err
		}
		c.rest = message.Data
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
