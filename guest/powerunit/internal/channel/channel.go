// Package channel turns the guest channel into one net.Conn per session with the node: a serial port, which has no connections (this
// file), or a vsock port (vsock.go). docs/architecture.md, "Guest channel", has the preamble of the first.
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

// ServeSerial opens the port and hands over sessions, one at a time, until the port fails.
func ServeSerial(name string, session func(net.Conn)) error {
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

// greet waits for a preamble, answers it and returns what follows it. A host that had to wait sends its preamble again: all of them
// are answered, and the session is what follows the last.
func greet(port io.ReadWriter) ([]byte, error) {
	var held []byte
	buffer := make([]byte, 4096)
	for {
		var answers, rest []byte
		answers, held, rest = scan(held)
		if len(answers) > 0 {
			if _, err := port.Write(answers); err != nil {
				return nil, err
			}
		}
		if rest != nil {
			return rest, nil
		}
		n, err := port.Read(buffer)
		if n == 0 {
			if err != nil && err != io.EOF {
				return nil, err
			}
			held = nil
			time.Sleep(idle) // no host
			continue
		}
		held = append(held, buffer[:n]...)
	}
}

// answered marks held bytes that follow a preamble.
const answered = "\x00"

// scan takes whole preambles off the front of held, skipping anything before the first. It returns them, what is still to be
// decided, and, once the byte after a preamble shows that a session begins, that session's first bytes.
func scan(held []byte) (answers, undecided, rest []byte) {
	inSession := strings.HasPrefix(string(held), answered)
	held = []byte(strings.TrimPrefix(string(held), answered))
	for {
		if inSession && len(held) > 0 && !strings.HasPrefix(magic, string(held[:min(len(held), len(magic))])) {
			return answers, nil, held
		}
		at := strings.Index(string(held), magic)
		if at < 0 || len(held)-at < len(magic)+nonceSize {
			if at < 0 {
				at = max(0, len(held)-len(magic)+1)
			}
			if inSession {
				return answers, append([]byte(answered), held...), nil
			}
			return answers, append([]byte{}, held[at:]...), nil
		}
		answers = append(answers, held[at:at+len(magic)+nonceSize]...)
		held = held[at+len(magic)+nonceSize:]
		inSession = true
	}
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
