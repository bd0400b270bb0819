// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxDepth   = 32
	maxUnknown = 32 // keys of an object that the reader does not know
	maxItems   = 512
)

var (
	errSyntax    = errors.New("not JSON in UTF-8")
	errType      = errors.New("a value of another type")
	errRepeated  = errors.New("a repeated key")
	errCase      = errors.New("a key that differs in case from a known one")
	errUnknown   = errors.New("an unknown key")
	errMissing   = errors.New("a missing key")
	errBounds    = errors.New("a value out of bounds")
	errKeyFormat = errors.New("a key that is no plain ASCII")
)

// reader reads signed JSON by exact keys. encoding/json matches keys without regard to case and lets the last of two
// equal keys win, so that what is read need not be what was signed: here a key is the known one to the byte, or unknown;
// one that is known but for its case, or stands twice in any case, is refused. The whole text has been checked to be
// JSON before, so that only structure matters here.
type reader struct {
	text  []byte
	at    int
	depth int
}

// readJSON reads one object that is all of text.
func readJSON(text []byte, read func(r *reader) error) error {
	if !utf8.Valid(text) || !json.Valid(text) {
		return errSyntax
	}
	r := &reader{text: text}
	if err := read(r); err != nil {
		return fmt.Errorf("at byte %d: %w", r.at, err)
	}
	if r.peek() != 0 {
		return errSyntax
	}
	return nil
}

// peek gives the next byte that is no white space, 0 at the end.
func (r *reader) peek() byte {
	for ; r.at < len(r.text); r.at++ {
		switch b := r.text[r.at]; b {
		case ' ', '\t', '\r', '\n':
		default:
			return b
		}
	}
	return 0
}

func (r *reader) expect(b byte) bool {
	if r.peek() != b {
		return false
	}
	r.at++
	return true
}

// keys is what an object may hold.
type keys struct {
	names    []string // at most 64
	optional uint64   // by index in names
	open     bool     // unknown keys are passed over
}

// object reads an object and calls read for each known key, with its index in names.
func (r *reader) object(k keys, read func(i int) error) error {
	if !r.expect('{') {
		return errType
	}
	if r.depth++; r.depth > maxDepth {
		return errBounds
	}
	var seen uint64
	var others []string
	for first := true; !r.expect('}'); first = false {
		if !first && !r.expect(',') {
			return errSyntax
		}
		key, err := r.key()
		if err != nil {
			return err
		}
		i, err := k.find(key)
		switch {
		case err != nil:
		case i >= 0 && seen&(1<<i) != 0:
			err = errRepeated
		case i >= 0:
			seen |= 1 << i
			err = read(i)
		default:
			others, err = r.unknown(key, others)
		}
		if err != nil {
			return fmt.Errorf("%.40q: %w", key, err)
		}
	}
	r.depth--
	if absent := (1<<len(k.names) - 1) &^ (seen | k.optional); absent != 0 {
		return fmt.Errorf("%q: %w", k.names[bits.TrailingZeros64(absent)], errMissing)
	}
	return nil
}

// find gives the index of the key, or -1 for one that may be passed over.
func (k keys) find(key string) (int, error) {
	for i, name := range k.names {
		if name == key {
			return i, nil
		}
	}
	for _, name := range k.names {
		if strings.EqualFold(name, key) {
			return 0, errCase
		}
	}
	if !k.open {
		return 0, errUnknown
	}
	return -1, nil
}

func (r *reader) unknown(key string, others []string) ([]string, error) {
	for _, o := range others {
		if strings.EqualFold(o, key) {
			return nil, errRepeated
		}
	}
	if len(others) >= maxUnknown {
		return nil, errBounds
	}
	return append(others, key), r.skip()
}

// key reads a key and its colon. Keys have no escapes and are ASCII, so that nothing folds into them from afar.
func (r *reader) key() (string, error) {
	raw, err := r.rawString()
	if err != nil {
		return "", err
	}
	for _, b := range raw {
		if b < ' ' || b > '~' || b == '\\' {
			return "", errKeyFormat
		}
	}
	if !r.expect(':') {
		return "", errSyntax
	}
	return string(raw), nil
}

// rawString gives the bytes between the quotation marks.
func (r *reader) rawString() ([]byte, error) {
	if !r.expect('"') {
		return nil, errType
	}
	start := r.at
	for ; r.at < len(r.text); r.at++ {
		switch r.text[r.at] {
		case '\\':
			r.at++
		case '"':
			r.at++
			return r.text[start : r.at-1], nil
		}
	}
	return nil, errSyntax
}

// skip passes over a value, in which no object may hold a key twice in any case.
func (r *reader) skip() error {
	switch r.peek() {
	case '{':
		return r.object(keys{open: true}, nil)
	case '[':
		return r.array(r.skip)
	case '"':
		_, err := r.rawString()
		return err
	}
	for r.at < len(r.text) && !strings.ContainsRune(",]} \t\r\n", rune(r.text[r.at])) {
		r.at++
	}
	return nil
}

func (r *reader) array(read func() error) error {
	if !r.expect('[') {
		return errType
	}
	if r.depth++; r.depth > maxDepth {
		return errBounds
	}
	for n := 0; !r.expect(']'); n++ {
		if n > 0 && !r.expect(',') {
			return errSyntax
		}
		if n >= maxItems {
			return errBounds
		}
		if err := read(); err != nil {
			return err
		}
	}
	r.depth--
	return nil
}

// str reads a string of at most limit bytes.
func (r *reader) str(to *string, limit int) error {
	raw, err := r.rawString()
	if err != nil {
		return err
	}
	s := string(raw)
	if strings.IndexByte(s, '\\') >= 0 {
		if err := json.Unmarshal(r.text[r.at-len(raw)-2:r.at], &s); err != nil {
			return errSyntax
		}
	}
	if len(s) > limit {
		return errBounds
	}
	*to = s
	return nil
}

// hex reads exactly len(to) bytes in hexadecimal digits of either case.
func (r *reader) hex(to []byte) error {
	var s string
	if err := r.str(&s, 2*len(to)); err != nil {
		return err
	}
	if n, err := hex.Decode(to, []byte(s)); err != nil || n != len(to) {
		return errBounds
	}
	return nil
}

// time reads a time as Intel writes it: RFC 3339, in UTC.
func (r *reader) time(to *time.Time) error {
	var s string
	if err := r.str(&s, 40); err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || !strings.HasSuffix(s, "Z") {
		return errBounds
	}
	*to = t
	return nil
}

// number reads a non-negative integer up to limit.
func (r *reader) number(to *uint32, limit uint32) error {
	r.peek()
	n, start := uint64(0), r.at
	for ; r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' && r.at-start < 10; r.at++ {
		n = n*10 + uint64(r.text[r.at]-'0')
	}
	if r.at == start {
		return errType
	}
	if next := r.peek(); n > uint64(limit) || (next != ',' && next != '}' && next != ']') {
		return errBounds
	}
	*to = uint32(n)
	return nil
}

func (r *reader) uint16(to *uint16) error {
	var n uint32
	err := r.number(&n, 0xffff)
	*to = uint16(n)
	return err
}
