package channel

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialled is a pair of connected sockets: our side as a file, the guest's as a descriptor. The kernel of a machine that tests run on
// need not have vsock, and from the first byte on there is no difference.
func dialled(t *testing.T) (*os.File, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[0]), "ours")
	t.Cleanup(func() { ours.Close() })
	return ours, fds[1]
}

type arrival struct {
	fd  int
	cid uint32
	err error
}

func serve(t *testing.T, session func(net.Conn)) (arrivals chan arrival, ended chan error) {
	t.Helper()
	arrivals, ended = make(chan arrival), make(chan error, 1)
	go func() {
		ended <- accept(func() (int, uint32, error) { a := <-arrivals; return a.fd, a.cid, a.err }, session)
	}()
	return arrivals, ended
}

func echo(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
}

func expectEnd(t *testing.T, file *os.File) {
	t.Helper()
	_ = file.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := file.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("expected the end, got %v", err)
	}
}

func expectEcho(t *testing.T, file *os.File) {
	t.Helper()
	_ = file.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := file.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(file, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestANewConnectionEndsTheOneBefore(t *testing.T) {
	arrivals, _ := serve(t, echo)
	first, theirs := dialled(t)
	arrivals <- arrival{theirs, unix.VMADDR_CID_HOST, nil}
	expectEcho(t, first)
	second, theirs := dialled(t)
	arrivals <- arrival{theirs, unix.VMADDR_CID_HOST, nil}
	expectEnd(t, first)
	expectEcho(t, second)
}

func TestOnlyTheHostIsLetIn(t *testing.T) {
	sessions := make(chan net.Conn, 1)
	arrivals, _ := serve(t, func(conn net.Conn) { sessions <- conn })
	for _, cid := range []uint32{unix.VMADDR_CID_LOCAL, 3, unix.VMADDR_CID_ANY} {
		stranger, theirs := dialled(t)
		arrivals <- arrival{theirs, cid, nil}
		expectEnd(t, stranger)
	}
	if len(sessions) != 0 {
		t.Error("a process of the VM has a session")
	}
}

func TestAStrangerDoesNotEndTheHostsSession(t *testing.T) {
	arrivals, _ := serve(t, echo)
	host, theirs := dialled(t)
	arrivals <- arrival{theirs, unix.VMADDR_CID_HOST, nil}
	stranger, theirs := dialled(t)
	arrivals <- arrival{theirs, unix.VMADDR_CID_LOCAL, nil}
	expectEnd(t, stranger)
	expectEcho(t, host)
}

func TestListeningThatFailsEndsAndWhatIsMomentaryDoesNot(t *testing.T) {
	arrivals, ended := serve(t, echo)
	arrivals <- arrival{-1, 0, unix.EINTR}
	arrivals <- arrival{-1, 0, unix.ECONNABORTED}
	arrivals <- arrival{-1, 0, unix.EBADF}
	if err := <-ended; !errors.Is(err, unix.EBADF) {
		t.Errorf("expected EBADF, got %v", err)
	}
}

func TestACloseEndsAReadThatWaits(t *testing.T) {
	ours, theirs := dialled(t)
	_ = ours
	conn := &vsockConn{File: os.NewFile(uintptr(theirs), "vsock")}
	read := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	conn.Close()
	conn.Close()
	select {
	case err := <-read:
		if err == nil {
			t.Error("read something")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("still reads")
	}
}
