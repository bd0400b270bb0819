// SPDX-License-Identifier: Apache-2.0

// Package ovmf reads what an OVMF or TDVF firmware file says about its own launch: the SEV and TDX metadata that a virtual
// machine monitor follows when it builds a confidential guest.
//
// It guarantees that metadata it returned is complete and consistent: every section is page-aligned, inside the address
// space, and overlaps no other. It never panics, allocates only what a bounded file can hold, and reads nothing but the
// bytes it was given. It trusts nobody and vouches for nothing: a firmware that parses may still be malicious.
//
// Sources: edk2 OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm (the GUIDed table), OvmfPkg/ResetVector/X64/
// OvmfSevMetadata.asm, and Intel's "TDX Virtual Firmware Design Guide", section 11 (TDVF metadata).
package ovmf

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// PageSize is the size of the pages that are measured, in bytes.
const PageSize = 4096

// MaxSize is the largest firmware file that [Parse] reads, in bytes.
const MaxSize = 16 << 20

// The last 32 bytes of the file are the reset vector; the GUIDed table ends before them.
const (
	tableEnd    = 32
	entryHeader = 18 // u16 length, 16 bytes GUID, behind the entry's data
)

// guid is a GUID as it lies in memory: its first three fields little-endian.
type guid [16]byte

// The entries of the table that matter for a launch.
var (
	guidTable       = guid{0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d} // 96b582de-1fb2-45f7-baea-a366c55a082d
	guidResetBlock  = guid{0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e} // 00f771de-1a7e-4fcb-890e-68c77e2fb44e
	guidHashTable   = guid{0x1f, 0x37, 0x55, 0x72, 0x3b, 0x3a, 0x04, 0x4b, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54} // 7255371f-3a3b-4b04-927b-1da6efa8d454
	guidSEVMetadata = guid{0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc} // dc886566-984a-4798-a75e-5585a7bf67cc
	guidTDXMetadata = guid{0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2} // e47a6535-984a-4798-865e-4685a7bf8ec2
)

// UnsupportedError says that a firmware is sound but was not built for that kind of guest.
type UnsupportedError struct{ Reason string }

// Error gives the reason.
func (e *UnsupportedError) Error() string { return e.Reason }

// Unsupported tells this error from a fault of the file.
func (e *UnsupportedError) Unsupported() bool { return true }

// Firmware is one parsed firmware file. It keeps the bytes it was parsed from; they must not be changed.
type Firmware struct {
	data    []byte
	entries map[guid][]byte
}

// Parse reads the table at the end of a firmware file of whole pages, at most [MaxSize] bytes; a file without one is an
// [UnsupportedError]. Whether there is SEV or TDX metadata is found out by [Firmware.SEV] and [Firmware.TDX].
func Parse(data []byte) (*Firmware, error) {
	if len(data) < PageSize || len(data) > MaxSize || len(data)%PageSize != 0 {
		return nil, fmt.Errorf("reading firmware: want whole pages of %d bytes, at most %d bytes, got %d bytes", PageSize, MaxSize, len(data))
	}
	entries, err := readTable(data[:len(data)-tableEnd])
	if err != nil {
		return nil, fmt.Errorf("reading firmware: %w", err)
	}
	return &Firmware{data: data, entries: entries}, nil
}

// Data gives the whole file.
func (f *Firmware) Data() []byte { return f.data }

// GPA is the guest physical address of the file's first byte: the file ends at 4 GiB.
func (f *Firmware) GPA() uint64 { return 1<<32 - uint64(len(f.data)) }

// readTable walks the entries from the last to the first. Every byte of the table belongs to exactly one entry, and no
// entry is there twice.
func readTable(data []byte) (map[guid][]byte, error) {
	body, id, _, err := lastEntry(data) // its length is that of the table: its data is all other entries
	if err != nil || id != guidTable {
		return nil, &UnsupportedError{"there is no table of GUIDs before the reset vector: it is no OVMF for confidential guests"}
	}
	entries := map[guid][]byte{}
	for len(body) > 0 {
		var entry []byte
		if entry, id, body, err = lastEntry(body); err != nil {
			return nil, err
		}
		if _, twice := entries[id]; twice {
			return nil, fmt.Errorf("the table of GUIDs has %x twice", id)
		}
		entries[id] = entry
	}
	return entries, nil
}

