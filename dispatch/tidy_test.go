// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
)

// TestRecoverTidies leaves nothing of a dead launcher's VM on this host but what tells of it.
func TestRecoverTidies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, state := newRegistry(), t.TempDir()
		f := leave(t, state, r)
		err := errors.Join(
			os.Mkdir(f.Machine(), 0o700), os.WriteFile(filepath.Join(f.Machine(), "kernel"), []byte("kernel"), 0o400),
			os.WriteFile(filepath.Join(f.Path(), socketFile), nil, 0o600), os.WriteFile(f.Console(), nil, 0o600),
		)
		if err != nil {
			t.Fatal(err)
		}
		reaper := &Reaper{Registry: r, Target: target(), Limits: DefaultLimits()}
		if got, err := reaper.Recover(t.Context(), state); err != nil || len(got.Reaped) != 1 || got.Err() != nil {
			t.Fatalf("got %+v, %v", got, err)
		}
		entries, err := os.ReadDir(f.Path())
		if err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, e := range entries {
			left = append(left, e.Name())
		}
		if want := []string{consoleFile, journalFile, launchFile, lockFile, recordFile}; !slices.Equal(left, want) {
			t.Errorf("left: %v, want %v", left, want)
		}
	})
}

// TestRecoverReapsUntidied removes runners at GitHub whatever this host keeps.
func TestRecoverReapsUntidied(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, state := newRegistry(), t.TempDir()
		f := leave(t, state, r)
		socket := filepath.Join(f.Path(), socketFile)
		if err := errors.Join(os.Mkdir(socket, 0o700), os.WriteFile(filepath.Join(socket, "no"), nil, 0o600)); err != nil { // it cannot be removed
			t.Fatal(err)
		}
		if err := f.tidy(); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("tidying up: %v", err)
		}
		reaper := &Reaper{Registry: r, Target: target(), Limits: DefaultLimits()}
		if got, err := reaper.Recover(t.Context(), state); err != nil || len(got.Reaped) != 1 || got.Err() != nil {
			t.Errorf("got %+v, %v", got, err)
		}
		r.untouched(t)
	})
}
