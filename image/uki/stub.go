// SPDX-License-Identifier: Apache-2.0

package uki

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/kettle/attest/image/measure/pe"
)

// Offsets and values of the headers ("PE Format", sections "COFF File Header", "Optional Header", "Section Table").
const (
	offsetPE      = 0x3c
	coffHeader    = 20
	sectionHeader = 40
	machineAMD64  = 0x8664
	magicPE32Plus = 0x20b
	subsystemEFI  = 10
	directories   = 112 // where the data directories begin in the optional header
	certificates  = directories + 4*8
	initialized   = 0x40
	readable      = 0x40000000
	pageSize      = 4096
)

// stub is a stub whose headers have been read.
type stub struct {
	body             []byte // headers and sections, without what stands behind them
	coff, optional   int    // offsets of the headers
	optionalSize     int
	count            int // sections
	headers          int // bytes of headers, with the room behind the table of sections
	fileAlignment    int
	sectionAlignment int
	initializedSize  int // bytes of initialized data, as the header says
	imageEnd         int // the first address behind the sections in memory
	names            []string
}

// tableEnd is where the next section's header goes.
func (s *stub) tableEnd() int { return s.optional + s.optionalSize + s.count*sectionHeader }

// readStub reads a stub. [pe.Parse] has checked that headers and sections lie in the file and follow each other.
func readStub(data []byte) (*stub, error) {
	m, err := pe.Parse(data)
	if err != nil {
		return nil, err //nolint:wrapcheck // its caller says what it was at.
	}
	le := binary.LittleEndian
	s := &stub{coff: int(le.Uint32(data[offsetPE:])) + 4}
	s.optional = s.coff + coffHeader
	s.count, s.optionalSize = int(le.Uint16(data[s.coff+2:])), int(le.Uint16(data[s.coff+16:]))
	h := data[s.optional : s.optional+s.optionalSize]
	switch {
	case le.Uint16(data[s.coff:]) != machineAMD64 || le.Uint16(h) != magicPE32Plus || le.Uint16(h[68:]) != subsystemEFI:
		return nil, errors.New("it is no EFI application for x86-64")
	case len(h) >= certificates+8 && le.Uint64(h[certificates:]) != 0:
		return nil, errors.New("it is signed: the signature would not hold")
	}
	s.sectionAlignment, s.fileAlignment = int(le.Uint32(h[32:])), int(le.Uint32(h[36:]))
	if !sane(s.sectionAlignment) || !sane(s.fileAlignment) || s.fileAlignment > s.sectionAlignment {
		return nil, fmt.Errorf("alignments of %d and %d bytes", s.sectionAlignment, s.fileAlignment)
	}
	s.headers, s.initializedSize = int(le.Uint32(h[60:])), int(le.Uint32(h[8:]))
	return s, s.readSections(m, data)
}

// sane reports whether an alignment is a power of two of a sector at least and a large page at most.
func sane(alignment int) bool {
	return alignment >= 512 && alignment <= 2<<20 && bits.OnesCount(uint(alignment)) == 1
}

// readSections finds the end of the sections in the file and in memory, and cuts off what stands behind them, which may only
// be the table of symbols.
func (s *stub) readSections(m *pe.Image, data []byte) error {
	le := binary.LittleEndian
	end := s.headers
	for i, section := range m.Sections() {
		h := data[s.tableEnd()-(s.count-i)*sectionHeader:][:sectionHeader]
		address, size := uint64(le.Uint32(h[12:])), max(uint64(section.VirtualSize), uint64(len(section.Data)))
		if address < uint64(s.imageEnd) || address+size > MaxStub { //nolint:gosec // not negative.
			return fmt.Errorf("section %.8q lies at %#x in memory", section.Name, address)
		}
		s.imageEnd = int(address + uint64(section.VirtualSize)) //nolint:gosec // bounded by MaxStub.
		if len(section.Data) > 0 {
			end = max(end, int(le.Uint32(h[20:]))+len(section.Data))
		}
		s.names = append(s.names, strings.TrimRight(section.Name, "\x00"))
	}
	if end%s.fileAlignment != 0 {
		return fmt.Errorf("its sections end at %#x, which is not aligned", end)
	}
	if symbols := int(le.Uint32(data[s.coff+8:])); end != len(data) && symbols != end {
		return fmt.Errorf("%d bytes behind its sections are no symbols", len(data)-end)
	}
	s.body = data[:end]
	return nil
}
