// SPDX-License-Identifier: Apache-2.0

// Package diag collects what people need in order to find out why an environment ended as it did, before its machine is
// gone: one archive, diag.tar.zst, of the runner program's own logs, its console, kettled's log, the kernel's and the
// journal.
//
// It guarantees that there always is an archive: what cannot be read, or does not fit, is named in manifest.json, its first
// member, and the rest is delivered. Archive, members and the time of collecting are bounded whatever a job has left
// behind. Nothing outside the runner's folder is read through it: no link is followed, no mount crossed, nothing but a
// regular file with one name is opened (package beneath). The same sources give the same bytes. Secrets that the caller
// names do not appear, in any of the forms of [Masker], and neither does what has the shape of a well-known credential.
//
// It trusts the kernel and its caller. It does not trust what it collects: a job can write any log, remove others, and
// disguise a secret that it knows in a form that nobody looks for. Diagnostics prove nothing.
package diag

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/internal/secret"
)

// Name is what the archive is called in an environment's record.
const Name = "diag.tar.zst"

// Sources is what to collect. What is absent is named in the manifest.
type Sources struct {
	Journal []byte                            // JSON Lines
	Log     *Console                          // what kettled's own log was written to
	Console *Console                          // what the runner program wrote to its standard output and error
	Kernel  func(buf []byte) (n int, _ error) // [KernelLog]: the end of the kernel's log
	Runner  Folder                            // the runner program's _diag
	Secrets []secret.String                   // what must not appear; for a JIT configuration see [JIT]
	At      time.Time                         // the members' time
}

// Folder is a directory that somebody hostile owns, seen from outside.
type Folder struct {
	Volume string // a directory that nobody hostile can replace
	Path   string // below it, every part of it hostile
}

// Limits bound an archive. Every field is required.
type Limits struct {
	Compressed int64 // bytes of the archive
	Total      int64 // bytes of the archive before it is compressed
	File       int64 // bytes of one member; of a longer one, a quarter at its beginning and the rest at its end are kept
	Files      int   // members from the runner's folder
	Entries    int   // directory entries to look at
}

// DefaultLimits are enough for a job that does nothing strange.
func DefaultLimits() Limits {
	return Limits{Compressed: 4 << 20, Total: 24 << 20, File: 2 << 20, Files: 128, Entries: 8192}
}

// The least that limits can be, so that a manifest always fits, and the most that is held in memory.
const (
	leastCompressed = 64 << 10
	leastTotal      = 1 << 20
	leastFile       = 4 << 10
	mostTotal       = 1 << 30
	mostFiles       = 1024
	mostEntries     = 1 << 20
)

// Validate reports every fault.
func (l Limits) Validate() error {
	var faults []error
	check := func(name string, got, least, most int64) {
		if got < least || got > most {
			faults = append(faults, fmt.Errorf("limit %s is %d, want %d to %d", name, got, least, most))
		}
	}
	check("compressed", l.Compressed, leastCompressed, mostTotal)
	check("total", l.Total, leastTotal, mostTotal)
	check("file", l.File, leastFile, l.Total)
	check("files", int64(l.Files), 1, mostFiles)
	check("entries", int64(l.Entries), 1, mostEntries)
	return errors.Join(faults...)
}

// Collect makes the archive. The error is about limits that are wrong or an archive that could not be written, never about
// a source: those are in the report, which is the archive's manifest. When ctx ends, what was not read yet is left out and
// the rest is delivered.
func Collect(ctx context.Context, s Sources, l Limits) ([]byte, *Report, error) {
	if err := l.Validate(); err != nil {
		return nil, nil, fmt.Errorf("collecting diagnostics: %w", err)
	}
	masker := NewMasker(s.Secrets)
	c := &collector{masker: masker, limits: l, room: l.Total - maxManifest(l) - tarEnd, report: &Report{
		Schema: Schema, At: s.At.UTC(), Marker: masker.Marker(), SecretsTooShort: masker.short,
	}}
	c.memory("journal.jsonl", "journal", s.Journal)
	c.console("kettled.jsonl", "kettled", s.Log)
	c.console("console.log", "console", s.Console)
	c.kernel(s.Kernel)
	c.folder(ctx, s.Runner)
	data, err := c.pack()
	if err != nil {
		return nil, nil, fmt.Errorf("collecting diagnostics: %w", err)
	}
	return data, c.report, nil
}

// member is one file of the archive, masked.
type member struct {
	entry Entry
	data  []byte
}

// collector gathers members until there is no room.
type collector struct {
	masker  *Masker
	limits  Limits
	room    int64 // of limits.Total
	report  *Report
	members []member
}

func (c *collector) memory(name, source string, data []byte) {
	if data == nil {
		c.skip(name, source, "not given")
		return
	}
	c.add(Entry{Name: name, Source: source}, whole(data))
}

func (c *collector) console(name, source string, console *Console) {
	if console == nil {
		c.skip(name, source, "not given")
		return
	}
	c.add(Entry{Name: name, Source: source}, console.text())
}

// capacity is how many bytes the next member may have; 0 when there is no room.
func (c *collector) capacity() int64 {
	n := min(c.limits.File, c.room-2*tarBlock)
	if n < leastFile {
		return 0
	}
	return n
}

// add masks and cuts a text and makes a member of it.
func (c *collector) add(e Entry, t text) {
	capacity := c.capacity()
	if capacity == 0 {
		c.skip(e.Name, e.Source, "the archive would be too large")
		return
	}
	if c.masker.marker == nil {
		c.skip(e.Name, e.Source, "the secrets leave no character to mask them with")
		return
	}
	data, left, masked := c.masker.cut(t, capacity)
	e.Size, e.Kept, e.Left, e.Masked = t.size, int64(len(data)), left, masked
	c.report.Masked += masked
	c.room -= tarBlock + padded(int64(len(data)))
	c.members = append(c.members, member{entry: e, data: data})
}

func (c *collector) skip(name, source, reason string) {
	if len(c.report.Skipped) == maxSkipped {
		c.report.MoreSkipped++
		return
	}
	c.report.Skipped = append(c.report.Skipped, Skipped{Name: name, Source: source, Reason: reason})
}
