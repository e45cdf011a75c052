package logring

import (
	"strings"
	"testing"
)

func text(entries []Entry) string {
	var b strings.Builder
	for _, e := range entries {
		b.Write(e.Data)
	}
	return b.String()
}

func TestRingDropsTheOldest(t *testing.T) {
	ring := New(10)
	for _, part := range []string{"aaaa", "bbbb", "cccc"} {
		ring.Write(false, []byte(part))
	}
	entries, next, _, closed := ring.Next(0)
	if text(entries) != "bbbbcccc" || next != 3 || closed {
		t.Errorf("got %q, next %d, closed %v", text(entries), next, closed)
	}
	if entries, _, _, _ := ring.Next(3); len(entries) != 0 {
		t.Errorf("read twice: %q", text(entries))
	}
}

func TestFollowersWake(t *testing.T) {
	ring := New(10)
	_, _, changed, _ := ring.Next(0)
	ring.Close()
	<-changed
	if _, _, _, closed := ring.Next(0); !closed {
		t.Error("the end was not seen")
	}
}

func TestTail(t *testing.T) {
	entries := []Entry{{Data: []byte("one\ntwo\nth")}, {Data: []byte("ree\nfour\n")}}
	for lines, want := range map[int]string{1: "four\n", 2: "three\nfour\n", 3: "two\nthree\nfour\n", 9: "one\ntwo\nthree\nfour\n"} {
		if got := text(Tail(entries, lines)); got != want {
			t.Errorf("Tail(%d) = %q; want %q", lines, got, want)
		}
	}
}
