// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Recovery says what [Reaper.Recover] found.
type Recovery struct {
	Reaped []*Record  // environments that are reaped now
	Alive  []string   // environments that a living launcher sees to
	Left   []Leftover // environments that could not be reaped
}

// Leftover is an environment that could not be reaped.
type Leftover struct {
	Environment string
	Err         error
}

// Err joins what is left; nil when nothing is.
func (r Recovery) Err() error {
	var faults []error
	for _, l := range r.Left {
		faults = append(faults, l.Err)
	}
	return errors.Join(faults...)
}

// Recover reaps every environment in the state folder whose launcher has gone without doing so. It goes through all of
// them, whatever becomes of one; the error is about the state folder itself.
func (r *Reaper) Recover(ctx context.Context, state string) (Recovery, error) {
	var out Recovery
	if err := r.Validate(); err != nil {
		return out, fmt.Errorf("recovering: %w", err)
	}
	names, err := environments(state)
	if err != nil {
		return out, fmt.Errorf("recovering: %w", err)
	}
	for _, name := range names {
		record, err := r.recoverOne(ctx, state, name)
		switch {
		case err == nil:
			out.Reaped = append(out.Reaped, record)
		case errors.Is(err, ErrReaped):
		case errors.Is(err, ErrAlive):
			out.Alive = append(out.Alive, name)
		default:
			out.Left = append(out.Left, Leftover{Environment: name, Err: err})
		}
	}
	return out, nil
}

func (r *Reaper) recoverOne(ctx context.Context, state, name string) (_ *Record, err error) {
	if _, err := os.Lstat(filepath.Join(state, name, recordFile)); err == nil {
		return nil, ErrReaped
	}
	f, err := openFolder(state, name)
	if err != nil {
		return nil, fmt.Errorf("opening environment %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.tidy(); err != nil { // GitHub matters more
		discard(r.Logger).WarnContext(ctx, "environment not tidied up", "environment", name, "error", err)
	}
	return r.reap(ctx, f, ending{how: Abandoned, outcome: "Its launcher died.", at: time.Now()})
}

// environments lists the state folder. One that is not there holds none.
func environments(state string) ([]string, error) {
	entries, err := os.ReadDir(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := ours(state); err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && environmentForm.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
