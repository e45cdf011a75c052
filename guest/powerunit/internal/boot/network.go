package boot

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const interfaceWait = 10 * time.Second

// Network brings up loopback and the VM's one interface. An invalid address means that there is none.
func Network(config NetworkConfig) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer unix.Close(socket)
	if err := setUp(socket, "lo"); err != nil {
		return err
	}
	if !config.Address.IsValid() {
		return nil
	}
	for deadline := time.Now().Add(interfaceWait); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat("/sys/class/net/" + config.Interface); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("network: no interface %s after %v", config.Interface, interfaceWait)
		}
	}
	if config.MTU != 0 {
		if err := setMTU(socket, config.Interface, config.MTU); err != nil {
			return err
		}
	}
	if config.Address6.IsValid() {
		believeNobody(config.Interface)
	}
	mask := net.CIDRMask(config.Address.Bits(), 32)
	for _, set := range []struct {
		request uint
		address []byte
	}{{unix.SIOCSIFADDR, config.Address.Addr().AsSlice()}, {unix.SIOCSIFNETMASK, mask}} {
		request, err := unix.NewIfreq(config.Interface)
		if err != nil {
			return fmt.Errorf("network: %w", err)
		}
		if err := request.SetInet4Addr(set.address); err != nil {
			return fmt.Errorf("network: address of %s: %w", config.Interface, err)
		}
		if err := unix.IoctlIfreq(socket, set.request, request); err != nil {
			return fmt.Errorf("network: address of %s: %w", config.Interface, err)
		}
	}
	if err := setUp(socket, config.Interface); err != nil {
		return err
	}
	if config.Gateway.IsValid() {
		if err := defaultRoute(socket, config.Gateway); err != nil {
			return err
		}
	}
	if !config.Address6.IsValid() {
		return nil
	}
	return network6(config)
}

func setMTU(socket int, name string, mtu uint32) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	request.SetUint32(mtu)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFMTU, request); err != nil {
		return fmt.Errorf("network: MTU of %s: %w", name, err)
	}
	return nil
}

func setUp(socket int, name string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("network: %s up: %w", name, err)
	}
	return nil
}

// routeEntry is the kernel's struct rtentry on 64-bit Linux (include/uapi/linux/route.h).
type routeEntry struct {
	_                     uint64
	dst, gateway, genmask unix.RawSockaddrInet4
	flags                 uint16
	_                     [2]byte
	_                     uint64
	_                     uint64
	_                     [8]byte
	dev                   uintptr
	mtu, window           uint64
	irtt                  uint16
	_                     [6]byte
}

func defaultRoute(socket int, gateway netip.Addr) error {
	route := routeEntry{flags: unix.RTF_UP | unix.RTF_GATEWAY}
	route.dst.Family, route.genmask.Family, route.gateway.Family = unix.AF_INET, unix.AF_INET, unix.AF_INET
	route.gateway.Addr = gateway.As4()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCADDRT, uintptr(unsafe.Pointer(&route))); errno != 0 {
		return fmt.Errorf("network: route through %s: %w", gateway, errno)
	}
	return nil
}
