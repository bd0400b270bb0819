// SPDX-License-Identifier: Apache-2.0

// Package pe reads PE/COFF images as UEFI firmware measures them: it gives their Authenticode digest and their sections.
//
// It guarantees that every byte of an image that was parsed is covered by the digest, but for the three places that
// Authenticode leaves out: the checksum, the directory entry of the certificate table, and the table itself. Images for
// which implementations could disagree are refused: sections that overlap or leave gaps, a certificate table that is not
// the end of the file. It never panics, allocates only what the image's own headers hold, and trusts nothing: it does not
// look at signatures.
//
// Sources: Microsoft "Windows Authenticode Portable Executable Signature Format" (2008), section "Calculating the PE Image
// Hash"; Microsoft "PE Format"; edk2 SecurityPkg/Library/DxeTpm2MeasureBootLib.
package pe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// MaxSize is the largest image that [Parse] reads, in bytes: a UKI with its initrd.
const MaxSize = 2 << 30

// Offsets and sizes of the headers ("PE Format", sections "MS-DOS Stub", "COFF File Header", "Optional Header").
const (
	dosHeader      = 0x40
	coffHeader     = 20
	sectionHeader  = 40
	directoryEntry = 8

	offsetPE            = 0x3c
	offsetChecksum      = 64
	offsetSizeOfHeaders = 60
	magicPE32           = 0x10b
	magicPE32Plus       = 0x20b
	certificateTable    = 4 // index of its directory entry
	maxSections         = 96
)

// Section is one section of an image.
type Section struct {
	Name        string // at most 8 bytes, without the NULs behind
	VirtualSize uint32 // bytes in memory
	Data        []byte // its bytes in the file, which may be more (padding) or fewer (zeros) than in memory
}

// Image is one parsed image. It keeps the bytes it was parsed from; they must not be changed.
type Image struct {
	data     []byte
	checksum int // offset of the checksum's four bytes
	entry    int // offset of the certificate table's directory entry, or 0 if the image has none
	headers  int // bytes of headers
	end      int // where the certificate table begins: the end of what is hashed
	sections []Section
	raw      []extent // sections with bytes in the file, by position
}

// extent is a range of the file.
type extent struct{ start, end int }

// Parse reads the headers of an image.
func Parse(data []byte) (*Image, error) {
	m, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading a PE image: %w", err)
	}
	return m, nil
}

