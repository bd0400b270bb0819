// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"encoding/binary"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// wire reads the big-endian structures of TPM2 from front to back. It allocates nothing, gives slices of what it was
// given, and after the first fault gives zeros: callers look at err once, through done.
type wire struct {
	link string
	what string // the structure, for messages
	rest []byte
	err  *refusal.Refusal
}

func (w *wire) fail(want, got string) {
	if w.err == nil {
		w.err = malformed(want, got)
		w.err.Link = w.link
	}
}

func (w *wire) take(n int, field string) []byte {
	if w.err != nil || n > len(w.rest) {
		w.fail(fmt.Sprintf("%d bytes of %s in %s", n, field, w.what), fmt.Sprintf("%d", len(w.rest)))
		return nil
	}
	out := w.rest[:n:n]
	w.rest = w.rest[n:]
	return out
}

func (w *wire) u8(field string) uint8 {
	if b := w.take(1, field); b != nil {
		return b[0]
	}
	return 0
}

func (w *wire) u16(field string) uint16 {
	if b := w.take(2, field); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (w *wire) u32(field string) uint32 {
	if b := w.take(4, field); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (w *wire) u64(field string) uint64 {
	if b := w.take(8, field); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// sized reads a TPM2B of at most limit bytes.
func (w *wire) sized(limit int, field string) []byte {
	n := int(w.u16("the size of " + field))
	if n > limit {
		w.fail(fmt.Sprintf("at most %d bytes of %s in %s", limit, field, w.what), fmt.Sprintf("%d", n))
		return nil
	}
	return w.take(n, field)
}

// done reports the first fault, bytes after the end being one.
func (w *wire) done() error {
	if w.err == nil && len(w.rest) > 0 {
		w.fail("nothing after "+w.what, fmt.Sprintf("%d bytes", len(w.rest)))
	}
	if w.err != nil {
		return w.err
	}
	return nil
}
