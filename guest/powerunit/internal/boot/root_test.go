package boot

import (
	"os"
	"testing"
)

func TestVolumesAreMadeAndLeftAlone(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(root+"/data", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/file", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	makeVolumes(root, []string{"/data", "made/here", "/file/below"})
	if info, err := os.Stat(root + "/data"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data = %v, %v; want it as it was", info, err)
	}
	if info, err := os.Stat(root + "/made/here"); err != nil || !info.IsDir() || info.Mode().Perm() != 0o755 {
		t.Errorf("made/here = %v, %v", info, err)
	}
}
