package sshd

import (
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	forwardTimeout = 10 * time.Second
	maxListeners   = 64
)

// serveForward is -L, -D and -W: a TCP connection from inside the VM (RFC 4254, section 7.2).
func (c *connection) serveForward(incoming ssh.NewChannel) {
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
	c.connect(incoming, "tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))))
}

// serveSocket is -L to a UNIX socket (OpenSSH's PROTOCOL, section 2.4). The server is root, so only root may: a user's rights would
// have to be checked on the socket.
func (c *connection) serveSocket(incoming ssh.NewChannel) {
	var m struct {
		Path     string
		Reserved string
		Unused   uint32
	}
	if err := ssh.Unmarshal(incoming.ExtraData(), &m); err != nil || c.user.UID != 0 {
		_ = incoming.Reject(ssh.Prohibited, "only root may")
		return
	}
	c.connect(incoming, "unix", m.Path)
}

func (c *connection) connect(incoming ssh.NewChannel, network, address string) {
	if c.rights.noForwards {
		_ = incoming.Reject(ssh.Prohibited, "the certificate does not permit forwarding")
		return
	}
	conn, err := net.DialTimeout(network, address, forwardTimeout)
	if err != nil {
		_ = incoming.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, requests, err := incoming.Accept()
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	splice(channel, conn)
}

// splice ends when both directions have, and closes both.
func splice(channel ssh.Channel, conn net.Conn) {
	defer conn.Close()
	defer channel.Close()
	var directions sync.WaitGroup
	directions.Go(func() {
		_, _ = io.Copy(conn, channel)
		_ = conn.(interface{ CloseWrite() error }).CloseWrite() // TCP and UNIX connections have it
	})
	directions.Go(func() {
		_, _ = io.Copy(channel, conn)
		_ = channel.CloseWrite()
	})
	directions.Wait()
}

// forwards are the listeners of one client, by what it asked for.
type forwards struct {
	mu        sync.Mutex
	listeners map[string]net.Listener
}

func (f *forwards) add(name string, listener net.Listener) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.listeners[name]; taken || len(f.listeners) >= maxListeners {
		return false
	}
	if f.listeners == nil {
		f.listeners = map[string]net.Listener{}
	}
	f.listeners[name] = listener
	return true
}

func (f *forwards) cancel(payload []byte) bool {
	var m struct {
		Host string
		Port uint32
	}
	if ssh.Unmarshal(payload, &m) != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	name := net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port)))
	listener, known := f.listeners[name]
	if known {
		listener.Close()
		delete(f.listeners, name)
	}
	return known
}

func (f *forwards) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, listener := range f.listeners {
		listener.Close()
	}
}

// listen is -R (RFC 4254, section 7.1). The client chooses the address, as with OpenSSH's `GatewayPorts clientspecified`: it is its VM.
func (c *connection) listen(payload []byte) (ok bool, reply []byte) {
	var m struct {
		Host string
		Port uint32
	}
	if ssh.Unmarshal(payload, &m) != nil || m.Port > 65535 || c.rights.noForwards || c.user.UID != 0 && m.Port > 0 && m.Port < 1024 {
		return false, nil
	}
	host := m.Host
	if host == "*" {
		host = ""
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(m.Port))))
	if err != nil {
		return false, nil
	}
	if m.Port == 0 {
		m.Port = uint32(listener.Addr().(*net.TCPAddr).Port) // a TCP listener's
		reply = ssh.Marshal(struct{ Port uint32 }{m.Port})
	}
	if !c.forwarded.add(net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))), listener) {
		listener.Close()
		return false, nil
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go c.forwardBack(conn, m.Host, m.Port)
		}
	}()
	return true, reply
}

func (c *connection) forwardBack(conn net.Conn, host string, port uint32) {
	origin := conn.RemoteAddr().(*net.TCPAddr) // of a TCP listener's connection
	data := ssh.Marshal(struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}{host, port, origin.IP.String(), uint32(origin.Port)})
	channel, requests, err := c.ssh.OpenChannel("forwarded-tcpip", data)
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	splice(channel, conn)
}
