// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"sort"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
)

// Bounds on patterns. Alternatives multiply the work of one match, hence their own bound.
const (
	maxPatterns     = 1024
	maxPatternBytes = 1024
	maxAlternatives = 4
	maxDepth        = 64 // directories below a pattern's fixed part; each holds one descriptor open
	readBatch       = 512
)

// pattern is one parsed element of Request.Patterns.
type pattern struct {
	text    string // as written
	exclude bool
	base    string // absolute; the fixed part in front of the first meta character
	glob    string // relative to base; empty for a literal path
	depth   int    // how many directories below base can match
}

// parsePattern splits a pattern and anchors it in the workspace.
func (c *collector) parsePattern(text string) (pattern, error) {
	p := pattern{text: text}
	rest, exclude := strings.CutPrefix(text, "!")
	p.exclude = exclude
	if rest == "" || len(rest) > maxPatternBytes || strings.ContainsRune(rest, 0) ||
		strings.Count(rest, "{") > maxAlternatives || !doublestar.ValidatePattern(rest) {
		return p, refuse(refusal.Malformed,
			fmt.Sprintf("a valid glob of at most %d bytes and %d alternatives", maxPatternBytes, maxAlternatives), quote(text),
			"see the pattern syntax in the action's documentation")
	}
	if !strings.ContainsAny(rest, `*?[{\`) {
		p.base = c.absolute(rest)
		return p, nil
	}
	base, glob := doublestar.SplitPattern(rest)
	p.base, p.glob = c.absolute(base), glob
	p.depth = strings.Count(glob, "/")
	if strings.Contains(glob, "**") {
		p.depth = maxDepth
	}
	return p, nil
}

func (c *collector) absolute(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(c.req.Workspace, name)
}

// match reports whether the pattern speaks about the absolute path. An exclusion covers what lies below its match too.
func (p pattern) match(abs string) bool {
	if p.glob == "" {
		return abs == p.base || (p.exclude && strings.HasPrefix(abs, p.base+"/"))
	}
	rel, ok := below(p.base, abs)
	if !ok {
		return false
	}
	return doublestar.MatchUnvalidated(p.glob, rel) || (p.exclude && doublestar.MatchUnvalidated(p.glob+"/**", rel))
}

func below(base, abs string) (string, bool) {
	if base == "/" {
		return abs[1:], len(abs) > 1
	}
	return strings.CutPrefix(abs, base+"/")
}

// expand turns the patterns into absolute paths of files, sorted, each once. Every pattern that includes must select a
// file of its own.
func (c *collector) expand(ctx context.Context) ([]string, error) {
	if len(c.req.Patterns) > maxPatterns {
		return nil, refuse(refusal.Policy, fmt.Sprintf("at most %d patterns", maxPatterns),
			fmt.Sprintf("%d", len(c.req.Patterns)), "use a glob")
	}
	patterns := make([]pattern, 0, len(c.req.Patterns))
	for _, text := range c.req.Patterns {
		p, err := c.parsePattern(text)
		if err != nil {
			return nil, err
		}
		patterns = append(patterns, p)
	}
	w := &walker{collector: c, patterns: patterns, found: map[string]bool{}}
	for _, p := range patterns {
		if p.exclude {
			continue
		}
		n, err := w.run(ctx, p)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, refuse(refusal.Missing, "a file for the pattern "+quote(p.text), "none",
				"check the pattern and that the file was built")
		}
	}
	if len(w.found) == 0 {
		return nil, refuse(refusal.Missing, "a pattern that includes", "exclusions only", "say what to attest with subject-path")
	}
	paths := make([]string, 0, len(w.found))
	for p := range w.found {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	return paths, nil
}

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
	fd, err := openAt(w.tree.fd, p.base, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return 0, nil
	}
	if err != nil {
		return 0, pathError(p.base, err)
	}
	err = w.walk(ctx, p, fd, p.base, 0)
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

// walk reads the directory behind fd, which it closes, and descends. dir is its absolute path in the sandbox: used for
// matching and messages, never for opening.
func (w *walker) walk(ctx context.Context, p pattern, fd int, dir string, depth int) error {
	f := os.NewFile(uintptr(fd), dir)
	defer func() { _ = f.Close() }()
	for {
		names, err := f.Readdirnames(readBatch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the directory %s: %w", quote(dir), err)
		}
		if err := w.inTime(ctx); err != nil {
			return err
		}
		if w.entries += len(names); w.entries > w.limits.Entries {
			return refuse(refusal.Policy, fmt.Sprintf("at most %d directory entries to look at", w.limits.Entries),
				"more below "+quote(p.base), "use a narrower pattern")
		}
		for _, name := range names {
			if err := w.entry(ctx, p, fd, path.Join(dir, name), depth); err != nil {
				return err
			}
		}
	}
}

// entry decides about one directory entry: select it, descend into it, or pass by.
func (w *walker) entry(ctx context.Context, p pattern, dir int, abs string, depth int) error {
	hit := p.match(abs) && w.selected(abs)
	if !hit && depth >= p.depth {
		return nil
	}
	fd, err := openAt(dir, path.Base(abs), unix.O_PATH)
	if err != nil {
		if !hit && (errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOENT)) {
			return nil
		}
		return pathError(abs, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("reading the state of %s: %w", quote(abs), err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if hit {
			return w.add(abs)
		}
	case unix.S_IFDIR:
		return w.descend(ctx, p, fd, abs, depth+1)
	default:
		if hit {
			return notRegular(abs, st.Mode)
		}
	}
	return nil
}

func (w *walker) descend(ctx context.Context, p pattern, fd int, abs string, depth int) error {
	if depth > p.depth {
		if p.depth == maxDepth {
			return refuse(refusal.Policy, fmt.Sprintf("folders at most %d deep", maxDepth), quote(abs), "use a narrower pattern")
		}
		return nil
	}
	sub, err := openAt(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return pathError(abs, err)
	}
	return w.walk(ctx, p, sub, abs, depth)
}
