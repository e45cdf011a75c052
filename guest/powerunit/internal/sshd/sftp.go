package sshd

import (
	"fmt"
	"io"
	"os"

	"github.com/pkg/sftp"
)

// SftpName is the argv[0] under which powerunit is an SFTP server on its standard streams, running as the user who asked for it.
const SftpName = "sftp-server"

type standardStreams struct{}

func (standardStreams) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (standardStreams) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (standardStreams) Close() error                { return os.Stdout.Close() }

// ServeSftp returns the process's exit code.
func ServeSftp() int {
	options := []sftp.ServerOption{}
	if dir, err := os.Getwd(); err == nil {
		options = append(options, sftp.WithServerWorkingDirectory(dir))
	}
	server, err := sftp.NewServer(standardStreams{}, options...)
	if err == nil {
		err = server.Serve()
	}
	if err != nil && err != io.EOF {
		fmt.Fprintln(os.Stderr, "sftp:", err)
		return 1
	}
	return 0
}
