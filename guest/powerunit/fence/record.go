// fence.log: what was killed, a line of JSON each, on disk before the next step.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

const maxRecordBytes = 1 << 20

type record struct {
	file *os.File
}

func openRecord(path string) (*record, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &record{file}, nil
}

// write must not keep the fence from its work: what cannot be recorded is done all the same.
func (r *record) write(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		return
	}
	if info, err := r.file.Stat(); err == nil && info.Size() > maxRecordBytes {
		r.file.Truncate(0)
	}
	r.file.Write(append(line, '\n'))
	r.file.Sync()
}
