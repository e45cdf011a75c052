// Package channel turns the guest channel, a serial port without connections, into one net.Conn per session with the node.
// docs/architecture.md, "Guest channel", has the preamble.
package channel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	magic     = "PWCHAN1\n"
	nonceSize = 16
	portWait  = 10 * time.Second
	// idle is how often a port without a host is asked again: its reads return at once.
	idle = 10 * time.Millisecond
)

// Serve opens the port and hands over sessions, one at a time, until the port fails.
func Serve(name string, session func(net.Conn)) error {
	port, err := open(name)
	if err != nil {
		return err
	}
	for {
		rest, err := greet(port)
		if err != nil {
			return fmt.Errorf("guest channel: %w", err)
		}
		conn := &conn{port: port, rest: rest, closed: make(chan struct{})}
		session(conn)
		<-conn.closed
		if err := port.SetDeadline(time.Time{}); err != nil {
			return fmt.Errorf("guest channel: %w", err)
		}
	}
}

func open(name string) (*os.File, error) {
	for deadline := time.Now().Add(portWait); ; time.Sleep(2 * time.Millisecond) {
		paths, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, path := range paths {
			if content, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(content)) == name {
				if file, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(path)), os.O_RDWR, 0); err == nil {
					return file, nil
				}
			}
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no virtio port named %q after %v", name, portWait)
		}
	}
}

// greet waits for a preamble, answers it and returns what was read beyond it.
func greet(port io.ReadWriter) ([]byte, error) {
	var scan scanner
	buffer := make([]byte, 4096)
	for {
		n, err := port.Read(buffer)
		if n == 0 {
			if err != nil && err != io.EOF {
				return nil, err
			}
			time.Sleep(idle) // no host
			continue
		}
		if preamble, rest := scan.feed(buffer[:n]); preamble != nil {
			_, err := port.Write(preamble)
			return rest, err
		}
	}
}

// scanner finds a preamble in a stream that may hold anything before it.
type scanner struct{ held []byte }

func (s *scanner) feed(data []byte) (preamble, rest []byte) {
	s.held = append(s.held, data...)
	at := strings.Index(string(s.held), magic)
	if at < 0 {
		if keep := len(magic) - 1; len(s.held) > keep {
			s.held = append([]byte{}, s.held[len(s.held)-keep:]...)
		}
		return nil, nil
	}
	s.held = s.held[at:]
	if len(s.held) < len(magic)+nonceSize {
		return nil, nil
	}
	return s.held[:len(magic)+nonceSize], s.held[len(magic)+nonceSize:]
}

// conn is one session. Closing it unblocks reads and writes but leaves the port open for the next, which begins only when none of
// this session's reads and writes is under way any more: a late one would take the next session's bytes.
type conn struct {
	port     *os.File
	rest     []byte
	closed   chan struct{}
	mu       sync.Mutex
	isClosed bool
	inFlight sync.WaitGroup
}

func (c *conn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.isClosed {
		c.inFlight.Add(1)
	}
	return !c.isClosed
}

func (c *conn) Read(p []byte) (int, error) {
	if !c.enter() {
		return 0, net.ErrClosed
	}
	defer c.inFlight.Done()
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	n, err := c.port.Read(p)
	return n, c.fate(err)
}

func (c *conn) Write(p []byte) (int, error) {
	if !c.enter() {
		return 0, net.ErrClosed
	}
	defer c.inFlight.Done()
	n, err := c.port.Write(p)
	return n, c.fate(err)
}

func (c *conn) fate(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return net.ErrClosed
	}
	return err
}

func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		return nil
	}
	c.isClosed = true
	_ = c.port.SetDeadline(time.Unix(1, 0))
	go func() {
		c.inFlight.Wait()
		close(c.closed)
	}()
	return nil
}

type address struct{}

func (address) Network() string { return "virtio-serial" }
func (address) String() string  { return "host" }

func (*conn) LocalAddr() net.Addr              { return address{} }
func (*conn) RemoteAddr() net.Addr             { return address{} }
func (*conn) SetDeadline(time.Time) error      { return nil }
func (*conn) SetReadDeadline(time.Time) error  { return nil }
func (*conn) SetWriteDeadline(time.Time) error { return nil }
