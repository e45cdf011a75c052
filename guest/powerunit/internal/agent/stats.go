package agent

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	pb "pitwall.dev/powerunit/internal/gen/pitwallv1"
	"pitwall.dev/powerunit/internal/rpc"
)

const (
	// tick is USER_HZ, which is 100 on every Linux that runs Go.
	tick = 10 * time.Millisecond
	// sector is the unit of diskstats.
	sector = 512
)

func getStats(*pb.GetStatsRequest) (*pb.GetStatsResponse, error) {
	stats, err := readStats()
	if err != nil {
		return nil, rpc.Errorf(rpc.Internal, "%v", err)
	}
	return stats, nil
}

// readStats reads proc(5) and the root filesystem.
func readStats() (*pb.GetStatsResponse, error) {
	stats := &pb.GetStatsResponse{Uptime: new(uptime())}
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
		stats.CpuTime = new(time.Duration(busy) * tick)
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
	disks, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(disks)) { // Documentation/admin-guide/iostats.rst
		if fields := strings.Fields(line); len(fields) > 9 && strings.HasPrefix(fields[2], "vd") {
			stats.DiskReadBytes += number(fields[5]) * sector
			stats.DiskWriteBytes += number(fields[9]) * sector
		}
	}
	stats.CpuPressure, stats.MemPressure, stats.IoPressure = pressure("cpu"), pressure("memory"), pressure("io")
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

// pressure reads PSI (Documentation/accounting/psi.rst); nil where the kernel has none.
func pressure(of string) *pb.Pressure {
	content, err := os.ReadFile("/proc/pressure/" + of)
	if err != nil {
		return nil
	}
	return parsePressure(string(content))
}

func parsePressure(content string) *pb.Pressure {
	p := &pb.Pressure{}
	for line := range strings.Lines(content) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		var shares [2]float64
		for i, prefix := range []string{"avg10=", "avg60="} {
			shares[i], _ = strconv.ParseFloat(strings.TrimPrefix(fields[i+1], prefix), 64)
		}
		switch fields[0] {
		case "some":
			p.SomeAvg10, p.SomeAvg60 = shares[0], shares[1]
		case "full":
			p.FullAvg10, p.FullAvg60 = shares[0], shares[1]
		}
	}
	return p
}

func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}
