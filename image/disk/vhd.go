// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

const footerSize = 512

// VHD writes the disk as a fixed VHD, which Azure takes: the disk's bytes and a footer of 512 bytes. The disk's size has to be
// a multiple of 1 MiB, as it is of every disk of ours.
//
// The footer has no time, and its identifier comes from the disk's bytes, so that the same disk gives the same file.
// Source: Microsoft "Virtual Hard Disk Image Format Specification" 1.0, section "Hard Disk Footer Format"; Azure "Prepare a
// Windows VHD or VHDX to upload", for the alignment.
func VHD(w io.Writer, disk io.Reader, size int64) error {
	if size <= 0 || size%alignment != 0 {
		return fmt.Errorf("writing a VHD: a disk of %d bytes is no multiple of 1 MiB", size)
	}
	h := sha256.New()
	if err := copyDisk(io.MultiWriter(w, h), disk, size); err != nil {
		return fmt.Errorf("writing a VHD: %w", err)
	}
	if _, err := w.Write(footer(size, [16]byte(h.Sum(nil)))); err != nil {
		return fmt.Errorf("writing a VHD: %w", err)
	}
	return nil
}

// copyDisk copies exactly size bytes.
func copyDisk(w io.Writer, disk io.Reader, size int64) error {
	n, err := io.Copy(w, io.LimitReader(disk, size))
	if err != nil {
		return err //nolint:wrapcheck // its caller says what it was at.
	}
	if n != size {
		return fmt.Errorf("the disk has %d bytes, want %d", n, size)
	}
	return nil
}

// footer gives a VHD's footer, big-endian.
func footer(size int64, id [16]byte) []byte {
	be := binary.BigEndian
	b := make([]byte, footerSize)
	copy(b, "conectix")
	be.PutUint32(b[8:], 2)        // features: the reserved bit, always set
	be.PutUint32(b[12:], 1<<16)   // version 1.0
	be.PutUint64(b[16:], 1<<64-1) // no header behind the footer: the disk is fixed
	// b[24:28] is the time of creation: none
	copy(b[28:], "win ") // with this creator readers take the size below and not that of the geometry
	be.PutUint32(b[32:], 10<<16)
	copy(b[36:], "Wi2k")
	be.PutUint64(b[40:], uint64(size)) //nolint:gosec // positive.
	be.PutUint64(b[48:], uint64(size)) //nolint:gosec // positive.
	cylinders, heads, sectors := geometry(size / sector)
	be.PutUint16(b[56:], cylinders)
	b[58], b[59] = heads, sectors
	be.PutUint32(b[60:], 2) // a fixed disk
	copy(b[68:], id[:])
	sum := uint32(0)
	for _, c := range b {
		sum += uint32(c)
	}
	be.PutUint32(b[64:], ^sum)
	return b
}

// geometry gives the cylinders, heads and sectors that stand for a number of sectors (the specification's appendix "CHS
// Calculation").
func geometry(total int64) (cylinders uint16, heads, sectors byte) {
	total = min(total, 65535*16*255)
	var s, h, tracks int64
	if total >= 65535*16*63 {
		s, h = 255, 16
		tracks = total / s
	} else {
		s = 17
		tracks = total / s
		h = max((tracks+1023)/1024, 4)
		if tracks >= h*1024 || h > 16 {
			s, h = 31, 16
			tracks = total / s
		}
		if tracks >= h*1024 {
			s, h = 63, 16
			tracks = total / s
		}
	}
	return uint16(tracks / h), byte(h), byte(s) //nolint:gosec // at most 65535, 16 and 255.
}
