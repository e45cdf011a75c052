// Package rpc serves gRPC over HTTP/2 with prior knowledge, as far as the guest's callers speak it: no compression, no TLS, no
// push, no trailers from clients. RFC 9113, and PROTOCOL-HTTP2.md of gRPC. docs/decisions/0005-guest-speaks-grpc-by-hand.md says why.
package rpc

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2/hpack"
)

const (
	preface      = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	maxFrame     = 16 << 10 // the protocol's least, which is all that we take and send
	maxHeaders   = 64 << 10
	maxStreams   = 512
	streamWindow = 256 << 10
	connWindow   = 1 << 20
	firstWindow  = 65535 // of both sides, before anybody has said otherwise
	maxWindow    = 1<<31 - 1
)

const (
	frameData = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePush
	framePing
	frameGoAway
	frameWindow
	frameContinuation
)

const (
	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Error codes of RFC 9113, section 7.
const (
	codeNone          = 0
	codeProtocol      = 1
	codeFlow          = 3
	codeRefusedStream = 7
	codeCompression   = 9
)

// Handler answers one call. What it returns becomes the call's status: nil is OK, a *Status itself, all else UNKNOWN.
type Handler func(*Stream) error

// Server is a table of handlers by full method name, `/package.Service/Method`. Fill it before Serve.
type Server struct{ handlers map[string]Handler }

// NewServer has no methods yet.
func NewServer() *Server { return &Server{map[string]Handler{}} }

// Handle adds a method.
func (s *Server) Handle(method string, handler Handler) { s.handlers[method] = handler }

// conn is one HTTP/2 connection. Its reader alone adds streams; whoever ends a stream removes it.
type conn struct {
	server *Server
	net    net.Conn
	decode *hpack.Decoder

	mu      sync.Mutex
	changed sync.Cond // a window has grown, or something has ended
	streams map[uint32]*Stream
	lastID  uint32
	// window is how much data the client takes on the whole connection, firstWindow that of a new stream.
	window, firstWindow int64
	ended               bool

	writing sync.Mutex
	frame   []byte // reused by writers

	// What the reader has to say waits here for a writer of its own: it must go on reading, or both sides may wait for each other.
	postMu  sync.Mutex
	posts   []byte
	posted  chan struct{} // holds a token when there are posts
	stopped chan struct{}
}

// Serve runs one connection to its end. Its calls are cancelled then.
func (s *Server) Serve(netConn net.Conn) {
	c := &conn{server: s, net: netConn, streams: map[uint32]*Stream{}, window: firstWindow, firstWindow: firstWindow}
	c.posted, c.stopped = make(chan struct{}, 1), make(chan struct{})
	defer close(c.stopped)
	c.writing.Lock() // until writePosts has written our settings, which come first
	go c.writePosts()
	c.changed.L = &c.mu
	c.decode = hpack.NewDecoder(4096, nil)
	c.decode.SetMaxStringLength(maxHeaders)
	err := c.read()
	var fault *protocolError
	if errors.As(err, &fault) && c.writing.TryLock() { // a client that does not read will not hear why, either
		reason := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, c.lastID), fault.code)
		_, _ = netConn.Write(appendFrame(nil, frameGoAway, 0, 0, reason))
		c.writing.Unlock()
	}
	netConn.Close()
	c.mu.Lock()
	c.ended = true
	for id, stream := range c.streams {
		stream.cancel()
		delete(c.streams, id)
	}
	c.changed.Broadcast()
	c.mu.Unlock()
}

// protocolError ends a connection.
type protocolError struct {
	code   uint32
	reason string
}

func (e *protocolError) Error() string { return "http2: " + e.reason }

func protocolFault(reason string) error { return &protocolError{codeProtocol, reason} }

