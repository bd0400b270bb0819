// SPDX-License-Identifier: Apache-2.0

package measuretest

import (
	"encoding/binary"
	"hash/crc32"
)

// Section is one section of a PE image.
type Section struct {
	Name string
	Data []byte
}

const (
	fileAlignment = 512
	headerSize    = 1024
	peOffset      = 0x40
	optional      = peOffset + 24
	sectionTable  = optional + 112 + 16*8
)

// PE makes a PE32+ image of sections, each padded in the file, with certificates at its end if there are any.
func PE(sections []Section, certificates []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, headerSize)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	le.PutUint16(b[peOffset+4:], 0x8664)
	le.PutUint16(b[peOffset+6:], uint16(len(sections))) //nolint:gosec // small.
	le.PutUint16(b[peOffset+20:], sectionTable-optional)
	le.PutUint16(b[optional:], 0x20b)
	le.PutUint32(b[optional+60:], headerSize)
	le.PutUint32(b[optional+64:], 0x12345678) // the checksum is not looked at
	le.PutUint32(b[optional+108:], 16)
	address := uint32(0x1000)
	for i, s := range sections {
		h := b[sectionTable+40*i:]
		raw := align(len(s.Data), fileAlignment)
		copy(h[:8], s.Name)
		le.PutUint32(h[8:], uint32(len(s.Data))) //nolint:gosec // small.
		le.PutUint32(h[12:], address)
		le.PutUint32(h[16:], uint32(raw)) //nolint:gosec // small.
		if raw > 0 {
			le.PutUint32(h[20:], uint32(len(b))) //nolint:gosec // small.
		}
		b = append(b, s.Data...)
		b = append(b, make([]byte, raw-len(s.Data))...)
		address += uint32(align(len(s.Data), 0x1000)) //nolint:gosec // small.
	}
	if len(certificates) > 0 {
		le.PutUint32(b[optional+112+32:], uint32(len(b)))            //nolint:gosec // small.
		le.PutUint32(b[optional+112+36:], uint32(len(certificates))) //nolint:gosec // small.
		b = append(b, certificates...)
	}
	return b
}

func align(n, to int) int { return (n + to - 1) / to * to }

// Kernel makes a file with a PE header and a Linux setup header of version 2.15.
func Kernel(text string) []byte {
	b := PE([]Section{{".text", []byte(text)}}, nil)
	copy(b[0x202:], "HdrS")
	le := binary.LittleEndian
	le.PutUint16(b[0x206:], 0x20f)
	b[0x211] = 1
	le.PutUint32(b[0x22c:], 0x7fffffff)
	le.PutUint16(b[0x236:], 2)
	return b
}

// Stub is the mark of a systemd-stub of a version, which is the section .sdmagic of a UKI.
func Stub(version string) Section {
	return Section{".sdmagic", []byte("#### LoaderInfo: systemd-stub " + version + " ####\x00")}
}

// Disk makes the start of a disk with a GPT of one partition.
func Disk() []byte {
	le := binary.LittleEndian
	b := make([]byte, 34*512)
	copy(b[510:], "\x55\xaa")
	entries := b[1024:]
	copy(entries, "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b") // an EFI system partition
	entries[16] = 1
	le.PutUint64(entries[32:], 2048)
	le.PutUint64(entries[40:], 4095)
	h := b[512:604]
	copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
	le.PutUint64(h[24:], 1)
	le.PutUint64(h[32:], 8191)
	le.PutUint64(h[40:], 34)
	le.PutUint64(h[48:], 8158)
	h[56] = 7
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], 128)
	le.PutUint32(h[84:], 128)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return b
}
