// SPDX-License-Identifier: Apache-2.0

package snp

// Policy is the guest policy fixed at launch (ABI, table "Guest Policy Structure").
type Policy uint64

const (
	policySMT          Policy = 1 << 16
	policyReserved1    Policy = 1 << 17
	policyMigration    Policy = 1 << 18
	policyDebug        Policy = 1 << 19
	policySingleSocket Policy = 1 << 20
	policyCXL          Policy = 1 << 21
	policyAES256XTS    Policy = 1 << 22
	policyRAPLDisabled Policy = 1 << 23
	policyCiphertext   Policy = 1 << 24
	policyPageSwapOff  Policy = 1 << 25
	policyReservedLo          = 26
)

// MinimumABI is the lowest firmware interface that the guest may run on, for example 0.31.
func (p Policy) MinimumABI() (major, minor uint8) { return uint8(p >> 8 & 0xff), uint8(p & 0xff) }

// SMT reports whether the guest may run where simultaneous multithreading is on.
func (p Policy) SMT() bool { return p&policySMT != 0 }

// MigrationAgent reports whether a migration agent may be bound to the guest.
func (p Policy) MigrationAgent() bool { return p&policyMigration != 0 }

// Debug reports whether the host may read and write the guest's memory.
func (p Policy) Debug() bool { return p&policyDebug != 0 }

// SingleSocket reports whether the guest may run on one socket only.
func (p Policy) SingleSocket() bool { return p&policySingleSocket != 0 }

// CXL reports whether the guest may run where CXL devices or memory are.
func (p Policy) CXL() bool { return p&policyCXL != 0 }

// AES256XTS reports whether the guest demands AES-256-XTS for its memory; otherwise AES-128-XEX may do.
func (p Policy) AES256XTS() bool { return p&policyAES256XTS != 0 }

// RAPLDisabled reports whether the guest demands that the host cannot read its power draw.
func (p Policy) RAPLDisabled() bool { return p&policyRAPLDisabled != 0 }

// CiphertextHiding reports whether the guest demands that the host cannot read its ciphertext.
func (p Policy) CiphertextHiding() bool { return p&policyCiphertext != 0 }

// PageSwapDisabled reports whether the host may not move or swap the guest's pages (AMD-SB-3021).
func (p Policy) PageSwapDisabled() bool { return p&policyPageSwapOff != 0 }

// Names lists the bits that are set, in ascending order, for people to read.
func (p Policy) Names() []string {
	return names(uint64(p), []bitName{
		{16, "smt-allowed"}, {18, "migration-agent"}, {19, "debug"}, {20, "single-socket"}, {21, "cxl-allowed"},
		{22, "aes-256-xts"}, {23, "rapl-disabled"}, {24, "ciphertext-hiding"}, {25, "page-swap-disabled"},
	})
}

// PlatformInfo says how the host is configured (ABI, table "PLATFORM_INFO").
type PlatformInfo uint64

// Bit 6 is reserved in revision 1.58 of the ABI and set by genuine Turin firmware; AMD-SB-3016 gives it its meaning.
const platformInfoKnownBits = 8

// SMT reports whether simultaneous multithreading is on.
func (p PlatformInfo) SMT() bool { return p&(1<<0) != 0 }

// TSME reports whether all memory of the host is encrypted.
func (p PlatformInfo) TSME() bool { return p&(1<<1) != 0 }

// ECC reports whether the memory corrects errors.
func (p PlatformInfo) ECC() bool { return p&(1<<2) != 0 }

// RAPLDisabled reports whether power draw cannot be read.
func (p PlatformInfo) RAPLDisabled() bool { return p&(1<<3) != 0 }

// CiphertextHiding reports whether ciphertext hiding is on for memory.
func (p PlatformInfo) CiphertextHiding() bool { return p&(1<<4) != 0 }

// AliasCheckComplete reports whether the firmware found no aliased memory addresses since the last reset
// (AMD-SB-3015, "BadRAM").
func (p PlatformInfo) AliasCheckComplete() bool { return p&(1<<5) != 0 }

// IOMMUWriteSafe reports whether the firmware says that writes of the IOMMU cannot reach a guest (AMD-SB-3016).
func (p PlatformInfo) IOMMUWriteSafe() bool { return p&(1<<6) != 0 }

// TIO reports whether trusted devices (SEV-TIO) are on.
func (p PlatformInfo) TIO() bool { return p&(1<<7) != 0 }

// Names lists the bits that are set, in ascending order, for people to read.
func (p PlatformInfo) Names() []string {
	return names(uint64(p), []bitName{
		{0, "smt"}, {1, "tsme"}, {2, "ecc"}, {3, "rapl-disabled"}, {4, "ciphertext-hiding"},
		{5, "alias-check-complete"}, {6, "iommu-write-safe"}, {7, "tio"},
	})
}

type bitName struct {
	bit  uint
	name string
}

func names(v uint64, known []bitName) []string {
	var out []string
	for _, k := range known {
		if v>>k.bit&1 != 0 {
			out = append(out, k.name)
		}
	}
	return out
}
