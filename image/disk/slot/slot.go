// SPDX-License-Identifier: Apache-2.0

// Package slot is the format of the bundle partition: a fixed place on an image's disk for the statements about the image,
// which are signed after the disk has been made.
//
// The partition has [Size] bytes: eight bytes of magic, the bundle's length as an unsigned 64-bit number, big-endian, the
// bundle, and zeros up to the end. A length of 0 says that there is no bundle. The bundle is JSON Lines, one Sigstore
// bundle a line; this package does not look into it.
//
// It guarantees that [Read] gives what [Write] wrote, or refuses, reads at most [Size] bytes and never allocates more. It
// trusts nothing: whoever has the disk can write there what they like, so what comes out is only ever worth the
// signatures in it. It imports no other part of the image: kettled links it.
package slot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/kettle/attest/attest/refusal"
)

const (
	// Size is the size of the partition in bytes.
	Size = 4 << 20
	// Capacity is the size of the largest bundle in bytes.
	Capacity = Size - header

	magic  = "KETTLEB1"
	header = len(magic) + 8
	link   = "bundle partition"
)

// Next sentences of refusals.
const (
	nextRewrite = "write the image's bundle to the disk again"
	nextAttest  = "write the bundle that the image was released with to the disk, or attest the image"
)

// Encode gives the whole partition with a bundle in it; nil or empty means that there is none. A bundle of more than
// [Capacity] bytes is an error.
func Encode(bundle []byte) ([]byte, error) {
	if len(bundle) > Capacity {
		return nil, fmt.Errorf("writing the bundle partition: a bundle of %d bytes, at most %d fit", len(bundle), Capacity)
	}
	b := make([]byte, Size)
	copy(b, magic)
	binary.BigEndian.PutUint64(b[len(magic):], uint64(len(bundle)))
	copy(b[header:], bundle)
	return b, nil
}

// Read gives the bundle of a partition, which r reads from its beginning. Refusals have the link "bundle partition" and the
// code missing if there is none, malformed if it is no bundle partition, too large, or cut off.
func Read(r io.Reader) ([]byte, error) {
	r = io.LimitReader(r, Size)
	var head [header]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, broken("a header of 16 bytes", "fewer").Because(err)
	}
	if err := Check(bytes.NewReader(head[:])); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint64(head[len(magic):])
	switch {
	case size == 0:
		return nil, &refusal.Refusal{Link: link, Code: refusal.Missing, Want: "a bundle", Got: "none", Next: nextAttest}
	case size > uint64(Capacity):
		return nil, broken(fmt.Sprintf("a bundle of at most %d bytes", Capacity), fmt.Sprintf("%d", size))
	}
	rest, err := io.ReadAll(r)
	switch {
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("reading the bundle partition: %w", err)
	case len(rest) != Capacity:
		return nil, broken(fmt.Sprintf("a partition of %d bytes", Size), fmt.Sprintf("%d", len(rest)+header))
	}
	bundle, padding := rest[:size], rest[size:]
	for _, b := range padding {
		if b != 0 {
			return nil, broken("zeros behind the bundle", "other bytes")
		}
	}
	return bundle, nil
}

// Check reports whether r begins with a bundle partition, with or without a bundle, so that another may be written there.
func Check(r io.Reader) error {
	var got [len(magic)]byte
	if _, err := io.ReadFull(r, got[:]); err != nil {
		return broken("a header of 16 bytes", "fewer").Because(err)
	}
	if string(got[:]) != magic {
		return broken(fmt.Sprintf("the magic %q", magic), fmt.Sprintf("%q", got))
	}
	return nil
}

func broken(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Malformed, Want: want, Got: got, Next: nextRewrite}
}
