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
	Channel  Channel       `json:"channel"`
}

// NetworkConfig is the one interface of the VM.
type NetworkConfig struct {
	Interface string       `json:"interface"`
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway"`
	DNS       []netip.Addr `json:"dns"`
}

// SSH holds the VM's host key (PKCS#8 PEM) and the keys it lets in.
type SSH struct {
	HostKey        string   `json:"host_key"`
	AuthorizedKeys []string `json:"authorized_keys"`
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
}

// Channel names the device that leads to the node.
type Channel struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

func parseConfig(data []byte) (*Config, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var config Config
	if err := decoder.Decode(&config); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if config.Channel.Kind != "virtio-serial" || config.Channel.Name == "" {
		return nil, fmt.Errorf("config: channel: expected virtio-serial with a name, got %q", config.Channel.Kind)
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
