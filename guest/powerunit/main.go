// Powerunit is PID 1 of every Pitwall VM: it assembles the root filesystem, supervises the image's own process, serves the guest API,
// and hands SSH connections to the process that serves them (ssh/).
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"

	"pitwall.dev/powerunit/internal/agent"
	"pitwall.dev/powerunit/internal/boot"
	"pitwall.dev/powerunit/internal/cgroups"
	"pitwall.dev/powerunit/internal/channel"
	"pitwall.dev/powerunit/internal/failpoint"
	"pitwall.dev/powerunit/internal/sshfront"
	"pitwall.dev/powerunit/internal/supervise"
)

// version is set by the build.
var version = "dev"

func main() {
	if len(os.Args) > 0 && os.Args[0] == supervise.InitName {
		fmt.Fprintln(os.Stderr, "powerunit:", supervise.BecomeInit(os.Args))
		os.Exit(126)
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "powerunit is the init of a Pitwall VM and does nothing elsewhere")
		os.Exit(2)
	}
	// Each processor that Go may use has caches of its own; this program waits and copies.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(50)
	if err := run(); err != nil {
		boot.Die(err)
	}
}

func run() error {
	config, err := boot.Early()
	if err != nil {
		return err
	}
	supervise.InheritedLimits()
	processes := supervise.NewProcesses()
	state := agent.NewState(version)
	port := make(chan error, 1)
	service := supervise.NewService(processes, config.Process)
	ssh, err := sshfront.New(config.SSH, config.Process.Env, processes)
	if err := errors.Join(err, failpoint.At("guest.hostkey")); err != nil {
		return err
	}
	server := agent.NewServer(state, service, processes, ssh, config.Process.Env)
	go func() {
		// The channel first: the node learns about everything else, failures too, through it.
		port <- serveChannel(config.Channel, server.Control)
	}()
	network := make(chan error, 1)
	go func() { network <- boot.Network(config.Network) }()
	if err := errors.Join(boot.Root(config), failpoint.At("guest.mount")); err != nil {
		state.Fail(err)
		return err
	}
	cgroups.Setup()
	if err := errors.Join(<-network, failpoint.At("guest.net")); err != nil {
		state.Fail(err)
		return err
	}
	service.OnChange(state.Service)
	service.Start()
	ssh.Listen()
	if err := failpoint.At("guest.ssh.listen"); err != nil {
		state.Fail(err)
		return err
	}
	state.Ready()
	if err := failpoint.At("guest.report"); err != nil {
		return err
	}
	ssh.Start()
	debug.FreeOSMemory()
	return <-port
}

func serveChannel(to boot.Channel, session func(net.Conn)) error {
	if to.Kind == boot.Vsock {
		return channel.ServeVsock(to.Port, session)
	}
	return channel.ServeSerial(to.Name, session)
}
