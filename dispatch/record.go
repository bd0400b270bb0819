// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/kettle/attest/internal/strict"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
)

const recordSchema = "kettle.reaped/v1"

// maxShown bounds how many runners a record lists. All of them are removed.
const maxShown = 200

// Record says how an environment ended and that GitHub lists no runner of it any more.
type Record struct {
	Schema      string    `json:"schema"`
	Environment string    `json:"environment"`
	GitHub      Target    `json:"github"`
	How         How       `json:"how"`
	Outcome     string    `json:"outcome,omitempty"` // the VM's last word, or what was wrong with it
	Ended       time.Time `json:"ended"`             // when the launcher saw its end, or found it abandoned
	Journal     Journal   `json:"journal"`           // what the VM has claimed
	Found       []Found   `json:"found,omitempty"`   // what GitHub listed
	Removed     int       `json:"removed"`           // runners that were removed here
	Rounds      int       `json:"rounds"`            // how often GitHub was asked
	Gone        time.Time `json:"gone"`              // when GitHub listed none any more
}

// Found is a runner that GitHub listed after the VM's end.
type Found struct {
	ID      int64      `json:"id"`
	Name    string     `json:"name"`
	Online  bool       `json:"online"`
	Busy    bool       `json:"busy"`
	Seen    time.Time  `json:"seen"`
	Removed *time.Time `json:"removed,omitempty"` // absent when it went by itself
}

// found notes a runner of GitHub's list.
func (r *Record) found(g github.Runner) {
	for i := range r.Found {
		if r.Found[i].ID == g.ID {
			return
		}
	}
	if len(r.Found) < maxShown {
		r.Found = append(r.Found, Found{
			ID: g.ID, Name: channel.Printable(g.Name, 2*maxName), Online: g.Online, Busy: g.Busy, Seen: time.Now().UTC(),
		})
	}
}

// removed notes that a runner is gone.
func (r *Record) removed(id int64) {
	r.Removed++
	for i := range r.Found {
		if r.Found[i].ID == id && r.Found[i].Removed == nil {
			now := time.Now().UTC()
			r.Found[i].Removed = &now
		}
	}
}

// readRecord reads the closing record in a folder.
func readRecord(path string) (*Record, error) {
	data, err := readSmall(filepath.Join(path, recordFile))
	if err != nil {
		return nil, err
	}
	var r Record
	if err := strict.Decode(data, &r); err != nil {
		return nil, fmt.Errorf("reading %s: %w", recordFile, err)
	}
	if r.Schema != recordSchema || r.Environment != filepath.Base(path) {
		return nil, errors.New("reading " + recordFile + ": it is not of this environment")
	}
	return &r, nil
}
