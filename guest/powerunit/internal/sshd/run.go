package sshd

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"pitwall.dev/powerunit/internal/sshfront"
)

// idleLimit is how long the process waits for a connection before it offers to leave.
const idleLimit = time.Minute

// Run serves the connections that PID 1 sends, each with who is let in on it, until PID 1 closes the link. After a while
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
		conn, admission, err := receive(link)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if admission.Kept != nil { // before whoever comes after
			s.keep(admission.Kept)
		}
		mu.Lock()
		count++
		active++
		mu.Unlock()
		go func() {
			s.Serve(conn, admission)
			mu.Lock()
			defer mu.Unlock()
			if active--; active == 0 {
				idle.Reset(idleLimit)
			}
		}()
	}
}

// maxAdmission holds a thousand fingerprints.
const maxAdmission = 128 << 10

// receive takes one connection off the link.
func receive(link *net.UnixConn) (conn net.Conn, admission sshfront.Admission, err error) {
	data, control := make([]byte, maxAdmission), make([]byte, syscall.CmsgSpace(4))
	n, controlSize, _, _, err := link.ReadMsgUnix(data, control)
	if err != nil {
		return nil, admission, err
	}
	if n == 0 {
		return nil, admission, io.EOF
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controlSize])
	if err != nil || len(messages) != 1 {
		return nil, admission, errors.New("a message without a connection")
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, admission, errors.New("a message without a connection")
	}
	file := os.NewFile(uintptr(fds[0]), "connection")
	defer file.Close()
	if err := json.Unmarshal(data[:n], &admission); err != nil {
		return nil, admission, err
	}
	conn, err = net.FileConn(file)
	return conn, admission, err
}
