// SPDX-License-Identifier: Apache-2.0

// Package strict reads JSON that a program is about to trust.
//
// [encoding/json] takes the last of two equal keys, matches keys without regard to case, and ignores what it does not
// know: two readers of the same bytes may then see two different messages. [Decode] refuses all of that, and [Unique]
// refuses only what is ambiguous, for formats that are not ours and may grow. Both look at the bytes alone; neither
// knows what a field means, and neither bounds how many bytes it is given. The package imports only the standard library.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxDepth is the deepest nesting that is read.
const MaxDepth = 100

// Errors that tell what was ambiguous. They come wrapped, with the place in the document.
var (
	ErrDuplicate = errors.New("duplicate key")
	ErrTrailing  = errors.New("data after the value")
	ErrUTF8      = errors.New("invalid UTF-8")
	ErrDepth     = errors.New("nested too deep")
)

// Decode reads exactly one JSON value into v. It refuses unknown keys, keys that are equal but for their case, data
// after the value and invalid UTF-8.
func Decode(data []byte, v any) error {
	if err := Unique(data); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decoding JSON: %w", err)
	}
	return nil
}

// Unique checks that data is exactly one JSON value in valid UTF-8 in which no object has two keys that
// [encoding/json] could take for one another.
func Unique(data []byte) error {
	if !utf8.Valid(data) {
		return ErrUTF8
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var s stack
	for {
		tok, err := dec.Token()
		if err != nil {
			return fmt.Errorf("reading JSON: %w", noEOF(err))
		}
		if err := s.take(tok); err != nil {
			return fmt.Errorf("reading JSON at byte %d: %w", dec.InputOffset(), err)
		}
		if len(s) == 0 {
			break
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return ErrTrailing
	}
	return nil
}

// level is one open array or object. keys is nil in an array; wantKey says that the next token of an object is a key.
type level struct {
	keys    map[string]struct{}
	wantKey bool
}

type stack []level

// take accounts for one token of the document.
func (s *stack) take(tok json.Token) error {
	if d, ok := tok.(json.Delim); ok {
		switch d {
		case '{':
			return s.push(level{keys: map[string]struct{}{}, wantKey: true})
		case '[':
			return s.push(level{})
		default:
			*s = (*s)[:len(*s)-1]
			s.valueDone()
			return nil
		}
	}
	if top := s.top(); top != nil && top.wantKey {
		key, _ := tok.(string) // the decoder yields only strings where a key stands
		return top.key(key)
	}
	s.valueDone()
	return nil
}

func (s *stack) push(l level) error {
	if len(*s) >= MaxDepth {
		return fmt.Errorf("%w than %d", ErrDepth, MaxDepth)
	}
	*s = append(*s, l)
	return nil
}

func (s *stack) top() *level {
	if len(*s) == 0 {
		return nil
	}
	return &(*s)[len(*s)-1]
}

// valueDone says that a value has ended: in an object a key comes next.
func (s *stack) valueDone() {
	if top := s.top(); top != nil && top.keys != nil {
		top.wantKey = true
	}
}

func (l *level) key(key string) error {
	folded := fold(key)
	if _, seen := l.keys[folded]; seen {
		return fmt.Errorf("%w %.64q", ErrDuplicate, key)
	}
	l.keys[folded] = struct{}{}
	l.wantKey = false
	return nil
}

// fold gives the same text for all keys that encoding/json takes for one: the smallest rune of each orbit of
// [unicode.SimpleFold]. Lower case alone would let "\u017fubject", with a long s, stand beside "subject".
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf { // the smallest of an orbit with an ASCII letter is that letter in upper case
			return unicode.ToUpper(r)
		}
		for {
			next := unicode.SimpleFold(r)
			if next <= r {
				return next
			}
			r = next
		}
	}, key)
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
