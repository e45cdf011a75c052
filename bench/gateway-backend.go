// The gRPC server behind every proxy of the gateway's benchmark, on cleartext HTTP/2: one call that answers at once, one that ticks.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// Once a second, a message with the time in microseconds.
const tickEvery = time.Second

func main() {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	http.HandleFunc("/bench.Bytes/One", one)
	http.HandleFunc("/bench.Bytes/Tick", tick)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{Protocols: &protocols, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 10_000}}
	fmt.Fprintln(os.Stderr, server.Serve(listener))
}

func begin(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
}

// one answers with the request.
func one(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	begin(w)
	_, _ = w.Write(body)
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush() // otherwise net/http adds a content-length, which no gRPC server does, and which grpcwebproxy passes on
	}
	w.Header().Set("Grpc-Status", "0")
}

func tick(w http.ResponseWriter, r *http.Request) {
	begin(w)
	flusher, _ := w.(http.Flusher)
	message := make([]byte, 5+8)
	message[4] = 8
	for {
		binary.BigEndian.PutUint64(message[5:], uint64(time.Now().UnixMicro()))
		if _, err := w.Write(message); err != nil {
			return
		}
		flusher.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(tickEvery):
		}
	}
}
