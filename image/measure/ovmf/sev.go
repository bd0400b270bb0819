// SPDX-License-Identifier: Apache-2.0

package ovmf

import (
	"encoding/binary"
	"fmt"
)

// SectionType says what a VMM puts into a section of the SEV metadata.
type SectionType uint32

// The types of sections that edk2 writes (OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm).
const (
	SectionSecureMemory SectionType = 1    // zero pages that firmware uses before it validates memory itself
	SectionSecrets      SectionType = 2    // the secrets page, filled by the secure processor
	SectionCPUID        SectionType = 3    // the CPUID page, checked by the secure processor
	SectionSVSMCAA      SectionType = 4    // the calling area of an SVSM, zero without one
	SectionKernelHashes SectionType = 0x10 // digests of kernel, initrd and command line
)

// String names the type.
func (t SectionType) String() string {
	switch t {
	case SectionSecureMemory:
		return "secure memory"
	case SectionSecrets:
		return "secrets"
	case SectionCPUID:
		return "CPUID"
	case SectionSVSMCAA:
		return "SVSM calling area"
	case SectionKernelHashes:
		return "kernel hashes"
	}
	return fmt.Sprintf("unknown type %#x", uint32(t))
}

// Section is one section of the SEV metadata: guest memory that is there from the start, outside the firmware file.
type Section struct {
	GPA  uint32 // guest physical address of the first byte, a multiple of [PageSize]
	Size uint32 // bytes, a multiple of [PageSize]
	Type SectionType
}

// SEV is what a firmware says about an SNP launch.
type SEV struct {
	Sections  []Section // in the order of the file, which is the order in which they are measured
	ResetEIP  uint32    // where the other processors start
	HashTable uint32    // guest physical address of the table of kernel hashes; 0 if the firmware has no room for one
}

// HashTableSize is what the table of kernel hashes takes, in bytes, with its padding to a multiple of 16.
const HashTableSize = 176

// SEV reads the SEV metadata. A firmware without it is an error.
func (f *Firmware) SEV() (SEV, error) {
	s, err := f.sev()
	if err != nil {
		return SEV{}, fmt.Errorf("reading SEV metadata: %w", err)
	}
	return s, nil
}

func (f *Firmware) sev() (SEV, error) {
	records, ok, err := f.descriptor(guidSEVMetadata, "ASEV", 12)
	if err != nil {
		return SEV{}, err
	}
	if !ok {
		return SEV{}, &UnsupportedError{"the firmware has no SEV metadata: it cannot start an SNP guest"}
	}
	var s SEV
	for _, r := range records {
		section := Section{
			GPA: binary.LittleEndian.Uint32(r), Size: binary.LittleEndian.Uint32(r[4:]), Type: SectionType(binary.LittleEndian.Uint32(r[8:])),
		}
		if section.Size == 0 && (section.Type == SectionSecureMemory || section.Type == SectionSVSMCAA) {
			continue // a build without that part: no page, so nothing to measure
		}
		s.Sections = append(s.Sections, section)
	}
	reset, ok, err := f.words(guidResetBlock, 4)
	if err != nil {
		return SEV{}, err
	}
	if !ok {
		return SEV{}, fmt.Errorf("there is no reset block, so that a second processor has nowhere to start")
	}
	s.ResetEIP = reset[0]
	table, ok, err := f.words(guidHashTable, 8)
	if err != nil {
		return SEV{}, err
	}
	if ok && table[0] != 0 {
		if table[1] < HashTableSize {
			return SEV{}, fmt.Errorf("the table of kernel hashes has room for %d bytes, %d are needed", table[1], HashTableSize)
		}
		s.HashTable = table[0]
	}
	if err := s.Validate(); err != nil {
		return SEV{}, err
	}
	for i, section := range s.Sections {
		if uint64(section.GPA)+uint64(section.Size) > f.GPA() {
			return SEV{}, fmt.Errorf("section %d lies inside the firmware file itself", i)
		}
	}
	return s, nil
}

// Validate reports the first contradiction: a section of unknown type, one that is not whole pages or overlaps another, a
// second page where there can be one, or a table of kernel hashes that is not inside its section.
func (s SEV) Validate() error {
	spans := make([]span, len(s.Sections))
	seen := map[SectionType]int{}
	for i, section := range s.Sections {
		spans[i] = span{uint64(section.GPA), uint64(section.Size)}
		switch section.Type {
		case SectionSecureMemory:
			continue
		case SectionSecrets, SectionCPUID, SectionSVSMCAA, SectionKernelHashes:
		default:
			return fmt.Errorf("section %d has %v", i, section.Type)
		}
		if section.Size != PageSize {
			return fmt.Errorf("section %d (%v) has %#x bytes, want one page", i, section.Type, section.Size)
		}
		if first, twice := seen[section.Type]; twice {
			return fmt.Errorf("sections %d and %d are both %v", first, i, section.Type)
		}
		seen[section.Type] = i
	}
	if err := disjoint(spans, 1<<32); err != nil {
		return err
	}
	return s.validateHashTable(seen)
}

func (s SEV) validateHashTable(seen map[SectionType]int) error {
	i, ok := seen[SectionKernelHashes]
	if !ok {
		return nil
	}
	page := s.Sections[i].GPA
	if s.HashTable < page || uint64(s.HashTable)+HashTableSize > uint64(page)+PageSize {
		return fmt.Errorf("the table of kernel hashes at %#x is not inside its section at %#x", s.HashTable, page)
	}
	return nil
}

// KernelHashes reports whether the launch digest of this firmware covers kernel, initrd and command line of a direct boot.
func (s SEV) KernelHashes() bool {
	for _, section := range s.Sections {
		if section.Type == SectionKernelHashes {
			return true
		}
	}
	return false
}