// lastEntry splits the entry at the end of b off.
func lastEntry(b []byte) (body []byte, id guid, rest []byte, err error) {
	if len(b) < entryHeader {
		return nil, guid{}, nil, fmt.Errorf("the table of GUIDs has %d bytes that belong to no entry", len(b))
	}
	header := b[len(b)-entryHeader:]
	length := int(binary.LittleEndian.Uint16(header))
	if length < entryHeader || length > len(b) {
		return nil, guid{}, nil, fmt.Errorf("the table of GUIDs has an entry of %d bytes where %d are left", length, len(b))
	}
	start := len(b) - length
	return b[start : len(b)-entryHeader], guid(header[2:]), b[:start], nil
}

// words reads the table's entry id, which has to be size bytes, as little-endian words of four bytes.
func (f *Firmware) words(id guid, size int) ([]uint32, bool, error) {
	entry, ok := f.entries[id]
	if !ok {
		return nil, false, nil
	}
	if len(entry) != size {
		return nil, false, fmt.Errorf("the table's entry %x has %d bytes, want %d", id, len(entry), size)
	}
	words := make([]uint32, size/4)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(entry[4*i:])
	}
	return words, true, nil
}

// descriptor finds a metadata descriptor, which an entry of the table names by its distance from the end of the file, and
// gives its sections: count records of size bytes each.
func (f *Firmware) descriptor(id guid, magic string, size int) ([][]byte, bool, error) {
	words, ok, err := f.words(id, 4)
	if err != nil || !ok {
		return nil, false, err
	}
	const header = 16 // magic, length, version, number of sections
	distance := uint64(words[0])
	if distance < header || distance > uint64(len(f.data)) {
		return nil, false, fmt.Errorf("the metadata lies %d bytes before the end of a file of %d bytes", distance, len(f.data))
	}
	d := f.data[uint64(len(f.data))-distance:]
	if !bytes.HasPrefix(d, []byte(magic)) {
		return nil, false, fmt.Errorf("the metadata starts with %q, want %q", d[:4], magic)
	}
	length, version, count := binary.LittleEndian.Uint32(d[4:]), binary.LittleEndian.Uint32(d[8:]), binary.LittleEndian.Uint32(d[12:])
	if version != 1 {
		return nil, false, fmt.Errorf("the metadata has version %d, want 1", version)
	}
	if want := header + uint64(size)*uint64(count); uint64(length) != want || want > uint64(len(d)) { //nolint:gosec // 12 or 32.
		return nil, false, fmt.Errorf("the metadata has %d sections in %d bytes", count, length)
	}
	if count > maxSections {
		return nil, false, fmt.Errorf("the metadata has %d sections, at most %d are allowed", count, maxSections)
	}
	records := make([][]byte, count)
	for i := range records {
		records[i] = d[header+i*size : header+(i+1)*size]
	}
	return records, true, nil
}

// maxSections bounds the sections of one firmware; edk2 has seven.
const maxSections = 64

// span is a range of guest physical memory.
type span struct{ start, size uint64 }

// disjoint checks that spans are whole pages inside the address space and do not overlap.
func disjoint(spans []span, limit uint64) error {
	for i, s := range spans {
		if s.size == 0 || s.start%PageSize != 0 || s.size%PageSize != 0 {
			return fmt.Errorf("section %d: %#x bytes at %#x are not whole pages", i, s.size, s.start)
		}
		if s.start >= limit || s.size > limit-s.start {
			return fmt.Errorf("section %d: %#x bytes at %#x lie outside the address space", i, s.size, s.start)
		}
		for j, o := range spans[:i] {
			if s.start < o.start+o.size && o.start < s.start+s.size {
				return fmt.Errorf("sections %d and %d overlap at %#x", j, i, max(s.start, o.start))
			}
		}
	}
	return nil
}
