package boot

import (
	"strings"
	"testing"
)

func TestChannelsThatAreTaken(t *testing.T) {
	for _, channel := range []string{`{"kind":"virtio-serial","name":"pitwall.guest"}`, `{"kind":"vsock","port":1024}`} {
		if _, err := parseConfig([]byte(`{"hostname":"vm","channel":` + channel + `}`)); err != nil {
			t.Errorf("%s: %v", channel, err)
		}
	}
}

func TestChannelsThatAreRefused(t *testing.T) {
	for _, channel := range []string{
		`{}`, `{"kind":"virtio-serial"}`, `{"kind":"vsock"}`, `{"kind":"vsock","name":"pitwall.guest"}`,
		`{"kind":"vsock","name":"pitwall.guest","port":1024}`, `{"kind":"virtio-serial","name":"x","port":1024}`, `{"kind":"tcp","port":1024}`,
	} {
		_, err := parseConfig([]byte(`{"hostname":"vm","channel":` + channel + `}`))
		if err == nil || !strings.Contains(err.Error(), "expected virtio-serial with a name or vsock with a port") {
			t.Errorf("%s: %v", channel, err)
		}
	}
}

func TestANetworkWithoutAnAddressIsNone(t *testing.T) {
	config, err := parseConfig([]byte(`{"hostname":"vm","channel":{"kind":"vsock","port":1024},"network":{"interface":"","address":"","gateway":"","dns":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if config.Network.Address.IsValid() || config.Network.Gateway.IsValid() {
		t.Errorf("got %+v", config.Network)
	}
}
