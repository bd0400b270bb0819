// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/beneath"
)

// walker looks for the files of one pattern at a time.
type walker struct {
	*collector
	patterns []pattern
	found    map[string]bool
	hits     int
}

func (w *walker) run(ctx context.Context, p pattern) (int, error) {
	w.hits = 0
	if p.glob == "" {
		if w.selected(p.base) {
			return 1, w.add(p.base)
		}
		return 0, nil
	}
	err := w.enter(ctx, p, p.base, 0)
	return w.hits, err
}

// selected lets the last pattern that matches decide, as @actions/glob does.
func (w *walker) selected(abs string) bool {
	for i := len(w.patterns) - 1; i >= 0; i-- {
		if w.patterns[i].match(abs) {
			return !w.patterns[i].exclude
		}
	}
	return false
}

func (w *walker) add(abs string) error {
	w.hits++
	w.found[abs] = true
	if len(w.found) > w.limits.Subjects {
		return w.tooMany(len(w.found))
	}
	return nil
}

// enter finds the directory abs by the table of volumes and walks it. A directory that leads to a volume is there even if
// the volume around it has none.
func (w *walker) enter(ctx context.Context, p pattern, abs string, depth int) error {
	v, rest := w.volumes.at(abs)
	d, err := beneath.OpenDir(v.fd, rest)
	gone := errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
	if err != nil && !gone && (!errors.Is(err, unix.ELOOP) || len(w.volumes.ways(abs)) == 0) {
		return pathError(abs, err)
	}
	if err == nil {
		defer d.Close()
		if err := w.walk(ctx, p, d, abs, depth); err != nil {
			return err
		}
	}
	for _, name := range w.volumes.ways(abs) {
		if depth >= p.depth {
			return nil
		}
		if err := w.enter(ctx, p, path.Join(abs, name), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// walk reads a directory and descends. abs is its path in the sandbox: used for matching and messages, never for opening.
func (w *walker) walk(ctx context.Context, p pattern, d *beneath.Dir, abs string, depth int) error {
	ways := w.volumes.ways(abs)
	for {
		entries, err := d.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking into %s: %w", quote(abs), err)
		}
		if err := w.clock.check(ctx); err != nil {
			return err
		}
		if w.entries += len(entries); w.entries > w.limits.Entries {
			return refuse(refusal.Policy, fmt.Sprintf("at most %d directory entries to look at", w.limits.Entries),
				"more below "+quote(p.base), "use a narrower pattern")
		}
		for _, e := range entries {
			if slices.Contains(ways, e.Name) {
				continue // a volume lies over it, or below
			}
			if err := w.entry(ctx, p, d, e, place{path.Join(abs, e.Name), depth}); err != nil {
				return err
			}
		}
	}
}

// place is where the walker stands.
type place struct {
	abs   string
	depth int
}

// entry decides about one directory entry: select it, descend into it, or pass by.
func (w *walker) entry(ctx context.Context, p pattern, dir *beneath.Dir, e beneath.Entry, at place) error {
	hit := p.match(at.abs) && w.selected(at.abs)
	if !hit && (at.depth >= p.depth && !p.deep || e.Type != unix.DT_DIR && e.Type != unix.DT_UNKNOWN) {
		return nil
	}
	st, err := beneath.Stat(dir.FD(), e.Name)
	if err != nil {
		if !hit && (errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOENT)) {
			return nil
		}
		return pathError(at.abs, err)
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		if hit {
			return w.add(at.abs)
		}
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return w.descend(ctx, p, dir, e.Name, at)
	case hit && !beneath.Whiteout(st): // what the job deleted is not there
		return notRegular(at.abs, st.Mode)
	}
	return nil
}

func (w *walker) descend(ctx context.Context, p pattern, dir *beneath.Dir, name string, at place) error {
	if at.depth >= p.depth {
		if p.deep {
			return tooDeep(at.abs)
		}
		return nil
	}
	sub, err := beneath.OpenDir(dir.FD(), name)
	if err != nil {
		return pathError(at.abs, err)
	}
	defer sub.Close()
	return w.walk(ctx, p, sub, at.abs, at.depth+1)
}
