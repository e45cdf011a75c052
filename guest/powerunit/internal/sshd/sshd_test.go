package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/sshfront"
)

func newKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

// login connects to a server that trusts ca, over TCP on loopback, and returns the error or the client.
func login(t *testing.T, ca ssh.Signer, certificate *ssh.Certificate, key ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	_, hostKey := newKey(t)
	server, err := New(sshfront.Settings{SSH: boot.SSH{HostKey: hostKey, UserCA: []string{string(ssh.MarshalAuthorizedKey(ca.PublicKey()))}}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		if conn, err := listener.Accept(); err == nil {
			server.Serve(conn, "")
		}
	}()
	signer, err := ssh.NewCertSigner(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err == nil {
		t.Cleanup(func() { client.Close() })
	}
	return client, err
}

func TestCertificates(t *testing.T) {
	ca, _ := newKey(t)
	other, _ := newKey(t)
	for name, c := range map[string]struct {
		change func(*ssh.Certificate)
		signer ssh.Signer
		want   bool
	}{
		"of the authority":        {func(*ssh.Certificate) {}, ca, true},
		"of another authority":    {func(*ssh.Certificate) {}, other, false},
		"for another user":        {func(c *ssh.Certificate) { c.ValidPrincipals = []string{"nobody"} }, ca, false},
		"for nobody":              {func(c *ssh.Certificate) { c.ValidPrincipals = nil }, ca, false},
		"too old":                 {func(c *ssh.Certificate) { c.ValidBefore = uint64(time.Now().Add(-time.Minute).Unix()) }, ca, false},
		"of a host":               {func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, ca, false},
		"from this address":       {func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{sourceAddress: "127.0.0.0/8"} }, ca, true},
		"from another address":    {func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{sourceAddress: "10.0.0.0/8"} }, ca, false},
		"with an unknown request": {func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} }, ca, false},
	} {
		t.Run(name, func(t *testing.T) {
			key, _ := newKey(t)
			certificate := &ssh.Certificate{
				Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"root"}, ValidBefore: ssh.CertTimeInfinity,
			}
			c.change(certificate)
			if err := certificate.SignCert(rand.Reader, c.signer); err != nil {
				t.Fatal(err)
			}
			if _, err := login(t, ca, certificate, key); (err == nil) != c.want {
				t.Errorf("let in: %v; want %v (%v)", err == nil, c.want, err)
			}
		})
	}
}

func TestACertificateWithoutExtensionsGivesNoTerminalAndNoForwards(t *testing.T) {
	ca, _ := newKey(t)
	key, _ := newKey(t)
	certificate := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{"root"}, ValidBefore: ssh.CertTimeInfinity,
	}
	if err := certificate.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	client, err := login(t, ca, certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if session.RequestPty("xterm", 24, 80, nil) == nil {
		t.Error("it got a terminal")
	}
	if _, err := client.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("it may listen")
	}
	if _, err := client.Dial("tcp", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "does not permit") {
		t.Errorf("dial: %v", err)
	}
}

func TestAForcedCommandIsTheOnlyOne(t *testing.T) {
	if got := rightsOf(&ssh.Permissions{CriticalOptions: map[string]string{forceCommand: "backup"}, Extensions: map[string]string{permitPty: ""}}); got != (rights{command: "backup", noForwards: true}) {
		t.Errorf("rights %+v", got)
	}
	if got := rightsOf(&ssh.Permissions{}); got != (rights{}) {
		t.Errorf("a plain key has rights %+v", got)
	}
}

func TestScpCommandsAreSplitAsAShellDoes(t *testing.T) {
	for line, want := range map[string][]string{
		`scp -t /a`: {"scp", "-t", "/a"}, `scp -r -f '/a b'"c" d\ e`: {"scp", "-r", "-f", "/a bc", "d e"}, `scp -f ""`: {"scp", "-f", ""},
	} {
		if got := splitWords(line); !slices.Equal(got, want) {
			t.Errorf("splitWords(%s) = %q", line, got)
		}
	}
	for line, want := range map[string]bool{"scp -t /a": true, "scp": false, "scpx -t a": false, "echo scp -t": false} {
		if isScp(line) != want {
			t.Errorf("isScp(%s) = %v", line, !want)
		}
	}
}
