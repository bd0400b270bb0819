// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"encoding/binary"
	"fmt"
)

const (
	tableSize = 56
	typeTDX   = 2
)

// Area is what the ACPI table CCEL says about the memory area of a log (ACPI 6.5, section 5.2.34). The host writes ACPI
// tables and nothing proves this one: it only tells whether a log was copied as a whole.
type Area struct {
	Type    byte // 1 for AMD SEV, 2 for Intel TDX
	Subtype byte
	Length  uint64 // of the area in bytes
	Address uint64 // of the area in the guest's physical memory
}

// ParseArea reads the 56 bytes of /sys/firmware/acpi/tables/CCEL. Errors are refusals with code malformed.
func ParseArea(b []byte) (Area, error) {
	if len(b) != tableSize || string(b[:4]) != "CCEL" || binary.LittleEndian.Uint32(b[4:]) != tableSize {
		return Area{}, malformed(fmt.Sprintf("an ACPI table CCEL of %d bytes", tableSize), fmt.Sprintf("%d bytes of something else", len(b)))
	}
	var sum byte
	for _, v := range b {
		sum += v
	}
	if sum != 0 {
		return Area{}, malformed("an ACPI table whose bytes add up to zero", fmt.Sprint(sum))
	}
	return Area{
		Type: b[36], Subtype: b[37], Length: binary.LittleEndian.Uint64(b[40:]), Address: binary.LittleEndian.Uint64(b[48:]),
	}, nil
}

// Holds refuses the bytes of an area that are not this one's: another type than TDX, or longer than the area. A log
// whose fill was cut off is shorter, and fine.
func (a Area) Holds(log []byte) error {
	if a.Type != typeTDX {
		return malformed(fmt.Sprintf("an area for TDX (%d)", typeTDX), fmt.Sprint(a.Type))
	}
	if uint64(len(log)) > a.Length {
		return malformed(fmt.Sprintf("a log of at most %d bytes", a.Length), fmt.Sprint(len(log)))
	}
	return nil
}
