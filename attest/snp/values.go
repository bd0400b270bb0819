// SPDX-License-Identifier: Apache-2.0

package snp

import "fmt"

// Line is an AMD product line as the key distribution service names it.
type Line string

// The product lines. Siena and Bergamo belong to Genoa, Turin Dense to Turin (KDS, "Determining the product name").
const (
	Milan Line = "Milan"
	Genoa Line = "Genoa"
	Turin Line = "Turin"
)

// CPU names a processor by CPUID leaf 1: combined family, combined model and stepping.
type CPU struct{ Family, Model, Stepping uint8 }

// String gives family, model and stepping in hexadecimal.
func (c CPU) String() string {
	return fmt.Sprintf("family %#02x model %#02x stepping %d", c.Family, c.Model, c.Stepping)
}

// line gives the product line, or "" for a processor that no pinned root speaks for.
func (c CPU) line() Line {
	switch {
	case c.Family == 0x19 && c.Model <= 0x0f:
		return Milan
	case c.Family == 0x19 && (c.Model>>4 == 0x1 || c.Model>>4 == 0xa):
		return Genoa
	case c.Family == 0x1a && c.Model <= 0x1f:
		return Turin
	}
	return ""
}

// TCB is a TCB_VERSION (ABI, table "TCB_VERSION"): the security version of each part. FMC exists from Turin on.
type TCB struct{ FMC, Bootloader, TEE, SNP, Microcode uint8 }

// AtLeast reports whether every part of t is at least that of floor. One integer comparison would be wrong: a high
// microcode version must not outweigh an old firmware.
func (t TCB) AtLeast(floor TCB) bool {
	return t.FMC >= floor.FMC && t.Bootloader >= floor.Bootloader && t.TEE >= floor.TEE &&
		t.SNP >= floor.SNP && t.Microcode >= floor.Microcode
}

// String lists the parts in the order of their loading.
func (t TCB) String() string {
	return fmt.Sprintf("fmc %d bootloader %d tee %d snp %d microcode %#02x", t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

// tcbBytes is a TCB_VERSION as reported, least significant byte first.
type tcbBytes [8]byte

// decode reads the parts by the layout of the product line. It reports whether the reserved bytes are zero.
func (b tcbBytes) decode(l Line) (TCB, bool) {
	if l == Turin {
		return TCB{FMC: b[0], Bootloader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}, allZero(b[4:7])
	}
	return TCB{Bootloader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}, allZero(b[2:6])
}

// Firmware is the version of the SEV-SNP firmware, for example 1.55.31.
type Firmware struct{ Major, Minor, Build uint8 }

// String gives major.minor.build in decimal.
func (v Firmware) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Build) }

// keyKind is SIGNING_KEY of the report: which kind of endorsement key signed it.
type keyKind uint8

const (
	vcek keyKind = 0 // of the chip
	vlek keyKind = 1 // of the provider
)

func (k keyKind) String() string {
	if k == vlek {
		return "VLEK"
	}
	return "VCEK"
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
