package boot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ifreq6 is the kernel's struct in6_ifreq (include/uapi/linux/ipv6.h).
type ifreq6 struct {
	address   [16]byte
	prefixLen uint32
	index     int32
}

// routeEntry6 is the kernel's struct in6_rtmsg (include/uapi/linux/ipv6_route.h) on 64-bit Linux.
type routeEntry6 struct {
	dst, src, gateway [16]byte
	kind              uint32
	dstLen, srcLen    uint16
	metric            uint32
	info              uint64
	flags             uint32
	index             int32
}

// believeNobody is called before the interface is up: the address was given to this VM alone, so nobody needs to be asked whether it is
// taken, which takes a second; and no router on this network has anything to say.
func believeNobody(name string) {
	for _, set := range []struct{ key, value string }{{"accept_dad", "0"}, {"accept_ra", "0"}} {
		// A kernel without IPv6 lacks them, and then the address says so.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+set.key, []byte(set.value), 0o644)
	}
}

// network6 gives the interface its IPv6 address. A kernel without IPv6 leaves the VM with IPv4.
func network6(config NetworkConfig) error {
	socket, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("network: IPv6: %w", err)
	}
	defer unix.Close(socket)
	device, err := net.InterfaceByName(config.Interface)
	if err != nil {
		return fmt.Errorf("network: %s: %w", config.Interface, err)
	}
	address := ifreq6{address: config.Address6.Addr().As16(), prefixLen: uint32(config.Address6.Bits()), index: int32(device.Index)}
	if err := ioctl6(socket, unix.SIOCSIFADDR, unsafe.Pointer(&address)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("network: IPv6 address of %s: %w", config.Interface, err)
	}
	if !config.Gateway6.IsValid() {
		return nil
	}
	return defaultRoute6(socket, config.Gateway6, device.Index)
}

func defaultRoute6(socket int, gateway netip.Addr, index int) error {
	route := routeEntry6{gateway: gateway.As16(), metric: 1, flags: unix.RTF_UP | unix.RTF_GATEWAY, index: int32(index)}
	if err := ioctl6(socket, unix.SIOCADDRT, unsafe.Pointer(&route)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("network: route through %s: %w", gateway, err)
	}
	return nil
}

func ioctl6(socket int, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}
