// Package boot takes the VM from the kernel's hand-over to a mounted root filesystem with a network.
package boot

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
)

const configPath = "/pitwall/config.json"

// Config is what the node wrote for this VM; docs/architecture.md, "Initramfs".
type Config struct {
	Hostname string        `json:"hostname"`
	Network  NetworkConfig `json:"network"`
	SSH      SSH           `json:"ssh"`
	Process  Process       `json:"process"`
	// ReadOnlyRoot leaves only the volumes writable, and what is in memory.
	ReadOnlyRoot bool    `json:"read_only_root"`
	Channel      Channel `json:"channel"`
	// Disks says how the disks are told apart: by their serial, or by which of them is read-only.
	Disks string `json:"disks"`
}

// How disks are told apart.
const (
	BySerial = "serial"
	ByMode   = "mode"
)

// NetworkConfig is the one interface of the VM.
type NetworkConfig struct {
	Interface string       `json:"interface"`
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway"`
	DNS       []netip.Addr `json:"dns"`
	// Address6 and Gateway6 are invalid where there is no IPv6, and MTU is 0 where the device says it.
	Address6 netip.Prefix `json:"address6"`
	Gateway6 netip.Addr   `json:"gateway6"`
	MTU      uint32       `json:"mtu"`
}

// SSH holds the VM's host key (PKCS#8 PEM) and the keys it lets in.
type SSH struct {
	HostKey        string   `json:"host_key"`
	AuthorizedKeys []string `json:"authorized_keys"`
	// UserCA are the authorities that certificates must be of, and Principal is what they must name: the VM's id.
	UserCA    []string `json:"user_ca"`
	Principal string   `json:"principal"`
}

// Process is the image's own process, merged by the node from image configuration and VM specification.
type Process struct {
	Argv       []string `json:"argv"`
	Env        []string `json:"env"`
	User       string   `json:"user"`
	WorkingDir string   `json:"working_dir"`
	StopSignal string   `json:"stop_signal"`
	// Volumes are folders that the process expects to be there.
	Volumes []string `json:"volumes"`
	// Restart is "never", "on-failure" or "always"; empty: never.
	Restart     string       `json:"restart"`
	Healthcheck *Healthcheck `json:"healthcheck"`
}

// Healthcheck is the image's, with its defaults filled in. Times are in milliseconds.
type Healthcheck struct {
	// Test is CMD with arguments, or CMD-SHELL with a line.
	Test            []string `json:"test"`
	IntervalMs      int64    `json:"interval_ms"`
	TimeoutMs       int64    `json:"timeout_ms"`
	StartPeriodMs   int64    `json:"start_period_ms"`
	StartIntervalMs int64    `json:"start_interval_ms"`
	Retries         int      `json:"retries"`
}

// Kinds of channels.
const (
	VirtioSerial = "virtio-serial"
	Vsock        = "vsock"
)

// Channel names the device that leads to the node: a port of a serial device has a name, a port of a vsock device a number.
type Channel struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	Port uint32 `json:"port"`
}

func (c Channel) check() error {
	switch {
	case c.Kind == VirtioSerial && c.Name != "" && c.Port == 0:
		return nil
	case c.Kind == Vsock && c.Name == "" && c.Port != 0:
		return nil
	}
	return fmt.Errorf("config: channel: expected %s with a name or %s with a port, got %q", VirtioSerial, Vsock, c.Kind)
}

func parseConfig(data []byte) (*Config, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var config Config
	if err := decoder.Decode(&config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := config.Channel.check(); err != nil {
		return nil, err
	}
	switch config.Disks {
	case "":
		config.Disks = BySerial
	case BySerial, ByMode:
	default:
		return nil, fmt.Errorf("config: disks: expected %s or %s, got %q", BySerial, ByMode, config.Disks)
	}
	switch config.Process.Restart {
	case "", "never", "on-failure", "always":
	default:
		return nil, fmt.Errorf("config: process.restart: expected never, on-failure or always, got %q", config.Process.Restart)
	}
	if config.Hostname == "" {
		return nil, fmt.Errorf("config: hostname is missing")
	}
	return &config, nil
}

// readConfig reads the configuration and removes it: it holds secrets and the initramfs stays in memory.
func readConfig() (*Config, error) {
	data, err := os.ReadFile(configPath)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(configPath); err != nil {
		return nil, err
	}
	return parseConfig(data)
}
