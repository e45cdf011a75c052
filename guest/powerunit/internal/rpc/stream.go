package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"pitwall.dev/powerunit/internal/wire"
)

// maxMessage is the largest message taken.
const maxMessage = 1 << 20

// Code is a gRPC status code.
type Code uint32

// The codes that the guest ends calls with.
const (
	Cancelled          Code = 1
	Unknown            Code = 2
	InvalidArgument    Code = 3
	NotFound           Code = 5
	PermissionDenied   Code = 7
	ResourceExhausted  Code = 8
	FailedPrecondition Code = 9
	Aborted            Code = 10
	Unimplemented      Code = 12
	Internal           Code = 13
)

// Status is how a call failed.
type Status struct {
	Code    Code
	Message string
}

func (s *Status) Error() string { return s.Message }

// Errorf makes a *Status.
func Errorf(code Code, format string, values ...any) error {
	return &Status{code, fmt.Sprintf(format, values...)}
}

// Stream is one call. One goroutine at a time may receive, any number may send.
type Stream struct {
	conn    *conn
	id      uint32
	context context.Context
	cancel  context.CancelFunc
	message []byte // what the receiver has taken and not used

	// Guarded by conn.mu.
	received   []byte
	unread     int // of the window that was granted
	halfClosed bool
	window     int64

	sending     chan struct{} // holds one token: a message's frames stay together
	headersSent bool
}

func newStream(c *conn, id uint32) *Stream {
	s := &Stream{conn: c, id: id, sending: make(chan struct{}, 1)}
	s.context, s.cancel = context.WithCancel(context.Background())
	return s
}

// Context ends when the caller has left, the connection is gone, or the handler has returned.
func (s *Stream) Context() context.Context { return s.context }

// Recv reads the next message into a pointer to a genlite struct; io.EOF after the caller's last one.
func (s *Stream) Recv(message any) error {
	for {
		if len(s.message) >= 5 {
			if s.message[0] != 0 {
				return Errorf(Unimplemented, "compressed messages are not supported")
			}
			size := int(binary.BigEndian.Uint32(s.message[1:]))
			if size > maxMessage {
				return Errorf(ResourceExhausted, "a message of %d bytes; the limit is %d", size, maxMessage)
			}
			if len(s.message) >= 5+size {
				data := s.message[5 : 5+size : 5+size]
				s.message = s.message[5+size:]
				if err := wire.Unmarshal(data, message); err != nil {
					return Errorf(InvalidArgument, "%v", err)
				}
				return nil
			}
		}
		if err := s.more(); err != nil {
			return err
		}
	}
}

// more takes what has arrived and lets the caller send as much again.
func (s *Stream) more() error {
	c := s.conn
	c.mu.Lock()
	for len(s.received) == 0 && !s.halfClosed && s.context.Err() == nil {
		c.changed.Wait()
	}
	data, read, closed := s.received, s.unread, s.halfClosed
	s.received, s.unread = nil, 0
	c.mu.Unlock()
	if s.context.Err() != nil {
		return Errorf(Cancelled, "the caller has left")
	}
	if len(data) == 0 {
		if len(s.message) > 0 {
			return Errorf(InvalidArgument, "the stream ended inside a message")
		}
		return io.EOF
	}
	if len(s.message) == 0 {
		s.message = data // earlier messages may still be in use
	} else {
		s.message = append(s.message[:len(s.message):len(s.message)], data...)
	}
	if closed || read == 0 {
		return nil
	}
	return c.grant(s.id, read)
}

// Send writes a message, waiting for the caller to take it.
func (s *Stream) Send(message any) error {
	select {
	case s.sending <- struct{}{}:
		defer func() { <-s.sending }()
	case <-s.context.Done():
		return Errorf(Cancelled, "the caller has left")
	}
	if err := s.sendHeaders(); err != nil {
		return err
	}
	data := wire.Append(make([]byte, 5, 64), message)
	binary.BigEndian.PutUint32(data[1:], uint32(len(data)-5))
	for len(data) > 0 {
		n, err := s.reserve(min(len(data), maxFrame))
		if err != nil {
			return err
		}
		if err := s.conn.write(frameData, 0, s.id, data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// reserve waits until the caller takes more and returns how much, at most want.
func (s *Stream) reserve(want int) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.window <= 0 || s.window <= 0 {
		if s.context.Err() != nil || c.ended {
			return 0, Errorf(Cancelled, "the caller has left")
		}
		c.changed.Wait()
	}
	n := min(int64(want), c.window, s.window)
	c.window -= n
	s.window -= n
	return int(n), nil
}

const statusOK = 0x88 // `:status: 200`, RFC 7541, appendix A

func (s *Stream) sendHeaders() error {
	if s.headersSent {
		return nil
	}
	s.headersSent = true
	return s.conn.write(frameHeaders, flagEndHeaders, s.id, literal([]byte{statusOK}, "content-type", "application/grpc"))
}

// literal appends a header without indexing, RFC 7541, section 6.2.2.
func literal(to []byte, name, value string) []byte {
	return text(text(append(to, 0), name), value)
}

func text(to []byte, value string) []byte {
	n := len(value)
	if n < 127 {
		to = append(to, byte(n))
	} else {
		to = append(to, 127)
		for n -= 127; n >= 128; n >>= 7 {
			to = append(to, byte(n)|0x80)
		}
		to = append(to, byte(n))
	}
	return append(to, value...)
}

// run calls the handler and ends the stream with its status.
func (s *Stream) run(handler Handler) {
	err := handler(s)
	status := &Status{}
	if err != nil && !errors.As(err, &status) {
		status = &Status{Unknown, err.Error()}
	}
	c := s.conn
	c.mu.Lock()
	_, open := c.streams[s.id]
	delete(c.streams, s.id)
	clientDone := s.halfClosed
	s.cancel()
	c.changed.Broadcast()
	c.mu.Unlock()
	s.sending <- struct{}{} // a sender that the handler left behind must not come after the trailers
	if !open {
		return
	}
	var trailers []byte
	if !s.headersSent {
		trailers = literal([]byte{statusOK}, "content-type", "application/grpc")
	}
	trailers = literal(trailers, "grpc-status", strconv.Itoa(int(status.Code)))
	if status.Message != "" {
		trailers = literal(trailers, "grpc-message", percent(status.Message))
	}
	if c.write(frameHeaders, flagEndHeaders|flagEndStream, s.id, trailers) == nil && !clientDone {
		_ = c.write(frameReset, 0, s.id, binary.BigEndian.AppendUint32(nil, codeNone))
	}
}

const longestMessage = 4096

// percent encodes a status message as gRPC has it: printable ASCII without '%' stays.
func percent(message string) string {
	var to strings.Builder
	for _, b := range []byte(message[:min(len(message), longestMessage)]) {
		if b >= ' ' && b <= '~' && b != '%' {
			to.WriteByte(b)
		} else {
			fmt.Fprintf(&to, "%%%02X", b)
		}
	}
	return to.String()
}

// Unary makes a handler of a function from one message to another.
func Unary[Request, Response any](f func(*Request) (*Response, error)) Handler {
	return func(s *Stream) error {
		var request Request
		if err := s.Recv(&request); err != nil {
			return err
		}
		response, err := f(&request)
		if err != nil {
			return err
		}
		return s.Send(response)
	}
}

// Streaming makes a handler of a function from one message to many.
func Streaming[Request any](f func(*Request, *Stream) error) Handler {
	return func(s *Stream) error {
		var request Request
		if err := s.Recv(&request); err != nil {
			return err
		}
		return f(&request, s)
	}
}
