package channel

import (
	"bytes"
	"io"
	"testing"
)

// port feeds its pieces one read at a time and keeps what is written.
type port struct {
	pieces  [][]byte
	written bytes.Buffer
}

func (p *port) Read(b []byte) (int, error) {
	if len(p.pieces) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n := copy(b, p.pieces[0])
	p.pieces = p.pieces[1:]
	return n, nil
}

func (p *port) Write(b []byte) (int, error) { return p.written.Write(b) }

func TestGreetAnswersEveryPreambleInAnyPieces(t *testing.T) {
	first, second := magic+"0123456789abcdef", magic+"fedcba9876543210"
	stream := []byte("old bytes PWCHAN" + first + second + "PRI * HTTP/2.0")
	for size := 1; size <= len(stream); size++ {
		p := &port{}
		for at := 0; at < len(stream); at += size {
			p.pieces = append(p.pieces, stream[at:min(at+size, len(stream))])
		}
		rest, err := greet(p)
		if err != nil {
			t.Fatalf("pieces of %d: %v", size, err)
		}
		if p.written.String() != first+second {
			t.Fatalf("pieces of %d: answered %q", size, p.written.String())
		}
		if got := string(rest) + string(bytes.Join(p.pieces, nil)); got != "PRI * HTTP/2.0" {
			t.Fatalf("pieces of %d: rest %q", size, got)
		}
	}
}

func TestScanKeepsLittle(t *testing.T) {
	var held []byte
	for range 1000 {
		_, held, _ = scan(append(held, make([]byte, 4096)...))
	}
	if len(held) >= len(magic) {
		t.Errorf("holds %d bytes", len(held))
	}
}
