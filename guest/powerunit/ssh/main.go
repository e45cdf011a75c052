// Powerunit-ssh is the VM's SSH server; PID 1 starts it and hands it connections. Under the names of internal/sshd it is its own SFTP and
// SCP helper.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"pitwall.dev/powerunit/internal/sshd"
	"pitwall.dev/powerunit/internal/sshfront"
)

const linkFile = 3

func main() {
	switch filepath.Base(os.Args[0]) {
	case sshd.SftpName:
		os.Exit(sshd.ServeSftp())
	case sshd.ScpName:
		os.Exit(sshd.ServeScp(os.Args[1:]))
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "powerunit-ssh:", err)
		os.Exit(1)
	}
}

func run() error {
	var settings sshfront.Settings
	if err := json.NewDecoder(os.Stdin).Decode(&settings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	link, err := net.FileConn(os.NewFile(linkFile, "link"))
	if err != nil {
		return err
	}
	server, err := sshd.New(settings)
	if err != nil {
		return err
	}
	return server.Run(link.(*net.UnixConn)) // PID 1 made it as one
}
