// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/kettle/attest/attest/binding"
)

// Entry is one line of the journal.
type Entry struct {
	Seq      int            `json:"seq"`
	At       time.Time      `json:"at"`
	Phase    Phase          `json:"phase"`
	Reason   string         `json:"reason,omitempty"`
	Previous binding.Digest `json:"previous"` // SHA-256 of the line before; zeros in the first
}

// Journal records every transition in order. It lives outside the sandbox and is delivered with the record. Each line
// names the one before by digest, so a line cannot be lost unseen. It is safe for concurrent use.
type Journal struct {
	now func() time.Time

	mu    sync.Mutex
	phase Phase          // mu
	seq   int            // mu
	last  binding.Digest // mu
	lines bytes.Buffer   // mu
	watch func(Entry)    // set once by the constructor
}

// NewJournal begins a journal in phase boot. watch, if not nil, is called with each entry, in order.
func NewJournal(now func() time.Time, watch func(Entry)) (*Journal, error) {
	j := &Journal{now: now, watch: watch}
	return j, j.write(Boot, "")
}

// Phase tells where the environment stands.
func (j *Journal) Phase() Phase {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.phase
}

// Enter goes to the next phase, or refuses with a [TransitionError] and stays. reason is shown to operators and must
// not hold anything secret.
func (j *Journal) Enter(next Phase, reason string) error {
	if err := j.Phase().Next(next); err != nil {
		return err
	}
	return j.write(next, reason)
}

func (j *Journal) write(p Phase, reason string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := Entry{Seq: j.seq, At: j.now().UTC(), Phase: p, Reason: reason, Previous: j.last}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding journal entry: %w", err)
	}
	j.phase, j.seq, j.last = p, j.seq+1, binding.Sum(line)
	j.lines.Write(line)
	j.lines.WriteByte('\n')
	if j.watch != nil {
		j.watch(e)
	}
	return nil
}

// Bytes gives the journal so far as JSON Lines.
func (j *Journal) Bytes() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.lines.Bytes())
}
