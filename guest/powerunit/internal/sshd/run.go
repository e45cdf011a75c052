package sshd

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// idleLimit is how long the process waits for a connection before it offers to leave.
const idleLimit = time.Minute

// Run serves the connections that PID 1 sends, each with a session key that may be empty, until PID 1 closes the link. After a while
// without connections it tells how many it has had; when that is all that were sent, PID 1 lets it go.
func (s *Server) Run(link *net.UnixConn) error {
	var mu sync.Mutex
	var count uint64
	active := 0
	idle := time.AfterFunc(idleLimit, func() {
		mu.Lock()
		defer mu.Unlock()
		if active == 0 {
			_, _ = link.Write(binary.LittleEndian.AppendUint64(nil, count))
		}
	})
	for {
		conn, key, err := receive(link)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		mu.Lock()
		count++
		active++
		mu.Unlock()
		go func() {
			s.Serve(conn, key)
			mu.Lock()
			defer mu.Unlock()
			if active--; active == 0 {
				idle.Reset(idleLimit)
			}
		}()
	}
}

const maxKey = 16 << 10

// receive takes one connection off the link.
func receive(link *net.UnixConn) (net.Conn, string, error) {
	data, control := make([]byte, maxKey), make([]byte, syscall.CmsgSpace(4))
	n, controlSize, _, _, err := link.ReadMsgUnix(data, control)
	if err != nil {
		return nil, "", err
	}
	if n == 0 {
		return nil, "", io.EOF
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controlSize])
	if err != nil || len(messages) != 1 {
		return nil, "", errors.New("a message without a connection")
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, "", errors.New("a message without a connection")
	}
	file := os.NewFile(uintptr(fds[0]), "connection")
	defer file.Close()
	conn, err := net.FileConn(file)
	return conn, string(data[1:n]), err
}
