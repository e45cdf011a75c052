package agent

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/logring"
)

// tick is USER_HZ, which is 100 on every Linux that runs Go.
const tick = 10 * time.Millisecond

func wireLog(entry logring.Entry) *pb.ReadLogsResponse {
	kind := pb.ReadLogsResponse_STREAM_STDOUT
	if entry.Stderr {
		kind = pb.ReadLogsResponse_STREAM_STDERR
	}
	return &pb.ReadLogsResponse{Stream: kind, Data: entry.Data, Time: timestamppb.New(entry.Time)}
}

// readStats reads proc(5) and the root filesystem.
func readStats() (*pb.GetStatsResponse, error) {
	stats := &pb.GetStatsResponse{Uptime: durationpb.New(uptime())}
	memory, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(memory)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "MemTotal:":
			stats.MemTotalBytes = number(fields[1]) << 10
		case "MemAvailable:":
			stats.MemAvailableBytes = number(fields[1]) << 10
		}
	}
	cpu, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	if fields := strings.Fields(string(cpu)); len(fields) > 8 { // cpu user nice system idle iowait irq softirq
		busy := number(fields[1]) + number(fields[2]) + number(fields[3]) + number(fields[6]) + number(fields[7])
		stats.CpuTime = durationpb.New(time.Duration(busy) * tick)
	}
	network, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(network)) {
		name, rest, found := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if found && strings.TrimSpace(name) != "lo" && len(fields) > 8 {
			stats.NetReceiveBytes += number(fields[0])
			stats.NetTransmitBytes += number(fields[8])
		}
	}
	var root unix.Statfs_t
	if err := unix.Statfs("/", &root); err != nil {
		return nil, err
	}
	stats.DiskTotalBytes = root.Blocks * uint64(root.Bsize)
	stats.DiskFreeBytes = root.Bavail * uint64(root.Bsize)
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, entry := range processes {
		if _, err := strconv.Atoi(entry.Name()); err == nil {
			stats.ProcessCount++
		}
	}
	return stats, nil
}

func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
