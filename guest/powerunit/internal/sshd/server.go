// Package sshd is the VM's SSH server. Its process is apart from PID 1, which hands it connections: those to TCP port 22, and those that
// come over the guest channel.
package sshd

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"pitwall.dev/powerunit/internal/cgroups"
	"pitwall.dev/powerunit/internal/sshfront"
	"pitwall.dev/powerunit/internal/supervise"
	"pitwall.dev/powerunit/internal/users"
)

const (
	loginGrace     = 30 * time.Second
	maxConnections = 128
	maxChannels    = 256
	// aliveInterval is between questions to a silent client; it is gone after aliveMisses without an answer.
	aliveInterval = time.Minute
	aliveMisses   = 3
)

// Server accepts public keys and certificates only.
type Server struct {
	// config is without host keys: each connection has its own.
	config  ssh.ServerConfig
	hostKey ssh.Signer
	keysMu  sync.Mutex
	keys    [][]byte // replaced, never changed
	// authorities are those of certificates; without any, who hands over a connection has checked its certificate.
	authorities authorities
	env         []string
	processes   *supervise.Processes
	cgroup      *os.File
	slots       chan struct{}
}

// New reads the host key and the keys to let in. Lines that are no keys are an error: the node has checked them.
func New(settings sshfront.Settings) (*Server, error) {
	signer, err := ssh.ParsePrivateKey([]byte(settings.HostKey))
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	s := &Server{
		hostKey: signer, env: settings.Env, processes: supervise.NewProcesses(), cgroup: cgroups.Open(cgroups.Sessions),
		slots: make(chan struct{}, maxConnections),
	}
	s.processes.Exposed = true
	if s.keys, err = parseKeys(settings.AuthorizedKeys); err != nil {
		return nil, fmt.Errorf("authorized keys: %w", err)
	}
	if s.authorities.keys, err = parseKeys(settings.UserCA); err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	s.authorities.principal = settings.Principal
	s.config = ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeMLKEM768X25519, ssh.KeyExchangeCurve25519},
			Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305},
			MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
		},
		ServerVersion: "SSH-2.0-powerunit",
		MaxAuthTries:  6,
	}
	return s, nil
}

func parseKeys(lines []string) ([][]byte, error) {
	keys := make([][]byte, 0, len(lines))
	for i, line := range lines {
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseKey(line string) ([]byte, error) {
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return nil, err
	}
	if len(options) > 0 {
		return nil, fmt.Errorf("options before a key are not supported: %v", options)
	}
	return key.Marshal(), nil
}

func (s *Server) listed() [][]byte {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	return s.keys
}

// keep takes away all of the VM's own keys but those of these fingerprints.
func (s *Server) keep(fingerprints []string) {
	s.keysMu.Lock()
	defer s.keysMu.Unlock()
	s.keys = slices.DeleteFunc(slices.Clone(s.keys), func(key []byte) bool {
		return !slices.Contains(fingerprints, sshfront.Fingerprint(key))
	})
}

// connection is one client that has logged in.
type connection struct {
	server *Server
	ssh    *ssh.ServerConn
	user   users.Identity
	rights rights
	// forwarded are the ports that listen for the client.
	forwarded forwards
}

// Serve runs one connection to its end.
func (s *Server) Serve(conn net.Conn, admission sshfront.Admission) {
	defer conn.Close()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return
	}
	keys := s.listed()
	if admission.Logins != nil {
		keys = nil // who has one of those may be anybody
	}
	if admission.SessionKey != "" {
		key, err := parseKey(admission.SessionKey)
		if err != nil {
			return
		}
		keys = append(slices.Clip(keys), key)
	}
	config := s.config
	for _, key := range shown(s.hostKey, admission.HostCertificate) {
		config.AddHostKey(key)
	}
	config.PublicKeyCallback = func(meta ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
		_, known := users.Load().Login(meta.User())
		if admission.Logins != nil && !slices.Contains(admission.Logins, meta.User()) {
			return nil, fmt.Errorf("%s is not one of those that this connection may log in as", meta.User())
		}
		if !known || !slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, offered.Marshal()) }) {
			return nil, fmt.Errorf("key not accepted for %s", meta.User())
		}
		certificate, ok := offered.(*ssh.Certificate)
		if !ok {
			return &ssh.Permissions{}, nil
		}
		if len(s.authorities.keys) > 0 {
			if err := s.authorities.check(certificate, time.Now()); err != nil {
				return nil, err
			}
		}
		return &ssh.Permissions{Extensions: certificate.Extensions}, nil
	}
	grace := time.AfterFunc(loginGrace, func() { conn.Close() })
	serverConn, channels, requests, err := ssh.NewServerConn(conn, &config)
	if err != nil || !grace.Stop() {
		return
	}
	user, known := users.Load().Login(serverConn.User())
	if !known {
		return
	}
	c := &connection{server: s, ssh: serverConn, user: user, rights: rightsOf(serverConn.Permissions)}
	defer c.forwarded.close()
	gone := make(chan struct{})
	defer close(gone)
	go c.keepAlive(gone)
	go c.answer(requests)
	c.serveChannels(channels)
	_ = serverConn.Wait()
}

// keepAlive closes the connection of a client that no longer answers.
func (c *connection) keepAlive(gone <-chan struct{}) {
	ticker := time.NewTicker(aliveInterval)
	defer ticker.Stop()
	answers := make(chan struct{}, 1)
	for missed, asking := 0, false; ; {
		select {
		case <-gone:
			return
		case <-answers:
			missed, asking = 0, false
		case <-ticker.C:
			if asking {
				if missed++; missed >= aliveMisses {
					c.ssh.Close()
					return
				}
				continue
			}
			asking = true
			go func() {
				if _, _, err := c.ssh.SendRequest("keepalive@openssh.com", true, nil); err == nil {
					answers <- struct{}{}
				}
			}()
		}
	}
}

// answer takes requests that are about no channel: listening for the client, and its own keepalives, which want an answer, whatever it
// is.
func (c *connection) answer(requests <-chan *ssh.Request) {
	for request := range requests {
		ok, reply := false, []byte(nil)
		switch request.Type {
		case "tcpip-forward":
			ok, reply = c.listen(request.Payload)
		case "cancel-tcpip-forward":
			ok = c.forwarded.cancel(request.Payload)
		}
		if request.WantReply {
			_ = request.Reply(ok, reply)
		}
	}
}

func (c *connection) serveChannels(channels <-chan ssh.NewChannel) {
	var open sync.WaitGroup
	slots := make(chan struct{}, maxChannels)
	for channel := range channels {
		select {
		case slots <- struct{}{}:
		default:
			_ = channel.Reject(ssh.ResourceShortage, "too many channels")
			continue
		}
		open.Go(func() {
			defer func() { <-slots }()
			switch channel.ChannelType() {
			case "session":
				c.serveSession(channel)
			case "direct-tcpip":
				c.serveForward(channel)
			case "direct-streamlocal@openssh.com":
				c.serveSocket(channel)
			default:
				_ = channel.Reject(ssh.UnknownChannelType, "not supported")
			}
		})
	}
	open.Wait()
}