func (c *conn) read() error {
	reader := bufio.NewReaderSize(c.net, 4096)
	greeting := make([]byte, len(preface))
	if _, err := io.ReadFull(reader, greeting); err != nil {
		return err
	}
	if string(greeting) != preface {
		return protocolFault("no HTTP/2 preface")
	}
	var settings []byte
	for _, pair := range [][2]uint32{{3, maxStreams}, {4, streamWindow}, {6, maxHeaders}} { // MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_HEADER_LIST_SIZE
		settings = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(settings, uint16(pair[0])), pair[1])
	}
	if err := c.post(frameSettings, 0, 0, settings); err != nil {
		return err
	}
	if err := c.grant(0, connWindow-firstWindow); err != nil {
		return err
	}
	var header [9]byte
	var payload []byte
	for {
		if _, err := io.ReadFull(reader, header[:]); err != nil {
			return err
		}
		length := int(header[0])<<16 | int(header[1])<<8 | int(header[2])
		if length > maxFrame {
			return &protocolError{6, fmt.Sprintf("frame of %d bytes", length)} // FRAME_SIZE_ERROR
		}
		if cap(payload) < length {
			payload = make([]byte, length)
		}
		payload = payload[:length]
		if _, err := io.ReadFull(reader, payload); err != nil {
			return err
		}
		id := binary.BigEndian.Uint32(header[5:]) & 0x7fffffff
		if header[3] == frameHeaders && header[4]&flagEndHeaders == 0 {
			var err error
			if payload, err = c.continued(reader, id, &header, payload); err != nil {
				return err
			}
		}
		if err := c.take(header[3], header[4], id, payload); err != nil {
			return err
		}
	}
}

// continued reads the rest of a header block: nothing else may come in between.
func (c *conn) continued(reader io.Reader, id uint32, header *[9]byte, block []byte) ([]byte, error) {
	block, err := unpad(header[4], block)
	if err != nil {
		return nil, err
	}
	header[4] &^= flagPadded | flagPriority
	whole := append([]byte{}, block...)
	for {
		var next [9]byte
		if _, err := io.ReadFull(reader, next[:]); err != nil {
			return nil, err
		}
		length := int(next[0])<<16 | int(next[1])<<8 | int(next[2])
		if next[3] != frameContinuation || binary.BigEndian.Uint32(next[5:])&0x7fffffff != id || length > maxFrame || len(whole)+length > maxHeaders {
			return nil, protocolFault("expected the rest of the headers")
		}
		part := make([]byte, length)
		if _, err := io.ReadFull(reader, part); err != nil {
			return nil, err
		}
		whole = append(whole, part...)
		if next[4]&flagEndHeaders != 0 {
			return whole, nil
		}
	}
}

// unpad takes padding and priority off.
func unpad(flags byte, payload []byte) ([]byte, error) {
	if flags&flagPadded != 0 {
		if len(payload) == 0 || int(payload[0]) >= len(payload) {
			return nil, protocolFault("padding longer than its frame")
		}
		payload = payload[1 : len(payload)-int(payload[0])]
	}
	if flags&flagPriority != 0 {
		if len(payload) < 5 {
			return nil, protocolFault("short priority")
		}
		payload = payload[5:]
	}
	return payload, nil
}

func (c *conn) take(kind, flags byte, id uint32, payload []byte) error {
	if id == 0 && (kind == frameData || kind == frameHeaders || kind == frameReset) {
		return protocolFault("frame on the wrong stream")
	}
	switch kind {
	case frameData:
		return c.takeData(flags, id, payload)
	case frameHeaders:
		return c.takeHeaders(flags, id, payload)
	case frameReset:
		c.mu.Lock()
		if stream := c.streams[id]; stream != nil {
			stream.cancel()
			delete(c.streams, id)
			c.changed.Broadcast()
		}
		c.mu.Unlock()
	case frameSettings:
		return c.takeSettings(flags, payload)
	case framePing:
		if len(payload) == 8 && flags&flagAck == 0 {
			return c.post(framePing, flagAck, 0, payload)
		}
	case frameWindow:
		return c.takeWindow(id, payload)
	case framePush, frameContinuation:
		return protocolFault("unexpected frame")
	}
	return nil
}

