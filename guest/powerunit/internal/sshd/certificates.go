package sshd

import (
	"bytes"
	"errors"
	"slices"

	"golang.org/x/crypto/ssh"
)

// Critical options and extensions of OpenSSH's PROTOCOL.certkeys.
const (
	forceCommand   = "force-command"
	sourceAddress  = "source-address"
	permitPty      = "permit-pty"
	permitForwards = "permit-port-forwarding"
)

func newChecker(authorities [][]byte) ssh.CertChecker {
	return ssh.CertChecker{
		SupportedCriticalOptions: []string{forceCommand, sourceAddress},
		IsUserAuthority: func(key ssh.PublicKey) bool {
			return slices.ContainsFunc(authorities, func(authority []byte) bool { return bytes.Equal(authority, key.Marshal()) })
		},
	}
}

// checkCertificate lets in a certificate of an authority of ours that names the user. One that names nobody is for nobody. The
// library checks source-address: over the guest channel there is none, so such a certificate is good for port 22 only.
func (s *Server) checkCertificate(meta ssh.ConnMetadata, certificate *ssh.Certificate) (*ssh.Permissions, error) {
	if len(certificate.ValidPrincipals) == 0 {
		return nil, errors.New("the certificate names no principal")
	}
	return s.checker.Authenticate(meta, certificate)
}

// rights are what a client may do; a plain key may do all.
type rights struct {
	command           string // in place of any other; empty: none
	noPty, noForwards bool
}

func rightsOf(permissions *ssh.Permissions) rights {
	if permissions == nil || permissions.CriticalOptions == nil && permissions.Extensions == nil {
		return rights{}
	}
	_, pty := permissions.Extensions[permitPty]
	_, forwards := permissions.Extensions[permitForwards]
	return rights{command: permissions.CriticalOptions[forceCommand], noPty: !pty, noForwards: !forwards}
}
