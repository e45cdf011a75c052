package agent

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/rpc"
	"pitwall.dev/powerunit/internal/users"
)

const filesPerMessage = 256

func checkPath(path string) error {
	if !filepath.IsAbs(path) {
		return rpc.Errorf(rpc.InvalidArgument, "path: expected an absolute path, got %q", path)
	}
	return nil
}

// fileFault names the file as the caller did.
func fileFault(path string, err error) error {
	code := rpc.FailedPrecondition
	if errors.Is(err, fs.ErrNotExist) {
		code = rpc.NotFound
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return rpc.Errorf(code, "%s: %v", path, err)
}

func wireFile(path string, info fs.FileInfo) *pb.FileInfo {
	file := &pb.FileInfo{
		Name: info.Name(), Kind: pb.FileKind_FILE_KIND_OTHER, SizeBytes: uint64(info.Size()), ModifyTime: new(info.ModTime()),
	}
	switch info.Mode().Type() {
	case 0:
		file.Kind = pb.FileKind_FILE_KIND_FILE
	case fs.ModeDir:
		file.Kind = pb.FileKind_FILE_KIND_FOLDER
	case fs.ModeSymlink:
		file.Kind = pb.FileKind_FILE_KIND_LINK
		file.LinkTarget, _ = os.Readlink(path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		file.Mode, file.Uid, file.Gid = stat.Mode&0o7777, stat.Uid, stat.Gid
	}
	return file
}

func statFile(request *pb.StatFileRequest) (*pb.StatFileResponse, error) {
	if err := checkPath(request.Path); err != nil {
		return nil, err
	}
	info, err := os.Lstat(request.Path)
	if err != nil {
		return nil, fileFault(request.Path, err)
	}
	return &pb.StatFileResponse{File: wireFile(request.Path, info)}, nil
}

func listFiles(request *pb.ListFilesRequest, stream *rpc.Stream) error {
	if err := checkPath(request.Path); err != nil {
		return err
	}
	entries, err := os.ReadDir(request.Path)
	if err != nil {
		return fileFault(request.Path, err)
	}
	response := &pb.ListFilesResponse{}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue // gone meanwhile
		}
		response.Files = append(response.Files, wireFile(filepath.Join(request.Path, entry.Name()), info))
		if len(response.Files) == filesPerMessage {
			if err := stream.Send(response); err != nil {
				return err
			}
			response = &pb.ListFilesResponse{}
		}
	}
	if len(response.Files) == 0 {
		return nil
	}
	return stream.Send(response)
}

func readFile(request *pb.ReadFileRequest, stream *rpc.Stream) error {
	if err := checkPath(request.Path); err != nil {
		return err
	}
	file, err := os.OpenFile(request.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fileFault(request.Path, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return rpc.Errorf(rpc.FailedPrecondition, "%s: not a regular file", request.Path)
	}
	if request.OffsetBytes > 0 {
		if _, err := file.Seek(int64(request.OffsetBytes), io.SeekStart); err != nil {
			return fileFault(request.Path, err)
		}
	}
	var from io.Reader = file
	if request.LimitBytes > 0 {
		from = io.LimitReader(file, int64(request.LimitBytes))
	}
	buffer := make([]byte, chunk)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if err := stream.Send(&pb.ReadFileResponse{Data: buffer[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fileFault(request.Path, err)
		}
	}
}

// writeFile leaves nothing behind unless the caller has sent all.
func writeFile(stream *rpc.Stream) error {
	var first pb.WriteFileRequest
	if err := stream.Recv(&first); err != nil {
		return err
	}
	start := first.Start
	if start == nil {
		return rpc.Errorf(rpc.InvalidArgument, "start: the first message must name a file")
	}
	if err := checkPath(start.Path); err != nil {
		return err
	}
	user, err := users.Load().Resolve(start.User)
	if err != nil {
		return rpc.Errorf(rpc.InvalidArgument, "start.user: %v", err)
	}
	file, err := os.CreateTemp(filepath.Dir(start.Path), ".pitwall-*")
	if err != nil {
		return fileFault(start.Path, err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	for {
		var request pb.WriteFileRequest
		err := stream.Recv(&request)
		if err == io.EOF {
			return rpc.Errorf(rpc.Aborted, "%s: the caller left before the end", start.Path)
		}
		if err != nil {
			return err
		}
		if request.End != nil && *request.End {
			break
		}
		if _, err := file.Write(request.Data); err != nil {
			return fileFault(start.Path, err)
		}
	}
	mode := start.Mode & 0o7777
	if mode == 0 {
		mode = 0o644
	}
	for _, step := range []func() error{
		func() error { return file.Chown(int(user.UID), int(user.GID)) },
		func() error { return syscall.Fchmod(int(file.Fd()), mode) }, // after chown, which takes the set-id bits away
		file.Sync,
		func() error { return os.Rename(file.Name(), start.Path) },
	} {
		if err := step(); err != nil {
			return fileFault(start.Path, err)
		}
	}
	info, err := os.Lstat(start.Path)
	if err != nil {
		return fileFault(start.Path, err)
	}
	return stream.Send(&pb.WriteFileResponse{File: wireFile(start.Path, info)})
}
