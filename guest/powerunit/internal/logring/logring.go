// Package logring keeps the latest output of a process, bounded by bytes, for any number of readers.
package logring

import (
	"bytes"
	"sync"
	"time"
)

// Entry is one read from the process.
type Entry struct {
	Stderr bool
	Time   time.Time
	Data   []byte
}

// Ring drops its oldest entries once it holds more than its limit.
type Ring struct {
	mu      sync.Mutex
	limit   int
	size    int
	first   uint64 // sequence number of entries[0]
	entries []Entry
	changed chan struct{} // closed and replaced at each write
	closed  bool
}

// New makes a ring of at most limit bytes.
func New(limit int) *Ring {
	return &Ring{limit: limit, changed: make(chan struct{})}
}

// Write appends a copy of data.
func (r *Ring) Write(stderr bool, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, Entry{stderr, time.Now(), bytes.Clone(data)})
	r.size += len(data)
	for r.size > r.limit && len(r.entries) > 1 {
		r.size -= len(r.entries[0].Data)
		r.entries[0] = Entry{}
		r.entries = r.entries[1:]
		r.first++
	}
	r.wake()
}

// Close tells followers that nothing more will come.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.wake()
}

func (r *Ring) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Next returns the entries from sequence number from on, the number after them, a channel that is closed at the next change, and
// whether the ring has ended.
func (r *Ring) Next(from uint64) (entries []Entry, next uint64, changed <-chan struct{}, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from = max(from, r.first)
	next = r.first + uint64(len(r.entries))
	if from < next {
		entries = append(entries, r.entries[from-r.first:]...)
	}
	return entries, next, r.changed, r.closed
}

// Since cuts off the entries before a time.
func Since(entries []Entry, at time.Time) []Entry {
	for i, entry := range entries {
		if !entry.Time.Before(at) {
			return entries[i:]
		}
	}
	return nil
}

// Tail cuts entries down to their last lines.
func Tail(entries []Entry, lines int) []Entry {
	for i := len(entries) - 1; i >= 0; i-- {
		data := entries[i].Data
		for end := len(data); end > 0; {
			at := bytes.LastIndexByte(data[:end], '\n')
			if at < 0 {
				break
			}
			if last := i == len(entries)-1 && at == len(data)-1; !last {
				if lines--; lines == 0 {
					cut := entries[i]
					cut.Data = data[at+1:]
					return append([]Entry{cut}, entries[i+1:]...)
				}
			}
			end = at
		}
	}
	return entries
}
