// SPDX-License-Identifier: Apache-2.0

// Package esp reads the one program that firmware starts from an image's disk: \EFI\BOOT\BOOTX64.EFI in the EFI system
// partition.
//
// It guarantees that what it gives is what firmware would find, or an error: a disk on which two readers could find two
// programs is refused, with more than one EFI system partition, two files of one name, long names beside short ones, or a
// file system other than the FAT32 that the builder makes. It never panics, reads no more than a bounded part of the disk
// before it gives the program, and allocates nothing by what the disk says. It trusts nothing.
//
// It does not know what firmware was told to start instead: another disk, a boot entry in its variables. It does not look
// into the program.
//
// Sources: UEFI 2.10, sections 5.3 (GPT), 13.3 (file system) and 3.5.1.1 (removable media); Microsoft "FAT32 File System
// Specification" 1.03.
package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// MaxProgram bounds the program, in bytes.
const MaxProgram = 1 << 30

const (
	sector     = 512
	gptHeader  = 92
	gptEntry   = 128
	maxEntries = 128
)

// systemPartition is the type GUID of an EFI system partition, C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as it is written on disks.
const systemPartition = "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b"

// Open finds the program on a disk of size bytes. It gives a reader that yields exactly n bytes, or fails.
func Open(disk io.ReaderAt, size int64) (program io.Reader, n int64, err error) {
	start, length, err := find(disk, size)
	if err != nil {
		return nil, 0, fmt.Errorf("finding the EFI system partition: %w", err)
	}
	v, err := mount(io.NewSectionReader(disk, start, length))
	if err != nil {
		return nil, 0, fmt.Errorf("reading the EFI system partition: %w", err)
	}
	f, err := v.lookup([]string{"EFI        ", "BOOT       ", "BOOTX64 EFI"})
	if err != nil {
		return nil, 0, fmt.Errorf("finding the program in the EFI system partition: %w", err)
	}
	return &file{volume: v, next: f.cluster, left: int64(f.size)}, int64(f.size), nil
}

// find gives offset and length of the one EFI system partition, in bytes.
func find(disk io.ReaderAt, size int64) (start, length int64, err error) {
	le := binary.LittleEndian
	var head [gptHeader]byte
	if _, err := disk.ReadAt(head[:], sector); err != nil {
		return 0, 0, fmt.Errorf("reading the GPT header: %w", err)
	}
	if string(head[:8]) != "EFI PART" || le.Uint32(head[12:]) != gptHeader || le.Uint64(head[24:]) != 1 || checksum(head[:]) != le.Uint32(head[16:]) {
		return 0, 0, errors.New("there is no sound GPT header in the second sector")
	}
	first, count := le.Uint64(head[72:]), le.Uint32(head[80:])
	if first < 2 || first > 64 || count == 0 || count > maxEntries || le.Uint32(head[84:]) != gptEntry {
		return 0, 0, fmt.Errorf("%d partition entries at sector %d", count, first)
	}
	entries := make([]byte, count*gptEntry)
	if _, err := disk.ReadAt(entries, int64(first)*sector); err != nil {
		return 0, 0, fmt.Errorf("reading the partition entries: %w", err)
	}
	if crc32.ChecksumIEEE(entries) != le.Uint32(head[88:]) {
		return 0, 0, errors.New("the partition entries have a wrong checksum")
	}
	found := 0
	for ; len(entries) > 0; entries = entries[gptEntry:] {
		if string(entries[:16]) != systemPartition {
			continue
		}
		from, to := le.Uint64(entries[32:]), le.Uint64(entries[40:])
		if from < 2 || to < from || to >= uint64(size)/sector { //nolint:gosec // sizes are not negative.
			return 0, 0, fmt.Errorf("it lies at sectors %d to %d of a disk of %d bytes", from, to, size)
		}
		start, length = int64(from)*sector, int64(to-from+1)*sector //nolint:gosec // inside the disk.
		found++
	}
	if found != 1 {
		return 0, 0, fmt.Errorf("want one, got %d", found)
	}
	return start, length, nil
}

// checksum is that of a header whose own field for it counts as zeros.
func checksum(header []byte) uint32 {
	b := append([]byte(nil), header...)
	clear(b[16:20])
	return crc32.ChecksumIEEE(b)
}
