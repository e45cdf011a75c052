package channel

import (
	"bytes"
	"testing"
)

func TestScannerFindsPreambleInAnyPieces(t *testing.T) {
	preamble := []byte(magic + "0123456789abcdef")
	stream := append(append([]byte("old bytes PWCHAN"), preamble...), "PRI *"...)
	for size := 1; size <= len(stream); size++ {
		var scan scanner
		var found, rest []byte
		at := 0
		for ; found == nil && at < len(stream); at += size {
			found, rest = scan.feed(stream[at:min(at+size, len(stream))])
		}
		if !bytes.Equal(found, preamble) {
			t.Fatalf("pieces of %d: found %q", size, found)
		}
		if got := string(rest) + string(stream[min(at, len(stream)):]); got != "PRI *" {
			t.Fatalf("pieces of %d: rest %q", size, got)
		}
	}
}

func TestScannerKeepsLittle(t *testing.T) {
	var scan scanner
	for range 1000 {
		if found, _ := scan.feed(make([]byte, 4096)); found != nil {
			t.Fatal("found a preamble in zeros")
		}
	}
	if len(scan.held) >= len(magic) {
		t.Errorf("holds %d bytes", len(scan.held))
	}
}
