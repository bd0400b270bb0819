// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The words that open a field on purpose.
const (
	wordAny   = "any"
	wordNone  = "none"
	wordNever = "never"

	wordSigned = "signed" // opens nothing: an image's signed reference values decide
)

// list is a list of strings, or one of the words of its field written in its place.
type list struct {
	word   string // the word, when one was written
	values []string
}

// UnmarshalYAML reads a sequence of strings or a single word.
func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&l.word)
	}
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: want a list", n.Line)
	}
	l.values = []string{}
	for _, c := range n.Content {
		if c.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: want text", c.Line)
		}
		l.values = append(l.values, c.Value)
	}
	return nil
}

func (l *list) absent() bool { return l.word == "" && l.values == nil }

// has reports whether v is in the list, exactly.
func (l *list) has(v string) bool { return l.word == wordAny || slices.Contains(l.values, v) }

// matches reports whether one of the globs of the list matches v.
func (l *list) matches(v string) bool {
	if l.word == wordAny {
		return true
	}
	return slices.ContainsFunc(l.values, func(g string) bool { return match(g, v) })
}

// String gives what the policy demands, for refusals.
func (l *list) String() string {
	if l.word != "" {
		return l.word
	}
	if len(l.values) == 1 {
		return fmt.Sprintf("%q", l.values[0])
	}
	quoted := make([]string, len(l.values))
	for i, v := range l.values {
		quoted[i] = fmt.Sprintf("%q", v)
	}
	return "one of " + strings.Join(quoted, ", ")
}

// deadline is a date, a time in RFC 3339, or "never".
type deadline struct {
	at    time.Time
	never bool
}

// UnmarshalYAML reads a date (its first moment in UTC), a time in RFC 3339, or the word "never".
func (d *deadline) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return fmt.Errorf("line %d: expires: want a date, a time or never", n.Line)
	}
	if d.never = n.Value == wordNever; d.never {
		return nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, n.Value); err == nil {
			d.at = t
			return nil
		}
	}
	return fmt.Errorf("line %d: expires: %q is no date (2006-01-02), no time (RFC 3339) and not never", n.Line, n.Value)
}

func (d deadline) absent() bool { return !d.never && d.at.IsZero() }
