package boot

import (
	"os"
	"testing"
)

func TestDisksAreToldApart(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{"vda/ro": "1", "vda/serial": "base", "vdb/ro": "0", "vdb/serial": "data\n"} {
		if err := os.MkdirAll(root+"/"+path[:3], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root+"/"+path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, by := range []string{BySerial, ByMode} {
		for name, device := range map[string]string{"base": "vda", "data": "vdb"} {
			for _, candidate := range []string{"vda", "vdb", "vdc"} {
				if got := isDisk(root+"/"+candidate, by, name); got != (candidate == device) {
					t.Errorf("by %s: %s is %s: %v", by, candidate, name, got)
				}
			}
		}
	}
}

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
