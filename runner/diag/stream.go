// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"bytes"
	"encoding/binary"
)

// stream is a text being masked. A byte's fate depends on what begins at it or before it, so that one pass is enough; where
// that depends on bytes that are still to come, it stops and waits for them.
type stream struct {
	m        *Masker
	from, to int64 // which part of the text is shown

	buf    []byte // not decided
	at     int64  // where buf begins in the text
	until  int64  // up to where a known secret covers the text
	runs   []run  // credentials of known shapes that have begun, or will
	marked bool   // the last thing shown was a marker
	out    []byte
	masked int
}

// run is a credential that lasts as long as the bytes are of its class.
type run struct {
	from int64
	of   class
}

// step decides as many bytes as it can; all of them when no more will come.
func (s *stream) step(final bool) {
	b := s.buf
	i := 0
	for i < len(b) {
		if len(s.runs) == 0 && s.until <= s.at+int64(i) {
			j := s.m.next(b, i, final)
			s.show(b[i:j], s.at+int64(i))
			if i = j; i == len(b) {
				break
			}
		}
		if !final && len(b)-i < least {
			break
		}
		if !s.begin(b[i:], s.at+int64(i), final) {
			break
		}
		if s.covered(b[i:], s.at+int64(i)) {
			s.hide(s.at + int64(i))
		} else {
			s.show(b[i:i+1], s.at+int64(i))
		}
		i++
	}
	s.buf = b[i:]
	s.at += int64(i)
}

// next finds the first place from i on where something may begin.
func (m *Masker) next(b []byte, i int, final bool) int {
	for ; i+least <= len(b); i++ {
		h := hash(binary.LittleEndian.Uint32(b[i:]))
		if m.filter[h>>6]&(1<<(h&63)) != 0 {
			return i
		}
	}
	if final {
		return len(b)
	}
	return i
}

// begin notes what begins with the first byte of b. It reports false when that depends on what follows.
func (s *stream) begin(b []byte, at int64, final bool) bool {
	if len(b) < least {
		return true
	}
	key := binary.LittleEndian.Uint32(b)
	h := hash(key)
	if s.m.filter[h>>6]&(1<<(h&63)) == 0 {
		return true
	}
	for _, p := range s.m.begins[key] {
		if p.shape == nil {
			n, v := matchText(p.text, b, final)
			if v == more {
				return false
			}
			if v == yes {
				s.until = max(s.until, at+int64(n))
			}
			continue
		}
		n, of, v := p.shape.match(b, final)
		if v == more {
			return false
		}
		if v == yes {
			s.run(run{from: at + int64(n), of: of})
		}
	}
	return true
}

// matchText says whether b begins with a text, or ends in the midst of one.
func matchText(text, b []byte, final bool) (int, verdict) {
	switch {
	case len(b) >= len(text):
		if bytes.Equal(b[:len(text)], text) {
			return len(text), yes
		}
	case !bytes.HasPrefix(text, b):
	case !final:
		return 0, more
	case len(b) >= leastCut:
		return len(b), yes
	}
	return 0, no
}

// run adds a run, unless one of its class covers it already.
func (s *stream) run(r run) {
	for _, have := range s.runs {
		if have == r {
			return
		}
	}
	s.runs = append(s.runs, r)
}

// covered reports whether the first byte of b is part of anything secret, and ends the runs that end before it.
func (s *stream) covered(b []byte, at int64) bool {
	hidden := s.until > at
	kept := s.runs[:0]
	for _, r := range s.runs {
		switch {
		case r.from > at:
			kept = append(kept, r)
		case r.of.has(b):
			hidden = true
			if !covers(kept, r, at) {
				kept = append(kept, r)
			}
		}
	}
	s.runs = kept
	return hidden
}

// covers reports whether one of the runs is of the same class and has begun, so that both end together.
func covers(runs []run, r run, at int64) bool {
	for _, have := range runs {
		if have.of == r.of && have.from <= at {
			return true
		}
	}
	return false
}

// show passes bytes on that begin at at.
func (s *stream) show(b []byte, at int64) {
	if len(b) == 0 {
		return
	}
	s.marked = false
	first, end := max(0, s.from-at), min(int64(len(b)), s.to-at)
	if first < end {
		s.out = append(s.out, b[first:end]...)
	}
}

// hide shows one marker for all bytes that are hidden together.
func (s *stream) hide(at int64) {
	if s.marked || at < s.from || at >= s.to {
		return
	}
	s.marked = true
	s.masked++
	s.out = append(s.out, s.m.marker...)
}
