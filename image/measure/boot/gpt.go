// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// GPTSize is how much of a disk's start [UKI] needs: a protective MBR, the header and up to 128 partition entries, with
// sectors of 512 bytes.
const GPTSize = 34 * sector

const (
	sector    = 512
	gptHeader = 92 // bytes of the header (UEFI 2.10, section 5.3.2)
	gptEntry  = 128
)

// partitionEvent gives what firmware measures of a disk's partition table: the header, the number of entries in use, and
// those entries (TCG PC Client Platform Firmware Profile, section 10.2.3.2, UEFI_GPT_DATA).
func partitionEvent(disk []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(disk) < GPTSize {
		return nil, fmt.Errorf("want the first %d bytes of the disk, got %d", GPTSize, len(disk))
	}
	disk = disk[:GPTSize]
	header := disk[sector : sector+gptHeader]
	if string(header[:8]) != "EFI PART" || le.Uint32(header[12:]) != gptHeader || le.Uint64(header[24:]) != 1 {
		return nil, errors.New("there is no GPT header in the second sector")
	}
	summed := append([]byte(nil), header...)
	clear(summed[16:20])
	if crc32.ChecksumIEEE(summed) != le.Uint32(header[16:]) {
		return nil, errors.New("the GPT header has a wrong checksum")
	}
	first, count, size := le.Uint64(header[72:]), uint64(le.Uint32(header[80:])), uint64(le.Uint32(header[84:]))
	if size != gptEntry || first < 2 || first > GPTSize/sector || first*sector+count*size > GPTSize {
		return nil, &UnsupportedError{fmt.Sprintf("a partition table of %d entries of %d bytes at sector %d is not modelled", count, size, first)}
	}
	entries := disk[first*sector : first*sector+count*size]
	if crc32.ChecksumIEEE(entries) != le.Uint32(header[88:]) {
		return nil, errors.New("the partition entries have a wrong checksum")
	}
	event := append([]byte(nil), header...)
	event = append(event, make([]byte, 8)...)
	used := uint64(0)
	for ; len(entries) > 0; entries = entries[gptEntry:] {
		if [16]byte(entries[:16]) == ([16]byte{}) {
			continue
		}
		event = append(event, entries[:gptEntry]...)
		used++
	}
	le.PutUint64(event[gptHeader:], used)
	return event, nil
}
