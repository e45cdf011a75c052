package sshd

import (
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const forwardTimeout = 10 * time.Second

// serveForward is -L, -D and -W: a TCP connection from inside the VM (RFC 4254, section 7.2).
func serveForward(incoming ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(incoming.ExtraData(), &m); err != nil || m.Port > 65535 {
		_ = incoming.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))), forwardTimeout)
	if err != nil {
		_ = incoming.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	channel, requests, err := incoming.Accept()
	if err != nil {
		return
	}
	defer channel.Close()
	go ssh.DiscardRequests(requests)
	var directions sync.WaitGroup
	directions.Go(func() {
		_, _ = io.Copy(conn, channel)
		_ = conn.(*net.TCPConn).CloseWrite() // DialTimeout("tcp") returns nothing else
	})
	directions.Go(func() {
		_, _ = io.Copy(channel, conn)
		_ = channel.CloseWrite()
	})
	directions.Wait()
}
