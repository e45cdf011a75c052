// fence ends VMs that may be started elsewhere once their node's lease has run out. It is a process of its own, so that it does so
// also when the agent is dead or stopped (docs/decisions/0011-fence.md). It is a program of the host, built with powerunit.
//
//	fence: listens on fence.sock in its working directory, where it also keeps fence.log
//
// States: idle (nothing guarded) -> armed (something guarded, until the deadline) -> tripped (it kills what is guarded, again and again,
// because an agent that wakes up late may still start one) -> armed (a later deadline). It ends when nobody is connected and nothing is
// guarded that still runs.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

const socketName = "fence.sock"

func main() {
	// It outlives the terminal and the agent that it was started by.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGPIPE)
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	if conn, err := net.Dial("unix", socketName); err == nil {
		conn.Close()
		return fmt.Errorf("another fence serves this folder")
	}
	if err := os.Remove(socketName); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the socket of an earlier fence: %w", err)
	}
	listener, err := net.Listen("unix", socketName)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer os.Remove(socketName)
	if err := os.Chmod(socketName, 0o600); err != nil {
		return fmt.Errorf("protect the socket: %w", err)
	}
	record, err := openRecord("fence.log")
	if err != nil {
		return err
	}
	return serve(listener, newGuard(record))
}
