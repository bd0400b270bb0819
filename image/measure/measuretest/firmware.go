// SPDX-License-Identifier: Apache-2.0

// Package measuretest makes small firmware files, kernels, unified kernel images and disks for tests: sound in what a
// launch measures, and of no other use. The same arguments give the same bytes, so that golden values hold.
//
// It guarantees nothing else and is linked by no program.
package measuretest

import (
	"encoding/binary"
	"slices"

	"github.com/kettle/attest/image/measure/ovmf"
)

// Record is one section of the TDX metadata as the file has it.
type Record struct {
	Offset, RawSize  uint32
	GPA, Size        uint64
	Type, Attributes uint32
}

// Entry is one entry of the table of GUIDs: the GUID as it lies in memory, and its data.
type Entry struct {
	GUID [16]byte
	Data []byte
}

// Firmware says what a firmware file has.
type Firmware struct {
	Pages         int            // size of the file in pages of 4096 bytes
	SEV           []ovmf.Section // nil: no SEV metadata
	ResetEIP      uint32         // 0: no reset block
	HashTable     uint32         // 0: no entry for the table of kernel hashes
	HashTableSize uint32
	TDX           []Record // nil: no TDX metadata
	Entries       []Entry  // further entries
}

// AMDSEV is a firmware that measures kernel, initrd and command line, with the layout of edk2's AmdSev build.
func AMDSEV() Firmware {
	return Firmware{
		Pages: 8,
		SEV: []ovmf.Section{
			{GPA: 0x800000, Size: 0x9000, Type: ovmf.SectionSecureMemory},
			{GPA: 0x80a000, Size: 0x3000, Type: ovmf.SectionSecureMemory},
			{GPA: 0x80d000, Size: 0x1000, Type: ovmf.SectionSecrets},
			{GPA: 0x80e000, Size: 0x1000, Type: ovmf.SectionCPUID},
			{GPA: 0x80f000, Size: 0x1000, Type: ovmf.SectionSVSMCAA},
			{GPA: 0x811000, Size: 0xf000, Type: ovmf.SectionSecureMemory},
			{GPA: 0x810000, Size: 0x1000, Type: ovmf.SectionKernelHashes},
		},
		ResetEIP: 0x80b004, HashTable: 0x810c00, HashTableSize: 0x400,
	}
}

// Plain is a firmware for SNP that measures itself only.
func Plain() Firmware {
	f := AMDSEV()
	f.SEV = f.SEV[:len(f.SEV)-1]
	f.HashTable = 0
	return f
}

// TDVF is a firmware for trust domains, with the layout of edk2's IntelTdx build.
func TDVF() Firmware {
	return Firmware{Pages: 8, TDX: []Record{
		{Offset: 0x2000, RawSize: 0x6000, GPA: 0xffffa000, Size: 0x6000, Type: 0, Attributes: 1},
		{Offset: 0, RawSize: 0x2000, GPA: 0xffff8000, Size: 0x2000, Type: 1},
		{GPA: 0x810000, Size: 0x10000, Type: 3},
		{GPA: 0x80b000, Size: 0x2000, Type: 3},
		{GPA: 0x809000, Size: 0x2000, Type: 2},
		{GPA: 0x800000, Size: 0x6000, Type: 3},
	}}
}

// The GUIDs of the table, as they lie in memory.
const (
	GUIDTable     = "\xde\x82\xb5\x96\xb2\x1f\xf7\x45\xba\xea\xa3\x66\xc5\x5a\x08\x2d"
	GUIDReset     = "\xde\x71\xf7\x00\x7e\x1a\xcb\x4f\x89\x0e\x68\xc7\x7e\x2f\xb4\x4e"
	GUIDHashTable = "\x1f\x37\x55\x72\x3b\x3a\x04\x4b\x92\x7b\x1d\xa6\xef\xa8\xd4\x54"
	GUIDSEV       = "\x66\x65\x88\xdc\x4a\x98\x98\x47\xa7\x5e\x55\x85\xa7\xbf\x67\xcc"
	guidTDVF      = "\xf3\xf9\xea\xe9\x8e\x16\xd5\x44\xa8\xeb\x7f\x4d\x87\x38\xf6\xae" // before the TDX metadata
	GUIDTDX       = "\x35\x65\x7a\xe4\x4a\x98\x98\x47\x86\x5e\x46\x85\xa7\xbf\x8e\xc2"
)

// Bytes makes the file: a pattern, and the metadata and the table before its last 32 bytes.
func (f Firmware) Bytes() []byte {
	size := f.Pages * ovmf.PageSize
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>12) //nolint:gosec // a pattern.
	}
	le := binary.LittleEndian
	var table []byte
	entry := func(guid string, data []byte) {
		table = append(table, data...)
		table = le.AppendUint16(table, uint16(len(data)+18)) //nolint:gosec // small.
		table = append(table, guid...)
	}
	place := func(guid string, distance int, metadata []byte) {
		copy(b[size-distance:], metadata)
		entry(guid, le.AppendUint32(nil, uint32(distance))) //nolint:gosec // inside the file.
	}
	for _, e := range slices.Backward(f.Entries) {
		entry(string(e.GUID[:]), e.Data)
	}
	if f.SEV != nil {
		place(GUIDSEV, 1024, f.sev())
	}
	if f.TDX != nil {
		copy(b[size-2048-16:], guidTDVF)
		place(GUIDTDX, 2048, f.tdx())
	}
	if f.HashTable != 0 {
		entry(GUIDHashTable, le.AppendUint32(le.AppendUint32(nil, f.HashTable), f.HashTableSize))
	}
	if f.ResetEIP != 0 {
		entry(GUIDReset, le.AppendUint32(nil, f.ResetEIP))
	}
	total := len(table) + 18
	table = le.AppendUint16(table, uint16(total)) //nolint:gosec // small.
	table = append(table, GUIDTable...)
	copy(b[size-32-total:], table)
	return b
}

func (f Firmware) sev() []byte {
	le := binary.LittleEndian
	b := header("ASEV", 12, len(f.SEV))
	for _, s := range f.SEV {
		b = le.AppendUint32(le.AppendUint32(le.AppendUint32(b, s.GPA), s.Size), uint32(s.Type))
	}
	return b
}

func (f Firmware) tdx() []byte {
	le := binary.LittleEndian
	b := header("TDVF", 32, len(f.TDX))
	for _, r := range f.TDX {
		b = le.AppendUint32(le.AppendUint32(b, r.Offset), r.RawSize)
		b = le.AppendUint64(le.AppendUint64(b, r.GPA), r.Size)
		b = le.AppendUint32(le.AppendUint32(b, r.Type), r.Attributes)
	}
	return b
}

func header(magic string, size, count int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(magic), uint32(16+size*count))   //nolint:gosec // small.
	return le.AppendUint32(le.AppendUint32(b, 1), uint32(count)) //nolint:gosec // small.
}
