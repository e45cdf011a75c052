package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/wire"
)

// dial serves one connection and returns an HTTP/2 client of another maker for it.
func dial(t *testing.T, server *Server) *http2.ClientConn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		server.Serve(theirs)
		close(done)
	}()
	t.Cleanup(func() {
		ours.Close()
		<-done
	})
	transport := &http2.Transport{AllowHTTP: true, DialTLSContext: func(context.Context, string, string, *tls.Config) (net.Conn, error) { return ours, nil }}
	client, err := transport.NewClientConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func framed(messages ...any) []byte {
	var all []byte
	for _, message := range messages {
		data := wire.Append(nil, message)
		all = binary.BigEndian.AppendUint32(append(all, 0), uint32(len(data)))
		all = append(all, data...)
	}
	return all
}

func call(t *testing.T, client *http2.ClientConn, method string, body io.Reader) (reply []byte, trailers http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://guest"+method, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Long", strings.Repeat("x", 40_000)) // needs a CONTINUATION
	response, err := client.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if reply, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	if response.Trailer.Get("grpc-status") == "" {
		return reply, response.Header
	}
	return reply, response.Trailer
}

func echo(stream *Stream) error {
	for {
		var request pb.DialRequest
		if err := stream.Recv(&request); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&pb.DialResponse{Data: request.Data}); err != nil {
			return err
		}
	}
}

func TestCarriesMoreThanTheWindowsBothWays(t *testing.T) {
	server := NewServer()
	server.Handle("/echo", echo)
	var messages []any
	for size := range 40 {
		messages = append(messages, &pb.DialRequest{Data: bytes.Repeat([]byte{byte(size)}, size*2500)})
	}
	reply, trailers := call(t, dial(t, server), "/echo", bytes.NewReader(framed(messages...)))
	if trailers.Get("grpc-status") != "0" {
		t.Fatalf("trailers %v", trailers)
	}
	for size := range 40 {
		length := binary.BigEndian.Uint32(reply[1:])
		var message pb.DialResponse
		if err := wire.Unmarshal(reply[5:5+length], &message); err != nil || len(message.Data) != size*2500 {
			t.Fatalf("message %d: %d bytes, %v", size, len(message.Data), err)
		}
		reply = reply[5+length:]
	}
}

func TestStatusesReachTheCaller(t *testing.T) {
	server := NewServer()
	server.Handle("/fails", func(*Stream) error { return Errorf(NotFound, "no 100%% of\n%s", "grün") })
	client := dial(t, server)
	_, trailers := call(t, client, "/fails", http.NoBody)
	if trailers.Get("grpc-status") != "5" || trailers.Get("grpc-message") != "no 100%25 of%0Agr%C3%BCn" {
		t.Errorf("trailers %v", trailers)
	}
	if _, trailers := call(t, client, "/unknown", http.NoBody); trailers.Get("grpc-status") != "12" {
		t.Errorf("unknown method: %v", trailers)
	}
	server.Handle("/echo", echo)
	tooLarge := binary.BigEndian.AppendUint32([]byte{0}, maxMessage+1)
	if _, trailers := call(t, client, "/echo", bytes.NewReader(tooLarge)); trailers.Get("grpc-status") != "8" {
		t.Errorf("too large: %v", trailers)
	}
	if _, trailers := call(t, client, "/echo", bytes.NewReader([]byte{0, 0, 0})); trailers.Get("grpc-status") != "3" {
		t.Errorf("cut off: %v", trailers)
	}
}

func TestACallerThatLeavesEndsItsHandler(t *testing.T) {
	server := NewServer()
	ended := make(chan error, 1)
	begun := make(chan struct{})
	server.Handle("/forever", func(stream *Stream) error {
		close(begun)
		for {
			if err := stream.Send(&pb.DialResponse{Data: make([]byte, 1000)}); err != nil {
				ended <- err
				return err
			}
		}
	})
	client := dial(t, server)
	ctx, cancel := context.WithCancel(t.Context())
	request, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://guest/forever", http.NoBody)
	go func() {
		<-begun
		cancel()
	}()
	if response, err := client.RoundTrip(request); err == nil {
		_, _ = io.ReadAll(response.Body)
		response.Body.Close()
	}
	if err := <-ended; err == nil {
		t.Error("it went on")
	}
}

func FuzzAnyBytesEndTheConnectionOnly(f *testing.F) {
	f.Add([]byte{0, 0, 0, frameSettings, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 1, frameHeaders, flagEndHeaders, 0, 0, 0, 1, 0x82})
	f.Add([]byte{0, 0, 2, frameData, flagPadded, 0, 0, 0, 1, 9, 9})
	f.Fuzz(func(t *testing.T, data []byte) { serveBytes(t, data) })
}
