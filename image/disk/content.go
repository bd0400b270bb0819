// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/kettle/attest/image/disk/slot"
)

// ReaderWriterAt is an open disk.
type ReaderWriterAt interface {
	io.ReaderAt
	io.WriterAt
}

// PutBundle writes a bundle into the disk's bundle partition, in place of the one that is there; nil takes it away. A disk
// that has no sound bundle partition at that place is left as it is.
func PutBundle(f ReaderWriterAt, l Layout, bundle []byte) error {
	if err := l.Validate(); err != nil {
		return err
	}
	if err := slot.Check(io.NewSectionReader(f, l.Bundle.Offset, l.Bundle.Size)); err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	b, err := slot.Encode(bundle)
	if err != nil {
		return err //nolint:wrapcheck // it says what it did.
	}
	if _, err := f.WriteAt(b, l.Bundle.Offset); err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	return nil
}

// Bundle reads the bundle of a disk, see [slot.Read].
func Bundle(f io.ReaderAt, l Layout) ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	b, err := slot.Read(io.NewSectionReader(f, l.Bundle.Offset, l.Bundle.Size))
	if err != nil {
		return nil, fmt.Errorf("reading the bundle: %w", err)
	}
	return b, nil
}

// Digest gives the SHA-256 of everything on the disk but the bundle partition: of the bytes before it and then those behind
// it. It is a function of the UKI and the root alone.
func Digest(f io.ReaderAt, l Layout) ([sha256.Size]byte, error) {
	if err := l.Validate(); err != nil {
		return [sha256.Size]byte{}, err
	}
	h := sha256.New()
	for _, r := range []Range{{0, l.Bundle.Offset}, {l.Bundle.End(), l.Size - l.Bundle.End()}} {
		n, err := io.Copy(h, io.NewSectionReader(f, r.Offset, r.Size))
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("hashing a disk: %w", err)
		}
		if n != r.Size {
			return [sha256.Size]byte{}, fmt.Errorf("hashing a disk: it has %d bytes at %d, want %d", n, r.Offset, r.Size)
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
