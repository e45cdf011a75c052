// Powerunit is PID 1 of every Pitwall VM: it assembles the root filesystem, supervises the image's own process, and serves SSH and
// the guest API. Run under the name "sftp-server" it is its own SFTP helper.
package main

import (
	"fmt"
	"os"

	"pitwall.dev/powerunit/internal/agent"
	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/channel"
	"pitwall.dev/powerunit/internal/sshd"
	"pitwall.dev/powerunit/internal/supervise"
)

// version is set by the build.
var version = "dev"

func main() {
	if len(os.Args) > 0 && os.Args[0] == sshd.SftpName {
		os.Exit(sshd.ServeSftp())
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "powerunit is the init of a Pitwall VM and does nothing elsewhere")
		os.Exit(2)
	}
	if err := run(); err != nil {
		boot.Die(err)
	}
}

func run() error {
	config, err := boot.Early()
	if err != nil {
		return err
	}
	processes := supervise.NewProcesses()
	state := agent.NewState(version)
	port := make(chan error, 1)
	service := supervise.NewService(processes, config.Process)
	ssh, err := sshd.New(config.SSH, config.Process.Env, processes)
	if err != nil {
		return err
	}
	server := agent.NewServer(state, service, processes, ssh, config.Process.Env)
	go func() {
		// The channel first: the node learns about everything else, failures too, through it.
		port <- channel.Serve(config.Channel.Name, server.Control)
	}()
	network := make(chan error, 1)
	go func() { network <- boot.Network(config.Network) }()
	if err := boot.Root(config); err != nil {
		state.Fail(err)
		return err
	}
	if err := <-network; err != nil {
		state.Fail(err)
		return err
	}
	service.OnExit(state.ServiceExited)
	service.Start()
	ssh.Listen()
	state.Ready()
	return <-port
}
