// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"

	"github.com/kettle/attest/internal/secret"
)

// leastCut is how much of a secret's beginning is masked at the very end of a text: whoever wrote it may have died there.
const leastCut = 8

// Masker replaces secrets in a text, and what has the shape of a well-known credential, by [Masker.Marker].
//
// Its guarantee: no output contains a form of a secret that it was given, however the text was cut into pieces. All
// occurrences are found, also those that overlap, and what they cover together is replaced; the marker consists of a
// character that no form has, so that nothing new comes about beside it. It is for accidents: who knows a secret can write
// it in another form. It is immutable and safe for concurrent use.
type Masker struct {
	filter [1 << 16 / 64]uint64 // which hashes keys have
	begins map[uint32][]pattern // by the first four bytes
	marker []byte               // nil when no character is left for one
	short  int                  // secrets that are too short to be masked
}

// pattern is one thing to mask: a text, or a shape.
type pattern struct {
	text  []byte
	shape *shape
}

// NewMasker masks these secrets in all their forms. One that is shorter than four bytes is not masked.
func NewMasker(secrets []secret.String) *Masker {
	m := &Masker{begins: map[uint32][]pattern{}}
	var used [256]bool
	seen := map[string]bool{}
	for _, s := range secrets {
		value := s.Reveal()
		if len(strings.TrimSpace(value)) < least {
			m.short++
			continue
		}
		for form := range forms(value) {
			if seen[form] {
				continue
			}
			seen[form] = true
			for i := range len(form) {
				used[form[i]] = true
			}
			m.begin([]byte(form)[:least], pattern{text: []byte(form)})
		}
	}
	for _, s := range shapes() {
		for _, key := range keys(s) {
			m.begin(key, pattern{shape: &s})
		}
	}
	for _, sign := range []byte("*#~^_!%+=@.x") {
		if !used[sign] {
			m.marker = []byte{sign, sign, sign}
			break
		}
	}
	return m
}

// keys are the first four bytes that a shape may begin with.
func keys(s shape) [][]byte {
	found := [][]byte{nil}
	for i := range least {
		var alternatives []byte
		switch {
		case i >= len(s.prefix): // what follows is of its class
			for x := range 256 {
				if s.run.has([]byte{byte(x)}) {
					alternatives = append(alternatives, byte(x))
				}
			}
		case s.fold && s.prefix[i] >= 'a' && s.prefix[i] <= 'z':
			alternatives = []byte{s.prefix[i], s.prefix[i] - 'a' + 'A'}
		default:
			alternatives = []byte{s.prefix[i]}
		}
		var longer [][]byte
		for _, key := range found {
			for _, x := range alternatives {
				longer = append(longer, append(key[:len(key):len(key)], x))
			}
		}
		found = longer
	}
	return found
}

func (m *Masker) begin(key []byte, p pattern) {
	k := binary.LittleEndian.Uint32(key)
	h := hash(k)
	m.filter[h>>6] |= 1 << (h & 63)
	m.begins[k] = append(m.begins[k], p)
}

func hash(key uint32) uint32 { return key * 0x9E3779B1 >> 16 }

// Marker is what stands in place of what was masked; empty when the secrets leave no character for it.
func (m *Masker) Marker() string { return string(m.marker) }

// Writer masks what is written to it. Nothing is held back longer than until Close, which must be called.
func (m *Masker) Writer(to io.Writer) *Writer {
	return &Writer{to: to, block: 32 << 10, stream: stream{m: m, to: int64(^uint64(0) >> 1)}}
}

// Writer masks a text that comes in pieces. It is not safe for concurrent use.
type Writer struct {
	to     io.Writer
	block  int // bytes that are worth a look
	held   int // bytes that wait for others since the last look
	stream stream
}

// errNoMarker refuses to remove secrets without putting anything in their place: what stood around them could make another.
var errNoMarker = errors.New("masking: the secrets leave no character to mask them with")

// Write implements [io.Writer].
func (w *Writer) Write(p []byte) (int, error) {
	if w.stream.m.marker == nil {
		return 0, errNoMarker
	}
	w.stream.buf = append(w.stream.buf, p...)
	if len(w.stream.buf) < w.held+w.block {
		return len(p), nil
	}
	return len(p), w.flush(false)
}

// Close masks and writes what is left. It does not close the other writer.
func (w *Writer) Close() error { return w.flush(true) }

// Masked is how often something was masked.
func (w *Writer) Masked() int { return w.stream.masked }

func (w *Writer) flush(final bool) error {
	w.stream.step(final)
	w.held = len(w.stream.buf)
	out := w.stream.out
	w.stream.out = nil
	if len(out) == 0 {
		return nil
	}
	_, err := w.to.Write(out)
	return err
}

// window masks data and gives what it makes of the bytes from from up to to; the others are only looked at.
func (m *Masker) window(data []byte, from, to int) ([]byte, int) {
	s := stream{m: m, buf: data, from: int64(from), to: int64(to), out: make([]byte, 0, to-from)}
	s.step(true)
	return s.out, s.masked
}
