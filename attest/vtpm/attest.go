// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"fmt"
	"math/bits"
)

const (
	generated     = 0xff544347 // TPM_GENERATED_VALUE (TPM2 6.2): a TPM puts it before what it made itself
	typeQuote     = 0x8018     // TPM_ST_ATTEST_QUOTE (TPM2 6.9)
	maxDigest     = 64         // SHA-512, the longest
	maxName       = 2 + maxDigest
	maxExtraData  = 2 + maxDigest // TPM2B_DATA holds at most a TPMT_HA
	minSelectSize = 3             // PCR_SELECT_MIN of a PC Client TPM: 24 registers
	maxSelectSize = 4
)

// MaxPCRs is the number of registers that a selection can name.
const MaxPCRs = 8 * maxSelectSize

// Clock is the TPM's time, as quoted (TPM2 10.11.1, TPMS_CLOCK_INFO).
type Clock struct {
	Milliseconds uint64 // time that the TPM was powered
	ResetCount   uint32 // times that it was reset
	RestartCount uint32 // times that it was restarted or resumed since
	Safe         bool   // that no greater time was told before
}

// attestation is a TPMS_ATTEST of type quote (TPM2 10.12.8).
type attestation struct {
	qualifiedSigner []byte
	extraData       []byte
	clock           Clock
	firmware        uint64
	selected        uint32 // bit i stands for register i of the SHA-256 bank
	pcrDigest       []byte
}

// parseAttest reads the structure strictly. Nothing else than a quote over one non-empty selection of the SHA-256 bank
// is one: a second selection could name a bank whose values nobody gave, an empty one would make the digest of nothing a
// proof of anything (CVE-2022-0317).
func parseAttest(raw []byte) (*attestation, error) {
	w := &wire{link: linkQuote, what: "TPMS_ATTEST", rest: raw}
	var a attestation
	if magic := w.u32("magic"); w.err == nil && magic != generated {
		w.fail("what a TPM made itself (TPM_GENERATED)", fmt.Sprintf("%#08x", magic))
	}
	if t := w.u16("type"); w.err == nil && t != typeQuote {
		w.fail("a quote (TPM_ST_ATTEST_QUOTE)", fmt.Sprintf("an attestation of type %#04x", t))
	}
	a.qualifiedSigner = w.sized(maxName, "qualifiedSigner")
	a.extraData = w.sized(maxExtraData, "extraData")
	a.clock.Milliseconds = w.u64("clock")
	a.clock.ResetCount = w.u32("resetCount")
	a.clock.RestartCount = w.u32("restartCount")
	safe := w.u8("safe")
	if safe > 1 {
		w.fail("safe to be 0 or 1", fmt.Sprintf("%d", safe))
	}
	a.clock.Safe = safe == 1
	a.firmware = w.u64("firmwareVersion")
	a.selected = w.selection()
	a.pcrDigest = w.sized(maxDigest, "pcrDigest")
	if err := w.done(); err != nil {
		return nil, err
	}
	return &a, nil
}

// selection reads a TPML_PCR_SELECTION (TPM2 10.9.7) of exactly one bank.
func (w *wire) selection() uint32 {
	if n := w.u32("the number of selections"); w.err == nil && n != 1 {
		w.fail("exactly one selection of registers", fmt.Sprintf("%d", n))
	}
	if bank := algorithm(w.u16("the bank")); w.err == nil && bank != algSHA256 {
		w.fail("a selection of the SHA-256 bank", fmt.Sprintf("algorithm %#04x", uint16(bank)))
	}
	size := int(w.u8("sizeofSelect"))
	if w.err == nil && (size < minSelectSize || size > maxSelectSize) {
		w.fail(fmt.Sprintf("a selection of %d or %d bytes", minSelectSize, maxSelectSize), fmt.Sprintf("%d", size))
	}
	var selected uint32
	for i, b := range w.take(size, "pcrSelect") {
		selected |= uint32(b) << (8 * i)
	}
	if w.err == nil && selected == 0 {
		w.fail("at least one register selected (CVE-2022-0317)", "none")
	}
	return selected
}

// indices gives the selected registers in ascending order.
func (a *attestation) indices() []int {
	out := make([]int, 0, bits.OnesCount32(a.selected))
	for i := range MaxPCRs {
		if a.selected&(1<<i) != 0 {
			out = append(out, i)
		}
	}
	return out
}
