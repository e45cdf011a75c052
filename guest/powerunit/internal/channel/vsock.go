package channel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is how many connections of the host wait to be taken; it opens one at a time.
const backlog = 4

// ServeVsock listens on a port of the VM's vsock device and hands over sessions until listening fails. Each connection of the host is a
// session, which ends the one before: the host does not keep two, so that one has broken.
func ServeVsock(port uint32, session func(net.Conn)) error {
	listener, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("guest channel: vsock: %w", err)
	}
	defer unix.Close(listener)
	if err := unix.Bind(listener, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: port}); err != nil {
		return fmt.Errorf("guest channel: vsock port %d: %w", port, err)
	}
	if err := unix.Listen(listener, backlog); err != nil {
		return fmt.Errorf("guest channel: vsock port %d: %w", port, err)
	}
	return accept(func() (int, uint32, error) {
		fd, peer, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err != nil {
			return -1, 0, err
		}
		from, isVsock := peer.(*unix.SockaddrVM)
		if !isVsock {
			return fd, unix.VMADDR_CID_ANY, nil
		}
		return fd, from.CID, nil
	}, session)
}

// accept takes connections for as long as next gives some. Only the host is let in: what else can reach the port is a process of this
// VM, over a loopback transport, and it is not to have what the node has.
func accept(next func() (fd int, cid uint32, err error), session func(net.Conn)) error {
	var before *vsockConn
	for {
		fd, cid, err := next()
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("guest channel: vsock: %w", err)
		case cid != unix.VMADDR_CID_HOST:
			unix.Close(fd)
			continue
		}
		if before != nil {
			before.Close()
		}
		conn := &vsockConn{File: os.NewFile(uintptr(fd), "vsock")}
		before = conn
		go session(conn)
	}
}

// vsockConn is a connection that the runtime's poller knows as a file: package net has no vsock.
type vsockConn struct {
	*os.File
	once sync.Once
}

// Close ends the connection for the other side too, also while a read is under way here.
func (c *vsockConn) Close() error {
	var err error
	c.once.Do(func() {
		if raw, rawErr := c.SyscallConn(); rawErr == nil {
			_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
		}
		err = c.File.Close()
	})
	return err
}

type vsockAddress struct{}

func (vsockAddress) Network() string { return "vsock" }
func (vsockAddress) String() string  { return "host" }

func (*vsockConn) LocalAddr() net.Addr                   { return vsockAddress{} }
func (*vsockConn) RemoteAddr() net.Addr                  { return vsockAddress{} }
func (c *vsockConn) SetDeadline(at time.Time) error      { return c.File.SetDeadline(at) }
func (c *vsockConn) SetReadDeadline(at time.Time) error  { return c.File.SetReadDeadline(at) }
func (c *vsockConn) SetWriteDeadline(at time.Time) error { return c.File.SetWriteDeadline(at) }
