// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"github.com/kettle/attest/attest/refusal"
)

// Bounds on patterns. Alternatives multiply the work of one match, hence their own bound.
const (
	maxPatterns     = 1024
	maxPatternBytes = 1024
	maxAlternatives = 4
	maxDepth        = 64 // directories below a pattern's fixed part; each holds one descriptor open
)

// pattern is one parsed element of Request.Patterns.
type pattern struct {
	text    string // as written
	exclude bool
	base    string // absolute; the fixed part in front of the first meta character
	glob    string // relative to base; empty for a literal path
	depth   int    // how many directories below base can match
	deep    bool   // any number of them can: then depth is a bound, and reaching it is refused
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
		p.depth, p.deep = maxDepth, true
	}
	if p.depth > maxDepth {
		return p, tooDeep(text)
	}
	return p, nil
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

func tooDeep(text string) error {
	return refuse(refusal.Policy, fmt.Sprintf("folders at most %d deep", maxDepth), quote(text), "use a narrower pattern")
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
				"check the pattern and that the job built the file: what comes with the image does not count")
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
