// Package sshd is the VM's SSH server: on TCP port 22, and on connections that the guest channel hands over.
package sshd

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/supervise"
	"pitwall.dev/powerunit/internal/users"
)

const (
	loginGrace     = 30 * time.Second
	maxConnections = 128
	maxChannels    = 100
)

// Server accepts public keys only.
type Server struct {
	config    ssh.ServerConfig
	keys      [][]byte
	env       []string
	processes *supervise.Processes
	slots     chan struct{}
}

// New reads the host key and the keys to let in. Lines that are no keys are an error: the node has checked them.
func New(config boot.SSH, env []string, processes *supervise.Processes) (*Server, error) {
	signer, err := ssh.ParsePrivateKey([]byte(config.HostKey))
	if err != nil {
		return nil, fmt.Errorf("ssh host key: %w", err)
	}
	s := &Server{env: env, processes: processes, slots: make(chan struct{}, maxConnections)}
	for i, line := range config.AuthorizedKeys {
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("authorized key %d: %w", i+1, err)
		}
		s.keys = append(s.keys, key)
	}
	s.config = ssh.ServerConfig{
		Config: ssh.Config{
			KeyExchanges: []string{ssh.KeyExchangeCurve25519},
			Ciphers:      []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128GCM, ssh.CipherAES256GCM},
			MACs:         []string{ssh.HMACSHA256ETM, ssh.HMACSHA512ETM},
		},
		ServerVersion: "SSH-2.0-powerunit",
		MaxAuthTries:  6,
	}
	s.config.AddHostKey(signer)
	return s, nil
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

// Listen serves port 22 in the background. A port that the image's own process takes first is its right.
func (s *Server) Listen() {
	listener, err := net.Listen("tcp", ":22")
	if err != nil {
		boot.Say("powerunit: ssh: " + err.Error())
		return
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.Serve(conn, "")
		}
	}()
}

// Serve runs one connection to its end. sessionKey, when not empty, is let in on this connection only.
func (s *Server) Serve(conn net.Conn, sessionKey string) {
	defer conn.Close()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return
	}
	keys := s.keys
	if sessionKey != "" {
		key, err := parseKey(sessionKey)
		if err != nil {
			return
		}
		keys = append(keys[:len(keys):len(keys)], key)
	}
	var user users.Identity
	config := s.config
	config.PublicKeyCallback = func(meta ssh.ConnMetadata, offered ssh.PublicKey) (*ssh.Permissions, error) {
		id, known := users.Load().Login(meta.User())
		for _, key := range keys {
			if known && bytes.Equal(key, offered.Marshal()) {
				user = id
				return nil, nil
			}
		}
		return nil, fmt.Errorf("key not accepted for %s", meta.User())
	}
	grace := time.AfterFunc(loginGrace, func() { conn.Close() })
	connection, channels, requests, err := ssh.NewServerConn(conn, &config)
	if err != nil || !grace.Stop() {
		return
	}
	go answerGlobal(requests)
	s.serveChannels(channels, user)
	_ = connection.Wait()
}

// answerGlobal answers keepalives with a failure, as OpenSSH's server does, and refuses everything else.
func answerGlobal(requests <-chan *ssh.Request) {
	for request := range requests {
		if request.WantReply {
			_ = request.Reply(false, nil)
		}
	}
}

func (s *Server) serveChannels(channels <-chan ssh.NewChannel, user users.Identity) {
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
				s.serveSession(channel, user)
			case "direct-tcpip":
				serveForward(channel)
			default:
				_ = channel.Reject(ssh.UnknownChannelType, "not supported")
			}
		})
	}
	open.Wait()
}
