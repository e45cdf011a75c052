package agent

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/rpc"
)

const (
	maxEntropy = 4096
	// random(4), <linux/random.h>.
	rndAddEntropy = 0x40085203
	rndReseed     = 0x5207
)

// addEntropy credits the bytes and has the kernel use them at once.
func addEntropy(request *pb.AddEntropyRequest) (*pb.AddEntropyResponse, error) {
	n := len(request.Data)
	if n == 0 || n > maxEntropy {
		return nil, rpc.Errorf(rpc.InvalidArgument, "data: expected 1 to %d bytes, got %d", maxEntropy, n)
	}
	file, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return nil, rpc.Errorf(rpc.Internal, "%v", err)
	}
	defer file.Close()
	pool := binary.NativeEndian.AppendUint32(nil, uint32(n*8)) // struct rand_pool_info: bits, bytes, the bytes
	pool = append(binary.NativeEndian.AppendUint32(pool, uint32(n)), request.Data...)
	if err := ioctlBytes(int(file.Fd()), rndAddEntropy, pool); err != nil {
		return nil, rpc.Errorf(rpc.Internal, "add entropy: %v", err)
	}
	if err := unix.IoctlSetInt(int(file.Fd()), rndReseed, 0); err != nil {
		return nil, rpc.Errorf(rpc.Internal, "reseed: %v", err)
	}
	return &pb.AddEntropyResponse{}, nil
}
