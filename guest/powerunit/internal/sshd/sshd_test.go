package sshd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"reflect"
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

const vm = "0b8cd7ef-74c1-4c7e-9a3c-0f4c2a1a7e11"

// newCertificate is for root's key and this VM, unless changed; it has no extensions.
func newCertificate(t *testing.T, ca ssh.Signer, change func(*ssh.Certificate)) ssh.Signer {
	t.Helper()
	key, _ := newKey(t)
	now := uint64(time.Now().Unix())
	certificate := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.UserCert, ValidPrincipals: []string{vm}, ValidAfter: now - 60, ValidBefore: now + 540,
	}
	if change != nil {
		change(certificate)
	}
	if err := certificate.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewCertSigner(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func lineOf(key ssh.PublicKey) string {
	return string(ssh.MarshalAuthorizedKey(key))
}

// login connects to a server of these authorities as who gives it sessionKey does, and shows signer.
func login(t *testing.T, authorities []string, sessionKey string, signer ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	return loginAs(t, "root", boot.SSH{UserCA: authorities}, sshfront.Admission{SessionKey: sessionKey}, signer)
}

func loginAs(t *testing.T, user string, config boot.SSH, admission sshfront.Admission, signer ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	_, config.HostKey = newKey(t)
	config.Principal = vm
	server, err := New(sshfront.Settings{SSH: config})
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
			server.Serve(conn, admission)
		}
	}()
	client, err := ssh.Dial("tcp", listener.Addr().String(), &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err == nil {
		t.Cleanup(func() { client.Close() })
	}
	return client, err
}

// matrix is what libs/auth/tests/support/certificate-matrix.ts has written; the controllers' verifier is held to it as well.
func matrix(t *testing.T) (known struct {
	Authority    string
	Principal    string
	AtSeconds    int64
	Certificates []struct {
		Name   string
		IsGood bool
		Blob   []byte
	}
}) {
	t.Helper()
	data, err := os.ReadFile("testdata/certificates.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &known); err != nil {
		t.Fatal(err)
	}
	return known
}

func TestCertificatesAreJudgedAsByTheControllers(t *testing.T) {
	known := matrix(t)
	if len(known.Certificates) < 60 {
		t.Fatalf("%d certificates", len(known.Certificates))
	}
	keys, err := parseKeys([]string{known.Authority})
	if err != nil {
		t.Fatal(err)
	}
	a := authorities{keys, known.Principal}
	for _, c := range known.Certificates {
		t.Run(c.Name, func(t *testing.T) {
			key, err := ssh.ParsePublicKey(c.Blob)
			if certificate, ok := key.(*ssh.Certificate); err == nil && ok {
				err = a.check(certificate, time.Unix(known.AtSeconds, 0))
			} else if err == nil {
				err = errors.New("no certificate")
			}
			if (err == nil) != c.IsGood {
				t.Errorf("good: %v; want %v (%v)", err == nil, c.IsGood, err)
			}
		})
	}
}

func TestACertificateIsLetInOnTheConnectionThatItCameWith(t *testing.T) {
	ca, _ := newKey(t)
	other, _ := newKey(t)
	ours := []string{lineOf(ca.PublicKey())}
	expired := func(c *ssh.Certificate) { c.ValidBefore = uint64(time.Now().Add(-time.Minute).Unix()) }
	fromHere := func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "127.0.0.0/8"} }
	good, another := newCertificate(t, ca, nil), newCertificate(t, ca, nil)
	for name, c := range map[string]struct {
		authorities []string
		session     ssh.Signer
		shown       ssh.Signer
		want        bool
	}{
		"of the authority":             {ours, good, good, true},
		"of a connection of its own":   {ours, nil, good, false},
		"of another's connection":      {ours, another, good, false},
		"of another authority":         {ours, newCertificate(t, other, nil), nil, false},
		"that is over":                 {ours, newCertificate(t, ca, expired), nil, false},
		"for this very address":        {ours, newCertificate(t, ca, fromHere), nil, false},
		"where no authority is known":  {nil, good, good, true},
		"and of another where none is": {nil, another, good, false},
	} {
		t.Run(name, func(t *testing.T) {
			sessionKey := ""
			if c.session != nil {
				sessionKey = lineOf(c.session.PublicKey())
			}
			if c.shown == nil {
				c.shown = c.session
			}
			if _, err := login(t, c.authorities, sessionKey, c.shown); (err == nil) != c.want {
				t.Errorf("let in: %v; want %v (%v)", err == nil, c.want, err)
			}
		})
	}
}

