package sshd

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// Extensions of OpenSSH's PROTOCOL.certkeys.
const (
	permitPty      = "permit-pty"
	permitForwards = "permit-port-forwarding"
)

const (
	maxCertificateBytes = 4096
	// clockSkew is between the controllers' clocks and this VM's.
	clockSkew = 30 * time.Second
)

// authorities are the marshalled keys that sign certificates for this VM.
type authorities struct {
	keys [][]byte
	// principal is the VM's id: a certificate must name it.
	principal string
}

// check says why a certificate opens this VM to nobody at this time; nil: it opens it. The same is decided by the controllers, from code of
// their own (libs/auth, ssh-certificate.ts): testdata/certificates.json holds both to the same answers. A condition is refused, whichever it
// is: an installation makes none, and the library takes source-address for one that its caller knows.
func (a authorities) check(certificate *ssh.Certificate, now time.Time) error {
	switch {
	case len(certificate.Marshal()) > maxCertificateBytes:
		return fmt.Errorf("the certificate is longer than %d bytes", maxCertificateBytes)
	case certificate.Type() != ssh.CertAlgoED25519v01:
		return fmt.Errorf("the certificate must be of type %s", ssh.CertAlgoED25519v01)
	case certificate.CertType != ssh.UserCert:
		return errors.New("the certificate must be a user's, not a host's")
	case len(certificate.Reserved) > 0:
		return errors.New("the certificate has something where nothing may be")
	case !slices.ContainsFunc(a.keys, func(key []byte) bool { return slices.Equal(key, certificate.SignatureKey.Marshal()) }):
		return errors.New("the certificate is of an authority that is not this installation's")
	case len(certificate.ValidPrincipals) == 0:
		return errors.New("the certificate names nobody")
	case len(certificate.CriticalOptions) > 0:
		return errors.New("the certificate has a condition, and none is known here")
	case certificate.ValidBefore > math.MaxInt64:
		return errors.New("the certificate has no end")
	case !slices.ContainsFunc(names(certificate), isUnshowable):
		checker := ssh.CertChecker{Clock: func() time.Time { return within(now, certificate.ValidAfter) }}
		return checker.CheckCert(a.principal, certificate)
	default:
		return errors.New("the certificate has a name that cannot be shown")
	}
}

// within is now, or the beginning of what begins a moment later.
func within(now time.Time, validAfter uint64) time.Time {
	if early := now.Add(clockSkew).Unix(); validAfter <= uint64(early) && validAfter > uint64(now.Unix()) {
		return time.Unix(int64(validAfter), 0)
	}
	return now
}

func names(certificate *ssh.Certificate) []string {
	all := append([]string{certificate.KeyId}, certificate.ValidPrincipals...)
	for name := range certificate.Extensions {
		all = append(all, name)
	}
	return all
}

func isUnshowable(name string) bool {
	return !utf8.ValidString(name) || slices.ContainsFunc([]rune(name), unicode.IsControl)
}

// rights are what a client may do; a plain key may do all.
type rights struct {
	noPty, noForwards bool
}

func rightsOf(permissions *ssh.Permissions) rights {
	if permissions == nil || permissions.Extensions == nil {
		return rights{}
	}
	_, pty := permissions.Extensions[permitPty]
	_, forwards := permissions.Extensions[permitForwards]
	return rights{noPty: !pty, noForwards: !forwards}
}
