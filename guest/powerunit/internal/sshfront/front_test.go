package sshfront

import (
	"slices"
	"testing"
)

func TestLinesOfKeptKeysStay(t *testing.T) {
	const one = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBPHpyLDFwFnzgRWSEgq2gGXqZqLMZyOgLzKcXvMOIUS ada"
	lines := []string{one, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "damaged", "also !"}
	// As ssh-keygen -l has it.
	key := "SHA256:BYMkPKxEE1NG+43TQIpn5NMOeG1bwSYSFGvyovdygN4"
	if got := keep(lines, []string{key}); !slices.Equal(got, []string{one}) {
		t.Errorf("kept %q", got)
	}
	if got := keep(lines, []string{}); len(got) != 0 {
		t.Errorf("kept %q of none", got)
	}
	if len(lines) != 4 || lines[0] != one {
		t.Error("the list itself was changed")
	}
}
