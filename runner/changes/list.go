// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// op is what became of a name.
type op string

const (
	opCreated op = "created"
	opChanged op = "changed"
	opDeleted op = "deleted"
)

// header is the first line of the list.
type header struct {
	Schema   string  `json:"schema"`
	Created  int     `json:"created"`
	Changed  int     `json:"changed"`
	Deleted  int     `json:"deleted"`
	Complete bool    `json:"complete"`
	Bounds   []Bound `json:"bounds,omitempty"`
	Volumes  []Usage `json:"volumes,omitempty"`
}

// entry is a line of the list. Path is what a person can read; where a name is not UTF-8, Raw has its bytes.
type entry struct {
	Op   op     `json:"op"`
	Path text   `json:"path"`
	Raw  []byte `json:"raw,omitempty"`
	Old  *state `json:"old,omitempty"`
	New  *state `json:"new,omitempty"`
}

// line is an encoded entry with what it is sorted by.
type line struct {
	path string
	text []byte
}

// add counts a change, and lists it if there is room.
func (c *collector) add(o op, path string, before, after *state) error {
	switch o {
	case opCreated:
		c.result.Created++
	case opChanged:
		c.result.Changed++
	case opDeleted:
		c.result.Deleted++
	}
	e := entry{Op: o, Path: text(path), Old: before, New: after}
	if !utf8.ValidString(path) {
		e.Raw = []byte(path)
	}
	encoded, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("listing a change: %w", err)
	}
	if c.listed+len(encoded)+1 > c.limits.ListBytes {
		c.bound(BoundList)
		return nil
	}
	c.listed += len(encoded) + 1
	c.lines = append(c.lines, line{path, encoded})
	return nil
}

// finish sorts and encodes the list.
func (c *collector) finish() (*Changes, error) {
	r := c.result
	for b := range c.bounds {
		r.Bounds = append(r.Bounds, b)
	}
	slices.Sort(r.Bounds)
	first, err := json.Marshal(header{
		Schema: Schema, Created: r.Created, Changed: r.Changed, Deleted: r.Deleted, Complete: r.Complete(), Bounds: r.Bounds, Volumes: r.Volumes,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the list of changes: %w", err)
	}
	slices.SortStableFunc(c.lines, func(a, b line) int { return strings.Compare(a.path, b.path) })
	out := bytes.NewBuffer(append(first, '\n'))
	for _, l := range c.lines {
		out.Write(l.text)
		out.WriteByte('\n')
	}
	r.lines = out.Bytes()
	return r, nil
}

// text is a string of the job's: in JSON only its printable characters stand as they are, so that a terminal or an
// editor does not obey it.
type text string

// MarshalJSON implements [json.Marshaler].
func (t text) MarshalJSON() ([]byte, error) {
	out := []byte{'"'}
	for _, r := range string(t) {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r == ' ' || unicode.IsPrint(r) && r != utf8.RuneError:
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return append(out, '"'), nil
}
