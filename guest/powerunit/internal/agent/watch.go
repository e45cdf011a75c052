package agent

import (
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/rpc"
)

const watched = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// watchFiles is inotify(7) until what is watched is gone or the caller is.
func watchFiles(request *pb.WatchFilesRequest, stream *rpc.Stream) error {
	if err := checkPath(request.Path); err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return rpc.Errorf(rpc.ResourceExhausted, "inotify: %v", err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	if _, err := unix.InotifyAddWatch(fd, request.Path, watched); err != nil {
		return fileFault(request.Path, err)
	}
	if err := stream.Send(&pb.WatchFilesResponse{}); err != nil {
		return err
	}
	go func() {
		<-stream.Context().Done()
		events.Close() // ends the read
	}()
	buffer := make([]byte, 8<<10)
	for {
		n, err := events.Read(buffer)
		if err != nil {
			return nil
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			mask := binary.NativeEndian.Uint32(rest[4:])
			end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
			name := strings.TrimRight(string(rest[unix.SizeofInotifyEvent:end]), "\x00")
			rest = rest[end:]
			if change := changeOf(mask); change != pb.WatchFilesResponse_CHANGE_UNSPECIFIED {
				if err := stream.Send(&pb.WatchFilesResponse{Change: change, Name: name}); err != nil {
					return err
				}
			}
			if mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0 {
				return nil
			}
		}
	}
}

func changeOf(mask uint32) pb.WatchFilesResponse_Change {
	switch {
	case mask&unix.IN_Q_OVERFLOW != 0:
		return pb.WatchFilesResponse_CHANGE_MISSED
	case mask&(unix.IN_CREATE|unix.IN_MOVED_TO) != 0:
		return pb.WatchFilesResponse_CHANGE_CREATED
	case mask&(unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0:
		return pb.WatchFilesResponse_CHANGE_DELETED
	case mask&(unix.IN_MODIFY|unix.IN_ATTRIB) != 0:
		return pb.WatchFilesResponse_CHANGE_MODIFIED
	}
	return pb.WatchFilesResponse_CHANGE_UNSPECIFIED
}
