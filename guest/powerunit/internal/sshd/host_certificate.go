package sshd

import "golang.org/x/crypto/ssh"

// shown are the host keys of a connection: the VM's own, and behind it the same with the certificate of this line, if it is a host's and of this
// key. A client that knows the key, or nothing of certificates, takes the key; what a client that believes the certificate makes of one that is
// not good is its own to say. A line that is of no use here costs nobody the connection: the client then sees the key alone.
func shown(key ssh.Signer, line string) []ssh.Signer {
	parsed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		return []ssh.Signer{key}
	}
	certificate, ok := parsed.(*ssh.Certificate)
	if !ok || certificate.CertType != ssh.HostCert {
		return []ssh.Signer{key}
	}
	certified, err := ssh.NewCertSigner(certificate, key) // it looks whether they belong together
	if err != nil {
		return []ssh.Signer{key}
	}
	return []ssh.Signer{key, certified}
}