func (c *conn) takeData(flags byte, id uint32, payload []byte) error {
	size := len(payload) // padding counts, too
	data, err := unpad(flags&flagPadded, payload)
	if err != nil {
		return err
	}
	if size > 0 {
		if err := c.grant(0, size); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	stream := c.streams[id]
	if stream == nil {
		if id > c.lastID {
			return protocolFault("data on an idle stream")
		}
		return nil // it has ended, and the client did not know yet
	}
	if stream.unread+size > streamWindow || stream.halfClosed {
		return &protocolError{codeFlow, "more data than was granted"}
	}
	stream.received = append(stream.received, data...)
	stream.unread += size
	stream.halfClosed = flags&flagEndStream != 0
	c.changed.Broadcast()
	return nil
}

func (c *conn) takeHeaders(flags byte, id uint32, payload []byte) error {
	block, err := unpad(flags, payload)
	if err != nil {
		return err
	}
	fields, err := c.decode.DecodeFull(block)
	if err != nil {
		return &protocolError{codeCompression, err.Error()}
	}
	if id%2 == 0 || id <= c.lastID {
		return protocolFault("headers on a stream that is not new")
	}
	c.lastID = id
	stream := newStream(c, id)
	stream.halfClosed = flags&flagEndStream != 0
	method := ""
	for _, field := range fields {
		if field.Name == ":path" {
			method = field.Value
		}
	}
	c.mu.Lock()
	isFull := len(c.streams) >= maxStreams
	if !isFull {
		stream.window = c.firstWindow
		c.streams[id] = stream
	}
	c.mu.Unlock()
	if isFull {
		return c.post(frameReset, 0, id, binary.BigEndian.AppendUint32(nil, codeRefusedStream))
	}
	handler := c.server.handlers[method]
	if handler == nil {
		handler = func(*Stream) error { return Errorf(Unimplemented, "unknown method %s", method) }
	}
	go stream.run(handler)
	return nil
}

func (c *conn) takeSettings(flags byte, payload []byte) error {
	if flags&flagAck != 0 {
		return nil
	}
	c.mu.Lock()
	for ; len(payload) >= 6; payload = payload[6:] {
		value := int64(binary.BigEndian.Uint32(payload[2:]))
		if binary.BigEndian.Uint16(payload) != 4 { // INITIAL_WINDOW_SIZE is all that concerns us: our frames are of the least size
			continue
		}
		if value > maxWindow {
			c.mu.Unlock()
			return &protocolError{codeFlow, "window too large"}
		}
		for _, stream := range c.streams {
			stream.window += value - c.firstWindow
		}
		c.firstWindow = value
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.post(frameSettings, flagAck, 0, nil)
}

func (c *conn) takeWindow(id uint32, payload []byte) error {
	if len(payload) != 4 {
		return protocolFault("short window update")
	}
	more := int64(binary.BigEndian.Uint32(payload) & 0x7fffffff)
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == 0 {
		c.window += more
		if c.window > maxWindow {
			return &protocolError{codeFlow, "window too large"}
		}
	} else if stream := c.streams[id]; stream != nil {
		stream.window += more
	}
	c.changed.Broadcast()
	return nil
}

// maxPosts bounds what a client that sends and never reads makes us hold.
const maxPosts = 64 << 10

// post has a frame written soon, in order with other posts. It does not wait.
func (c *conn) post(kind, flags byte, id uint32, payload []byte) error {
	c.postMu.Lock()
	defer c.postMu.Unlock()
	if len(c.posts) > maxPosts {
		return &protocolError{11, "the client does not read"} // ENHANCE_YOUR_CALM
	}
	c.posts = appendFrame(c.posts, kind, flags, id, payload)
	select {
	case c.posted <- struct{}{}:
	default:
	}
	return nil
}

func (c *conn) writePosts() {
	for isFirst := true; ; isFirst = false {
		select {
		case <-c.posted:
		case <-c.stopped:
			if isFirst {
				c.writing.Unlock()
			}
			return
		}
		c.postMu.Lock()
		posts := c.posts
		c.posts = nil
		c.postMu.Unlock()
		if !isFirst {
			c.writing.Lock()
		}
		_, err := c.net.Write(posts)
		c.writing.Unlock()
		if err != nil {
			return
		}
	}
}

func appendFrame(to []byte, kind, flags byte, id uint32, payload []byte) []byte {
	n := len(payload)
	to = append(to, byte(n>>16), byte(n>>8), byte(n), kind, flags)
	return append(binary.BigEndian.AppendUint32(to, id), payload...)
}

func (c *conn) grant(id uint32, bytes int) error {
	return c.post(frameWindow, 0, id, binary.BigEndian.AppendUint32(nil, uint32(bytes)))
}

func (c *conn) write(kind, flags byte, id uint32, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.frame = appendFrame(c.frame[:0], kind, flags, id, payload)
	_, err := c.net.Write(c.frame)
	return err
}
