// SPDX-License-Identifier: Apache-2.0

package ovmf

import (
	"encoding/binary"
	"fmt"
)

// TDXType says what a section of the TDX metadata holds.
type TDXType uint32

// The types of the TDVF design guide, table 11-2, as far as KVM and its users launch them.
const (
	TDXBootVolume          TDXType = 0 // the firmware's code
	TDXConfigurationVolume TDXType = 1 // the firmware's variables
	TDXHandOff             TDXType = 2 // the TD HOB, written by the VMM; not measured into MRTD
	TDXTemporaryMemory     TDXType = 3 // heap, stack and mailbox, zero
)

// TDXSection is one section of the TDX metadata: private memory that is there from the start.
type TDXSection struct {
	GPA    uint64 // guest physical address of the first byte, a multiple of [PageSize]
	Size   uint64 // bytes, a multiple of [PageSize]
	Data   []byte // what lies there; empty for memory that is zero or that the VMM fills
	Type   TDXType
	Extend bool // its content is measured into MRTD, not only its address
}

const (
	attributeExtend  = 1 << 0 // MR.EXTEND
	attributePageAug = 1 << 1 // PAGE.AUG: the page is added at run time and enters no measurement
	physicalLimit    = 1 << 52
)

// TDX reads the TDX metadata, in the order of the file, which is the order in which its sections are measured. A firmware
// without it is an error.
func (f *Firmware) TDX() ([]TDXSection, error) {
	sections, err := f.tdx()
	if err != nil {
		return nil, fmt.Errorf("reading TDX metadata: %w", err)
	}
	return sections, nil
}

func (f *Firmware) tdx() ([]TDXSection, error) {
	records, ok, err := f.descriptor(guidTDXMetadata, "TDVF", 32)
	if err != nil {
		return nil, err
	}
	if !ok || len(records) == 0 {
		return nil, &UnsupportedError{"the firmware has no TDX metadata: it cannot start a trust domain"}
	}
	sections := make([]TDXSection, len(records))
	spans := make([]span, len(records))
	total := uint64(0)
	for i, r := range records {
		if sections[i], err = f.tdxSection(r); err != nil {
			return nil, fmt.Errorf("section %d: %w", i, err)
		}
		spans[i] = span{sections[i].GPA, sections[i].Size}
	}
	if err := disjoint(spans, physicalLimit); err != nil {
		return nil, err
	}
	for _, s := range spans {
		total += s.size
	}
	if total > maxTDXMemory {
		return nil, fmt.Errorf("the sections have %d bytes together, at most %d are allowed", total, maxTDXMemory)
	}
	return sections, nil
}

// maxTDXMemory bounds the work of measuring: each page of a section is one entry of the measurement. edk2 has 5 MiB.
const maxTDXMemory = 64 << 20

func (f *Firmware) tdxSection(r []byte) (TDXSection, error) {
	le := binary.LittleEndian
	offset, raw, attributes := uint64(le.Uint32(r)), uint64(le.Uint32(r[4:])), le.Uint32(r[28:])
	s := TDXSection{GPA: le.Uint64(r[8:]), Size: le.Uint64(r[16:]), Type: TDXType(le.Uint32(r[24:])), Extend: attributes&attributeExtend != 0}
	switch {
	case s.Type > TDXTemporaryMemory:
		return TDXSection{}, fmt.Errorf("type %d is not one that QEMU launches", s.Type)
	case attributes&attributePageAug != 0:
		return TDXSection{}, fmt.Errorf("type %d has pages that are added at run time: QEMU launches none", s.Type)
	case attributes&^uint32(attributeExtend) != 0:
		return TDXSection{}, fmt.Errorf("unknown attributes %#x", attributes)
	case offset > uint64(len(f.data)) || raw > uint64(len(f.data))-offset:
		return TDXSection{}, fmt.Errorf("%#x bytes at %#x lie outside the file", raw, offset)
	}
	volume := s.Type == TDXBootVolume || s.Type == TDXConfigurationVolume
	switch {
	case volume && raw != s.Size:
		return TDXSection{}, fmt.Errorf("%#x bytes of the file fill %#x bytes of memory", raw, s.Size)
	case !volume && (raw != 0 || offset != 0 || s.Extend):
		return TDXSection{}, fmt.Errorf("type %d has content in the file", s.Type)
	}
	s.Data = f.data[offset : offset+raw]
	return s, nil
}