func parse(data []byte) (*Image, error) {
	if len(data) < dosHeader || len(data) > MaxSize || data[0] != 'M' || data[1] != 'Z' {
		return nil, fmt.Errorf("%d bytes without a DOS header, or too many", len(data))
	}
	le := binary.LittleEndian
	start := uint64(le.Uint32(data[offsetPE:]))
	if start < dosHeader || start+4+coffHeader > uint64(len(data)) || string(data[start:start+4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("no PE header at %#x", start)
	}
	coff := data[start+4:]
	count, optionalSize := int(le.Uint16(coff[2:])), int(le.Uint16(coff[16:]))
	optional := int(start) + 4 + coffHeader //nolint:gosec // inside the file, which has less than 2 GiB.
	table := optional + optionalSize
	if count == 0 || count > maxSections || table+count*sectionHeader > len(data) {
		return nil, fmt.Errorf("%d sections do not fit into the file", count)
	}
	m := &Image{data: data, end: len(data)}
	if err := m.readOptional(optional, optionalSize); err != nil {
		return nil, err
	}
	if m.headers < table+count*sectionHeader || m.headers > m.end {
		return nil, fmt.Errorf("headers of %d bytes do not hold the table of sections", m.headers)
	}
	if err := m.readSections(data[table : table+count*sectionHeader]); err != nil {
		return nil, err
	}
	return m, m.contiguous()
}

// readOptional reads the optional header of size bytes at offset.
func (m *Image) readOptional(offset, size int) error {
	le := binary.LittleEndian
	if size < 2 || offset+size > len(m.data) {
		return fmt.Errorf("an optional header of %d bytes", size)
	}
	h := m.data[offset : offset+size]
	directories := 0
	switch magic := le.Uint16(h); magic {
	case magicPE32:
		directories = 96
	case magicPE32Plus:
		directories = 112
	default:
		return fmt.Errorf("an optional header with magic %#x", magic)
	}
	if size < directories {
		return fmt.Errorf("an optional header of %d bytes, want at least %d", size, directories)
	}
	entries := le.Uint32(h[directories-4:])
	if uint64(entries)*directoryEntry > uint64(size-directories) { //nolint:gosec // not negative.
		return fmt.Errorf("%d data directories do not fit into the optional header", entries)
	}
	m.checksum = offset + offsetChecksum
	headers := le.Uint32(h[offsetSizeOfHeaders:])
	if uint64(headers) > uint64(len(m.data)) {
		return fmt.Errorf("headers of %d bytes in a file of %d", headers, len(m.data))
	}
	m.headers = int(headers)
	if entries <= certificateTable {
		return nil
	}
	m.entry = offset + directories + certificateTable*directoryEntry
	return m.readCertificates()
}

// readCertificates finds the certificate table, which has to be the end of the file. Its address is a file offset.
func (m *Image) readCertificates() error {
	start, size := binary.LittleEndian.Uint32(m.data[m.entry:]), binary.LittleEndian.Uint32(m.data[m.entry+4:])
	if size == 0 {
		return nil
	}
	if uint64(start)+uint64(size) != uint64(len(m.data)) || start%8 != 0 {
		return fmt.Errorf("a certificate table of %d bytes at %#x is not the end of a file of %d bytes", size, start, len(m.data))
	}
	m.end = int(start)
	return nil
}

func (m *Image) readSections(table []byte) error {
	for ; len(table) > 0; table = table[sectionHeader:] {
		size, start := binary.LittleEndian.Uint32(table[16:]), binary.LittleEndian.Uint32(table[20:])
		s := Section{Name: strings.TrimRight(string(table[:8]), "\x00"), VirtualSize: binary.LittleEndian.Uint32(table[8:])}
		if size != 0 {
			if uint64(start)+uint64(size) > uint64(m.end) { //nolint:gosec // not negative.
				return fmt.Errorf("section %q: %d bytes at %#x lie outside the file", s.Name, size, start)
			}
			e := extent{int(start), int(start) + int(size)}
			s.Data = m.data[e.start:e.end]
			m.raw = append(m.raw, e)
		}
		m.sections = append(m.sections, s)
	}
	slices.SortStableFunc(m.raw, func(a, b extent) int { return a.start - b.start })
	return nil
}

// contiguous checks that headers and sections follow each other. The specification adds sizes up, so that with a gap some
// bytes would not be hashed, and some twice.
func (m *Image) contiguous() error {
	at := m.headers
	for _, e := range m.raw {
		if e.start != at {
			return fmt.Errorf("a section starts at %#x where the one before it ends at %#x", e.start, at)
		}
		at = e.end
	}
	return nil
}

// Authenticode writes what the image's digest covers to h, which is a hash without content yet, and gives the digest.
func (m *Image) Authenticode(h hash.Hash) []byte {
	h.Write(m.data[:m.checksum])
	rest := m.checksum + 4
	if m.entry != 0 {
		h.Write(m.data[rest:m.entry])
		rest = m.entry + directoryEntry
	}
	h.Write(m.data[rest:m.end]) // headers, sections in their order, and what stands behind them: they follow each other
	return h.Sum(nil)
}

// Sections gives the sections in the order of the section table.
func (m *Image) Sections() []Section { return m.sections }

// errNotWhole is the answer to a section that the loader would fill with zeros.
var errNotWhole = errors.New("it has more bytes in memory than in the file")

// Memory gives the section's bytes as they are in memory: without the padding of the file. A section that has fewer bytes in
// the file than in memory is an error.
func (s Section) Memory() ([]byte, error) {
	if uint64(s.VirtualSize) > uint64(len(s.Data)) {
		return nil, fmt.Errorf("reading section %q: %w", s.Name, errNotWhole)
	}
	return s.Data[:s.VirtualSize], nil
}
