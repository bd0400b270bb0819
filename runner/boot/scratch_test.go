// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
)

func goodScratch() Scratch {
	return Scratch{Place: InMemory, Dir: "/disk", Mkfs: "/mkfs", Bytes: 1 << 30, JobMemory: 2 << 30}
}

func TestScratchValidate(t *testing.T) {
	t.Parallel()
	if err := goodScratch().Validate(); err != nil {
		t.Errorf("a good disk: %v", err)
	}
	for name, tt := range map[string]struct {
		spoil func(*Scratch)
		want  string
	}{
		"no place":           {func(s *Scratch) { s.Place = "" }, "place"},
		"another place":      {func(s *Scratch) { s.Place = "network" }, "place"},
		"a relative folder":  {func(s *Scratch) { s.Dir = "disk" }, "directory"},
		"no mkfs":            {func(s *Scratch) { s.Mkfs = "" }, "mkfs"},
		"no size":            {func(s *Scratch) { s.Bytes = 0 }, "size"},
		"too small":          {func(s *Scratch) { s.Bytes = MinScratch - 4096 }, "at least 256 MiB"},
		"part of a block":    {func(s *Scratch) { s.Bytes++ }, "blocks of 4096"},
		"a negative size":    {func(s *Scratch) { s.Bytes = -1 << 40 }, "size"},
		"no memory of a job": {func(s *Scratch) { s.JobMemory = 0 }, "job's memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := goodScratch()
			tt.spoil(&s)
			if err := s.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %s, got %v", tt.want, err)
			}
			if _, err := MakeScratch(t.Context(), s); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("it was made, or: %v", err)
			}
		})
	}
}

// TestAttackFillMemory lets a job fill its memory and its disk: together with the rest they must fit into the machine.
func TestAttackFillMemory(t *testing.T) {
	t.Parallel()
	s := goodScratch()
	need := s.JobMemory + s.Bytes + journal + reserve
	if err := s.fits(need + 1); err != nil {
		t.Errorf("it fits: %v", err)
	}
	for _, total := range []int64{need, need - 1, s.Bytes, 1} {
		err := s.fits(total)
		if err == nil {
			t.Errorf("%d of %d bytes are enough", total, need)
			continue
		}
		for _, want := range []string{"job's memory (2048 MiB)", "job's disk in memory (1024 MiB)", "give the machine more"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("no %q in %v", want, err)
			}
		}
	}
	s.Place = OnDisk
	tags := s.Bytes/64 + journal/64
	if err := s.fits(s.JobMemory + tags + reserve + 1); err != nil {
		t.Errorf("on the host's disk: %v", err)
	}
	if err := s.fits(s.JobMemory + tags + reserve); err == nil || !strings.Contains(err.Error(), "job's disk in memory (17 MiB)") {
		t.Errorf("no room for the tags: %v", err)
	}
	s.Place = InMemory
	s.Bytes = 1<<63 - 4096
	if err := s.fits(1 << 40); err == nil {
		t.Error("sizes that overflow fit")
	}
	s.Place = OnDisk
	if err := s.fits(1 << 40); err == nil {
		t.Error("sizes that overflow fit")
	}
	s.JobMemory = 1<<63 - 1
	if err := s.fits(1<<63 - 1); err == nil {
		t.Error("sizes that overflow fit")
	}
	// The whole: nothing is run for a disk that does not fit.
	ran := filepath.Join(t.TempDir(), "ran")
	mkfs := write(t, filepath.Join(t.TempDir(), "mkfs"), "#!/bin/sh\n: > "+ran+"\nexit 1\n")
	if err := os.Chmod(mkfs, 0o700); err != nil { //nolint:gosec // a script of this test.
		t.Fatal(err)
	}
	s.Mkfs = mkfs
	if _, err := MakeScratch(t.Context(), s); err == nil || !strings.Contains(err.Error(), "too little") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("mkfs ran")
	}
}

func TestScratchTellsTheReason(t *testing.T) {
	t.Parallel()
	s := goodScratch()
	s.Mkfs = write(t, filepath.Join(t.TempDir(), "mkfs"), "#!/bin/sh\necho the reason >&2\nexit 1\n")
	if err := os.Chmod(s.Mkfs, 0o700); err != nil { //nolint:gosec // a script of this test.
		t.Fatal(err)
	}
	if err := s.format(t.Context(), image.ScratchDevice); err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("got %v", err)
	}
	s.Bytes, s.JobMemory = MinScratch, 1
	if _, err := MakeScratch(t.Context(), s); err == nil || !strings.Contains(err.Error(), "making the job's disk") {
		t.Errorf("got %v", err)
	}
}

func TestMemTotal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "meminfo")
	write(t, path, "MemTotal:        2048 kB\nMemFree:         1024 kB\n")
	if got, err := memTotal(path); err != nil || got != 2<<20 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, text := range []string{"", "MemTotal: 0 kB\n", "MemTotal: -1 kB\n", "MemTotal: 2048 MB\n", "MemTotal: 2048\n", "MemTotal: 99999999999999999999 kB\n", "MemFree: 1 kB\n"} {
		write(t, path, text)
		if got, err := memTotal(path); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}
