// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/internal/strict"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

// Bounds of a journal that a guest sends; an honest one has about 200 lines.
const (
	maxLines   = 4096
	maxJournal = maxFile
)

// maxNamed bounds how many names of a journal are looked for at GitHub one by one.
const maxNamed = 64

// chain accepts the lines of a journal in order.
type chain struct {
	lines int
	bytes int
	last  binding.Digest // SHA-256 of the line before; zeros before the first
}

// next reads one line, without its newline. The error matches [runner.ErrJournal] and leaves the chain as it is.
func (c *chain) next(line []byte) (runner.Entry, error) {
	fault := func(format string, args ...any) (runner.Entry, error) {
		return runner.Entry{}, fmt.Errorf("%w: line %d: "+format, append([]any{runner.ErrJournal, c.lines}, args...)...)
	}
	var e runner.Entry
	switch {
	case len(line) > channel.MaxLine, c.lines == maxLines, c.bytes+len(line)+1 > maxJournal:
		return fault("more than is allowed")
	case strict.Decode(line, &e) != nil:
		return fault("not an entry")
	case e.Seq != c.lines:
		return fault("seq is %d", e.Seq)
	case e.Previous != c.last:
		return fault("it names another line as the one before")
	}
	c.lines++
	c.bytes += len(line) + 1
	c.last = binding.Sum(line)
	return e, nil
}

// journal is the guest's journal on the host.
type journal struct {
	chain
	file *os.File // nil when it could not be made or written
}

// createJournal makes the file. An error leaves a journal that is verified and not kept.
func (f *Folder) createJournal() (*journal, error) {
	path := filepath.Join(f.path, journalFile)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600) //nolint:gosec // our own.
	if err != nil {
		return &journal{}, fmt.Errorf("creating the journal: %w", err)
	}
	return &journal{file: file}, syncFolder(f.path)
}

// append verifies a line and has it on the disk when it returns. The error matches [runner.ErrJournal] when the line is
// none; otherwise the line counts and is lost, as is every line after it.
func (j *journal) append(line string) (runner.Entry, error) {
	e, err := j.next([]byte(line))
	if err != nil || j.file == nil {
		return e, err
	}
	_, err = j.file.WriteString(line + "\n")
	if err = errors.Join(err, j.file.Sync()); err != nil {
		err = errors.Join(fmt.Errorf("keeping the journal: %w", err), j.close())
	}
	return e, err
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	file := j.file
	j.file = nil
	return file.Close()
}

// Journal says what was found in the journal's file.
type Journal struct {
	Lines int            `json:"lines"`
	Head  binding.Digest `json:"head"`            // SHA-256 of the last line; zeros when there is none
	State runner.State   `json:"state,omitempty"` // of the last line
	Fault string         `json:"fault,omitempty"` // why reading stopped before the end
	Named []runner.Named `json:"named,omitempty"` // runners with this environment's prefix, as far as they are looked for
	// Foreign counts the runners that were named without the prefix. Nobody looks for them.
	Foreign int `json:"foreign,omitempty"`
}

// readJournal reads the file as far as it is whole. What is behind a fault does not count: GitHub's own list shows every
// runner with the prefix all the same.
func (f *Folder) readJournal() Journal {
	var j Journal
	data, err := readSmall(filepath.Join(f.path, journalFile))
	if errors.Is(err, fs.ErrNotExist) {
		return j
	}
	if err != nil {
		j.Fault = channel.Printable(err.Error(), 200)
		return j
	}
	var c chain
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			j.Fault = "the last line was not written to its end"
			break
		}
		e, err := c.next(line)
		if err != nil {
			j.Fault = channel.Printable(err.Error(), 200)
			break
		}
		data = rest
		j.State = e.State
		j.note(f.Prefix(), e.Runner)
	}
	j.Lines, j.Head = c.lines, c.last
	return j
}

// note collects a runner that a line names.
func (j *Journal) note(prefix string, named *runner.Named) {
	if named == nil {
		return
	}
	if !owned(prefix, named.Name) {
		j.Foreign++
		return
	}
	for i := range j.Named {
		if j.Named[i].Name == named.Name {
			j.Named[i].ID = max(j.Named[i].ID, named.ID)
			return
		}
	}
	if len(j.Named) < maxNamed {
		j.Named = append(j.Named, *named)
	}
}

// maxName is the longest name of a runner that GitHub takes.
const maxName = 64

// owned reports whether a runner's name is one of the environment with this prefix.
func owned(prefix, name string) bool {
	rest, has := strings.CutPrefix(name, prefix+"-")
	if !has || rest == "" || len(name) > maxName {
		return false
	}
	for _, c := range rest {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
