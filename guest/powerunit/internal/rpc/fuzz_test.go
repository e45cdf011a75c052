package rpc

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
)

// endLimit is far beyond what a connection without a peer takes to end.
const endLimit = 10 * time.Second

// serveBytes gives a server the preface and these bytes, then ends, and fails when the server or one of its calls goes on without it.
func serveBytes(t *testing.T, data []byte) {
	t.Helper()
	var calls atomic.Int64
	server := NewServer()
	counted := func(handler Handler) Handler {
		return func(stream *Stream) error {
			calls.Add(1)
			defer calls.Add(-1)
			return handler(stream)
		}
	}
	server.Handle("/echo", counted(echo))
	server.Handle("/talk", counted(func(stream *Stream) error {
		for {
			if err := stream.Send(&pb.DialResponse{Data: make([]byte, 3000)}); err != nil {
				return err
			}
		}
	}))
	server.Handle("/once", counted(Unary(func(*pb.SetTimeRequest) (*pb.SetTimeResponse, error) { return &pb.SetTimeResponse{}, nil })))
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, ours) })
		go func() {
			_, _ = ours.Write(append([]byte(preface), data...))
			ours.Close()
		}()
		server.Serve(theirs)
		reading.Wait()
		for calls.Load() > 0 {
			runtime.Gosched()
		}
	}()
	select {
	case <-done:
	case <-time.After(endLimit):
		t.Fatal("the connection has ended and its server has not")
	}
}

// script makes frames of bytes that a fuzzer may turn as it likes: each is a kind, flags, one of a few streams, and a length of payload.
// Headers are well formed now and then, so that calls are made.
func script(moves []byte) []byte {
	var frames, block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	methods := []string{"/echo", "/talk", "/once", "/none"}
	for len(moves) >= 4 {
		kind, flags, id, size := moves[0]%12, moves[1], uint32(moves[2]%16), int(moves[3])
		moves = moves[4:]
		size = min(size, len(moves))
		payload := moves[:size]
		moves = moves[size:]
		switch {
		case kind == frameHeaders && size > 0 && payload[0]%4 != 0:
			block.Reset()
			for _, field := range []hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":path", Value: methods[payload[0]>>2%4]}, {Name: "x", Value: string(payload)}} {
				_ = encoder.WriteField(field) // a Buffer takes all
			}
			payload, flags = block.Bytes(), flags&^(flagPadded|flagPriority)|flagEndHeaders
		case kind == frameData && size > 0 && payload[0]%4 != 0:
			payload = framed(&pb.DialRequest{Data: payload})
		case kind == frameWindow && size < 4:
			payload = binary.BigEndian.AppendUint32(nil, uint32(flags)<<8|1)
		}
		frames.Write(appendFrame(nil, kind, flags, id, payload))
	}
	return frames.Bytes()
}

func FuzzFramesEndTheConnectionOnly(f *testing.F) {
	open := func(id, method byte) []byte { return []byte{frameHeaders, flagEndHeaders, id, 1, method<<2 | 1} }
	f.Add(append(open(1, 0), frameData, flagEndStream, 1, 3, 1, 2, 3))
	f.Add(append(open(1, 1), frameWindow, 255, 1, 0, frameWindow, 255, 0, 0, frameReset, 0, 1, 4, 0, 0, 0, 8))
	f.Add(append(append(open(1, 2), open(3, 1)...), frameSettings, 0, 0, 6, 0, 4, 0, 0, 0, 1, framePing, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Add(append(open(5, 3), frameGoAway, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add([]byte{frameHeaders, 0, 1, 1, 1, frameContinuation, flagEndHeaders, 1, 2, 0x82, 0x82})
	f.Fuzz(func(t *testing.T, moves []byte) { serveBytes(t, script(moves)) })
}
