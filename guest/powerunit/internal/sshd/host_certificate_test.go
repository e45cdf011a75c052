package sshd

import (
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/sshfront"
)

const (
	accepted = "Permission denied" // it goes on to log in, without a key
	refused  = "Host key verification failed"
)

// meet has stock OpenSSH come to a server of this host key, which it calls web and believes by these lines of known_hosts alone; what it says.
func meet(t *testing.T, hostKey, certificate string, known ...string) string {
	t.Helper()
	server, err := New(sshfront.Settings{SSH: boot.SSH{HostKey: hostKey, Principal: vm}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			server.Serve(conn, sshfront.Admission{HostCertificate: certificate})
		}
	}()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(strings.Join(known, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	said, _ := exec.Command("ssh", "-F", "none", "-p", port, "-o", "UserKnownHostsFile="+file, "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=web", "-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes",
		"root@127.0.0.1", "true").CombinedOutput()
	return string(said)
}

// hostCertificate is for this key, of web, unless changed.
func hostCertificate(t *testing.T, ca ssh.Signer, key ssh.PublicKey, change func(*ssh.Certificate)) string {
	t.Helper()
	now := uint64(time.Now().Unix())
	certificate := &ssh.Certificate{
		Key: key, CertType: ssh.HostCert, ValidPrincipals: []string{vm, "web"}, ValidAfter: now - 60, ValidBefore: now + 60,
	}
	if change != nil {
		change(certificate)
	}
	if err := certificate.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	return lineOf(certificate)
}

func believing(ca ssh.Signer) string {
	return "@cert-authority *,!*.*,!*:* " + strings.TrimSpace(lineOf(ca.PublicKey()))
}

func TestStockClientsBelieveCertificatesOfTheHostKey(t *testing.T) {
	ca, _ := newKey(t)
	otherCA, _ := newKey(t)
	key, hostKey := newKey(t)
	other, _ := newKey(t)
	hour := uint64(3600)
	for name, c := range map[string]struct {
		certificate string
		want        string
	}{
		"a good one":             {hostCertificate(t, ca, key.PublicKey(), nil), accepted},
		"none":                   {"", refused},
		"what is none":           {"ssh-ed25519-cert-v01@openssh.com AAAA", refused},
		"a plain key":            {lineOf(ca.PublicKey()), refused},
		"of another authority":   {hostCertificate(t, otherCA, key.PublicKey(), nil), refused},
		"of another key":         {hostCertificate(t, ca, other.PublicKey(), nil), refused},
		"of a user":              {hostCertificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) { c.CertType = ssh.UserCert }), refused},
		"of another name":        {hostCertificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) { c.ValidPrincipals = []string{vm} }), refused},
		"of a name in that name": {hostCertificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) { c.ValidPrincipals = []string{"we"} }), refused},
		"one that has expired":   {hostCertificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) { c.ValidAfter -= hour; c.ValidBefore -= hour }), refused},
		"one that is to come":    {hostCertificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) { c.ValidAfter += hour; c.ValidBefore += hour }), refused},
	} {
		t.Run(name, func(t *testing.T) {
			if said := meet(t, hostKey, c.certificate, believing(ca)); !strings.Contains(said, c.want) {
				t.Errorf("ssh says %q; want %q", said, c.want)
			}
		})
	}
}

func TestClientsThatKnowTheKeyGoByTheKey(t *testing.T) {
	ca, _ := newKey(t)
	key, hostKey := newKey(t)
	other, _ := newKey(t)
	expired := hostCertificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) { c.ValidBefore = c.ValidAfter + 1 })
	pin := func(key ssh.PublicKey) string { return "web " + strings.TrimSpace(lineOf(key)) }
	for name, c := range map[string]struct {
		certificate string
		known       []string
		want        string
	}{
		"beside a certificate nobody asked for": {hostCertificate(t, ca, key.PublicKey(), nil), []string{pin(key.PublicKey())}, accepted},
		"beside one that has expired":           {expired, []string{pin(key.PublicKey()), believing(ca)}, accepted},
		"and see that it is another":            {hostCertificate(t, ca, key.PublicKey(), nil), []string{pin(other.PublicKey())}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			if said := meet(t, hostKey, c.certificate, c.known...); !strings.Contains(said, c.want) {
				t.Errorf("ssh says %q; want %q", said, c.want)
			}
		})
	}
}

// Two connections at once, each with a certificate of its own, to one server.
func TestEachConnectionShowsItsOwnCertificate(t *testing.T) {
	ca, _ := newKey(t)
	key, hostKey := newKey(t)
	server, err := New(sshfront.Settings{SSH: boot.SSH{HostKey: hostKey, Principal: vm}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, name := range []string{"web", "", "db", "web"} {
		certificate := ""
		if name != "" {
			certificate = hostCertificate(t, ca, key.PublicKey(), func(c *ssh.Certificate) { c.ValidPrincipals = []string{name} })
		}
		go func() {
			if conn, err := listener.Accept(); err == nil {
				server.Serve(conn, sshfront.Admission{HostCertificate: certificate})
			}
		}()
		shown := make(chan ssh.PublicKey, 1)
		_, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{
			User: "root", HostKeyAlgorithms: []string{ssh.CertAlgoED25519v01, ssh.KeyAlgoED25519},
			HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
				shown <- key
				return nil
			},
		})
		if err == nil {
			t.Fatal("let in without a key")
		}
		switch is, ok := (<-shown).(*ssh.Certificate); {
		case ok != (name != ""):
			t.Errorf("for %q a certificate is shown: %v", name, ok)
		case ok && is.ValidPrincipals[0] != name:
			t.Errorf("for %q it says %v", name, is.ValidPrincipals)
		}
	}
}
