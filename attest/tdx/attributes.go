// SPDX-License-Identifier: Apache-2.0

package tdx

// TDAttributes is how a TD was set up at launch (MODULE, "ATTRIBUTES").
type TDAttributes uint64

const (
	attributeLASS          TDAttributes = 1 << 27
	attributeSEPTVEDisable TDAttributes = 1 << 28
	attributeMigratable    TDAttributes = 1 << 29
	attributePKS           TDAttributes = 1 << 30
	attributeKL            TDAttributes = 1 << 31
	attributePerfmon       TDAttributes = 1 << 63

	// attributesUnderDebug are the bits of group TUD: any of them set makes the TD untrusted.
	attributesUnderDebug TDAttributes = 0xff
	// attributesHarmless only give the guest processor features of its own.
	attributesHarmless = attributeLASS | attributeSEPTVEDisable | attributePKS | attributeKL
)

// Debug reports whether the host may read and write the TD: bit 0, or another of the group "TD under debug".
func (a TDAttributes) Debug() bool { return a&attributesUnderDebug != 0 }

// SEPTVEDisable reports whether accesses to memory that the host took away end the TD instead of reaching its handlers.
func (a TDAttributes) SEPTVEDisable() bool { return a&attributeSEPTVEDisable != 0 }

// Migratable reports whether a migration TD may move the TD to another platform.
func (a TDAttributes) Migratable() bool { return a&attributeMigratable != 0 }

// PKS reports whether the TD may use supervisor protection keys.
func (a TDAttributes) PKS() bool { return a&attributePKS != 0 }

// KeyLocker reports whether the TD may use Key Locker.
func (a TDAttributes) KeyLocker() bool { return a&attributeKL != 0 }

// Perfmon reports whether the TD may use performance monitoring, which the host can watch.
func (a TDAttributes) Perfmon() bool { return a&attributePerfmon != 0 }

// undue gives the bits that a TD of the default floor must not have, those of debugging left out.
func (a TDAttributes) undue() TDAttributes { return a &^ (attributesUnderDebug | attributesHarmless) }