func TestAConnectionThatIsLimitedLetsItsOwnKeyInAsThoseUsersAlone(t *testing.T) {
	ca, _ := newKey(t)
	of, _ := newKey(t)
	other, _ := newKey(t)
	certificate := newCertificate(t, ca, nil)
	// The one user beside root that every machine has on which this runs.
	const user = "daemon"
	for name, c := range map[string]struct {
		user   string
		logins []string
		shown  ssh.Signer
		want   bool
	}{
		"as one of them":              {user, []string{"dev", user}, of, true},
		"as one of them, certified":   {user, []string{user}, certificate, true},
		"as another":                  {"root", []string{user}, of, false},
		"as another, certified":       {"root", []string{user}, certificate, false},
		"as nobody":                   {user, []string{}, of, false},
		"as whomever":                 {"root", nil, of, true},
		"as one that is not there":    {"no-such-user", []string{"no-such-user"}, of, false},
		"by a key of the VM":          {user, []string{user}, other, false},
		"by a key of the VM, as ever": {user, nil, other, true},
	} {
		t.Run(name, func(t *testing.T) {
			session := c.shown
			if session == other {
				session = of
			}
			config := boot.SSH{UserCA: []string{lineOf(ca.PublicKey())}, AuthorizedKeys: []string{lineOf(other.PublicKey())}}
			admission := sshfront.Admission{SessionKey: lineOf(session.PublicKey()), Logins: c.logins}
			if _, err := loginAs(t, c.user, config, admission, c.shown); (err == nil) != c.want {
				t.Errorf("let in: %v; want %v (%v)", err == nil, c.want, err)
			}
		})
	}
}

func TestKeysThatAreNotKeptOpenNothingMore(t *testing.T) {
	one, _ := newKey(t)
	other, _ := newKey(t)
	_, hostKey := newKey(t)
	lines := []string{lineOf(one.PublicKey()), lineOf(other.PublicKey())}
	server, err := New(sshfront.Settings{SSH: boot.SSH{HostKey: hostKey, AuthorizedKeys: lines, Principal: vm}})
	if err != nil {
		t.Fatal(err)
	}
	before := server.listed()
	server.keep([]string{ssh.FingerprintSHA256(other.PublicKey()), "SHA256:another"})
	if got := server.listed(); len(got) != 1 || !bytes.Equal(got[0], other.PublicKey().Marshal()) {
		t.Errorf("kept %d keys", len(got))
	}
	if len(before) != 2 || !bytes.Equal(before[0], one.PublicKey().Marshal()) {
		t.Error("the list that a connection was begun with has changed under it")
	}
	server.keep([]string{})
	if got := server.listed(); len(got) != 0 {
		t.Errorf("kept %d keys of none", len(got))
	}
}

func TestAnAdmissionArrivesAsItWasSent(t *testing.T) {
	for _, want := range []sshfront.Admission{
		{}, {SessionKey: "ssh-ed25519 AAAA", Logins: []string{"dev", "ops"}}, {SessionKey: "k", Logins: []string{}}, {SessionKey: "k"}, {Kept: []string{}}, {Kept: []string{"SHA256:x"}},
	} {
		message, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got sshfront.Admission
		if err := json.Unmarshal(message, &got); err != nil || (got.Logins == nil) != (want.Logins == nil) || (got.Kept == nil) != (want.Kept == nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s became %+v (%v)", message, got, err)
		}
	}
}

func TestACertificateWithoutExtensionsGivesNoTerminalAndNoForwards(t *testing.T) {
	ca, _ := newKey(t)
	signer := newCertificate(t, ca, nil)
	client, err := login(t, []string{lineOf(ca.PublicKey())}, lineOf(signer.PublicKey()), signer)
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

func TestRightsAreThoseOfTheExtensions(t *testing.T) {
	if got := rightsOf(&ssh.Permissions{Extensions: map[string]string{permitPty: ""}}); got != (rights{noForwards: true}) {
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
