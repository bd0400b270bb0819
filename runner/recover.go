// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/kettle/attest/attest/binding"
)

// Recover tidies up after a build agent that was interrupted in this environment: it removes every runner that the
// journal names, and ends the journal in state removed. An environment has one turn: if there is a journal, the error
// matches [ErrUsed], whatever it says; it tells besides why a runner may be left. If there is none, Recover returns nil
// and has done nothing.
func Recover(ctx context.Context, path string, r Registrar, now func() time.Time) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_SYNC, 0) //nolint:gosec // the caller's.
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: opening its journal: %w", ErrUsed, err)
	}
	defer f.Close()
	j, entries, readErr := resume(f, now)
	if readErr == nil && j.state == Removed {
		return fmt.Errorf("%w: it ended in state %s", ErrUsed, Removed)
	}
	if err := deregister(ctx, r, Runners(entries)); err != nil { // of what is readable, at least
		return errors.Join(fmt.Errorf("%w, and was interrupted", ErrUsed), err, readErr)
	}
	if readErr != nil {
		return errors.Join(fmt.Errorf("%w, and was interrupted; a runner may be left whose name cannot be read", ErrUsed), readErr)
	}
	return errors.Join(fmt.Errorf("%w, and was interrupted; GitHub lists none of its runners", ErrUsed), j.conclude())
}

// resume reads a journal so that it can be gone on with. What was not written to its end is cut off.
func resume(f *os.File, now func() time.Time) (*Journal, []Entry, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the journal: %w", err)
	}
	entries, err := ReadJournal(bytes.NewReader(data))
	if err != nil {
		return nil, entries, err
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	if whole == 0 {
		return nil, nil, fmt.Errorf("%w: it has no line", ErrJournal)
	}
	if err := f.Truncate(int64(whole)); err != nil {
		return nil, entries, fmt.Errorf("mending the journal: %w", err)
	}
	j := &Journal{now: now, file: f, state: entries[len(entries)-1].State, seq: len(entries)}
	j.lines.Write(data[:whole])
	j.last = binding.Sum(data[bytes.LastIndexByte(data[:whole-1], '\n')+1 : whole-1])
	return j, entries, nil
}

// conclude ends the journal of an interrupted life whose runners are gone.
func (j *Journal) conclude() error {
	if !j.state.Ended() {
		if err := j.Enter(OnFault, "interrupted"); err != nil {
			return err
		}
	}
	return j.Enter(OnRemove, "removed after an interruption")
}

// Runners gives every runner that a journal names, each once, with its ID where that is known.
func Runners(entries []Entry) []Registration {
	var all []Registration
	at := map[string]int{}
	for _, e := range entries {
		if e.Runner == nil {
			continue
		}
		i, known := at[e.Runner.Name]
		if !known {
			i = len(all)
			at[e.Runner.Name], all = i, append(all, Registration{Name: e.Runner.Name})
		}
		if e.Runner.ID > 0 {
			all[i].ID = e.Runner.ID
		}
	}
	return all
}
