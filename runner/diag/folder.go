// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/beneath"
)

const (
	runnerSource = "runner"
	maxDepth     = 4 // folders within the runner's folder; it has one level itself
	maxChanges   = 3 // how often a file is looked at anew because it changed before it was open
)

// folder adds the regular files of the runner's folder, those that the runner program itself writes first.
func (c *collector) folder(ctx context.Context, f Folder) {
	if f.Volume == "" || f.Path == "" {
		c.skip(runnerSource+"/", runnerSource, "not given")
		return
	}
	volume, err := unix.Open(f.Volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		c.skip(runnerSource+"/", runnerSource, "its volume cannot be opened: "+why(err))
		return
	}
	defer func() { _ = unix.Close(volume) }()
	dir, err := beneath.OpenDir(volume, f.Path)
	if err != nil {
		c.skip(runnerSource+"/", runnerSource, "cannot be opened: "+why(err))
		return
	}
	defer dir.Close()
	w := walk{collector: c}
	w.dir(ctx, dir, "", 0)
	slices.SortFunc(w.found, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	for i, name := range w.found {
		if ctx.Err() != nil {
			c.skip(runnerSource+"/", runnerSource, fmt.Sprintf("no time was left for %d files", len(w.found)-i))
			return
		}
		if w.files == c.limits.Files || c.capacity() == 0 {
			c.skip(runnerSource+"/", runnerSource, fmt.Sprintf("no room was left for %d files", len(w.found)-i))
			return
		}
		w.file(ctx, dir.FD(), name)
	}
}

// rank puts the runner program's own logs (HostTraceListener.cs) before the copies of the job's output and before the rest.
func rank(name string) int {
	logs := strings.HasSuffix(name, ".log") && !strings.Contains(name, "/")
	if logs && (strings.HasPrefix(name, "Runner_") || strings.HasPrefix(name, "Worker_")) {
		return 0
	}
	return 1
}

// walk is one look at the folder.
type walk struct {
	*collector
	entries int
	found   []string // paths of what is not a folder
	files   int
	hidden  int // names that cannot be shown
}

// dir lists a folder and the folders in it. It reports false when it stopped.
func (w *walk) dir(ctx context.Context, d *beneath.Dir, prefix string, depth int) bool {
	for {
		entries, err := d.Next()
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			w.skip(w.name(prefix), runnerSource, "cannot be listed: "+why(err))
			return true
		}
		if ctx.Err() != nil {
			w.skip(w.name(prefix), runnerSource, "no time was left to list it")
			return false
		}
		for _, e := range entries {
			if w.entries++; w.entries > w.limits.Entries {
				w.skip(w.name(prefix), runnerSource, fmt.Sprintf("more than %d names; the others were not looked at", w.limits.Entries))
				return false
			}
			name := path.Join(prefix, e.Name)
			if e.Type != unix.DT_DIR {
				w.found = append(w.found, name)
			} else if !w.descend(ctx, d, name, depth) {
				return false
			}
		}
	}
}

func (w *walk) descend(ctx context.Context, d *beneath.Dir, name string, depth int) bool {
	if depth == maxDepth {
		w.skip(w.name(name), runnerSource, fmt.Sprintf("below %d folders", maxDepth))
		return true
	}
	sub, err := beneath.OpenDir(d.FD(), path.Base(name))
	if err != nil {
		w.skip(w.name(name), runnerSource, "cannot be opened: "+why(err))
		return true
	}
	defer sub.Close()
	return w.dir(ctx, sub, name, depth+1)
}

// file adds one file, or says why not.
func (w *walk) file(ctx context.Context, dir int, name string) {
	shown := w.name(name)
	f, st, err := open(dir, name)
	if err != nil {
		w.skip(shown, runnerSource, reason(err))
		return
	}
	defer f.Close()
	w.files++
	e := Entry{Name: shown, Source: runnerSource}
	t, err := read(ctx, f, st.Size, w.capacity())
	var after unix.Stat_t
	switch {
	case err != nil:
		e.Note = "could not be read to its end: " + why(err)
		if ctx.Err() != nil {
			e.Note = "no time was left to read it to its end"
		}
	case unix.Fstat(int(f.Fd()), &after) != nil || !beneath.Same(st, after):
		e.Note = "it changed while it was read"
	}
	w.add(e, t)
}

// errLinked refuses a file that has another name, which may be somebody else's.
var errLinked = errors.New("it has other names (hard links)")

// kindError refuses what is not a regular file.
type kindError uint32

// Error implements error.
func (k kindError) Error() string {
	switch uint32(k) & unix.S_IFMT {
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	case unix.S_IFDIR:
		return "a folder"
	}
	return "not a regular file"
}

func reason(err error) string {
	var kind kindError
	switch {
	case errors.As(err, &kind), errors.Is(err, errLinked):
		return err.Error()
	case errors.Is(err, beneath.ErrChanged):
		return "it changed whenever it was looked at"
	}
	return "cannot be opened: " + why(err)
}

func open(dir int, name string) (f *os.File, st unix.Stat_t, err error) {
	for range maxChanges {
		if st, err = beneath.Stat(dir, name); err != nil {
			return nil, st, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil, st, kindError(st.Mode)
		}
		if st.Nlink != 1 {
			return nil, st, errLinked
		}
		if f, err = beneath.Read(dir, name, st); !errors.Is(err, beneath.ErrChanged) {
			return f, st, err
		}
	}
	return nil, st, err
}

// read takes a file whole if it is shown whole, and else its two ends with what lies around them.
func read(ctx context.Context, f *os.File, size, most int64) (text, error) {
	if size <= most {
		data, err := span(ctx, f, 0, size)
		return text{size: int64(len(data)), head: data, tail: data}, err
	}
	head, tail := split(most)
	first, err := span(ctx, f, 0, min(size, head+margin))
	if err != nil {
		return text{size: size, head: first}, err
	}
	from := max(0, size-tail-margin)
	last, err := span(ctx, f, from, size-from)
	if int64(len(last)) < size-from { // cut while it was read: what is there is no longer the end
		return text{size: size, head: first}, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return text{size: size, head: first, tail: last}, err
}

// span reads part of a file, or what there is of it, in pieces that leave a chance to stop.
func span(ctx context.Context, f *os.File, from, size int64) ([]byte, error) {
	const piece = 256 << 10
	data := make([]byte, 0, size)
	for int64(len(data)) < size {
		if err := ctx.Err(); err != nil {
			return data, err
		}
		n, err := f.ReadAt(data[len(data):min(int64(len(data))+piece, size)], from+int64(len(data)))
		data = data[:len(data)+n]
		if errors.Is(err, io.EOF) {
			return data, nil
		}
		if err != nil {
			return data, err
		}
	}
	return data, nil
}
