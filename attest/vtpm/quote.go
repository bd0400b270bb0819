// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/kettle/attest/attest/refusal"
)

// Quote is a verified quote. Only [Verify] and [VerifyBare] make one.
type Quote struct {
	attestation
	ak   *AK
	pcrs [MaxPCRs][sha256.Size]byte
}

// Verify checks a TPMS_ATTEST with its TPMT_SIGNATURE under a trusted attestation key, and the values of the quoted
// registers: 32 bytes each, of exactly the registers that the quote selects, in ascending order.
//
// Every error is a [refusal.Refusal], or several joined. Codes: chain without a trusted key, malformed, signature, and
// binding if the values are not the quoted ones.
func Verify(ak *AK, attest, sig []byte, pcrs [][]byte) (*Quote, error) {
	s, err := parseSignature(sig)
	if err != nil {
		return nil, err
	}
	return verify(ak, attest, s, pcrs)
}

// VerifyBare is [Verify] for evidence that carries only the value of an RSASSA PKCS #1 v1.5 signature over SHA-256, as
// the az-snp and az-tdx JSON does. What the structure around it would have said is thereby demanded.
func VerifyBare(ak *AK, attest, rsassa []byte, pcrs [][]byte) (*Quote, error) {
	return verify(ak, attest, &signature{scheme: algRSASSA, hash: crypto.SHA256, rsa: rsassa}, pcrs)
}

func verify(ak *AK, attest []byte, s *signature, pcrs [][]byte) (*Quote, error) {
	if ak == nil || ak.key == nil {
		return nil, brokenChain(linkAK, "an attestation key that something vouches for", "none")
	}
	a, err := parseAttest(attest)
	if err != nil {
		return nil, err
	}
	q := &Quote{attestation: *a, ak: ak}
	if err := q.readPCRs(pcrs); err != nil {
		return nil, err
	}
	if err := errors.Join(s.check(ak.key, attest), q.checkDigest(s.hash, pcrs)); err != nil {
		return nil, err
	}
	q.qualifiedSigner, q.extraData = bytes.Clone(a.qualifiedSigner), bytes.Clone(a.extraData)
	q.pcrDigest = bytes.Clone(a.pcrDigest)
	return q, nil
}

func (q *Quote) readPCRs(pcrs [][]byte) error {
	selected := q.indices()
	if len(pcrs) != len(selected) {
		return malformed(fmt.Sprintf("the values of the %d quoted registers", len(selected)), fmt.Sprintf("%d values", len(pcrs)))
	}
	for i, v := range pcrs {
		if len(v) != sha256.Size {
			return malformed(fmt.Sprintf("%d bytes for register %d", sha256.Size, selected[i]), fmt.Sprintf("%d", len(v)))
		}
		q.pcrs[selected[i]] = [sha256.Size]byte(v)
	}
	return nil
}

// checkDigest compares the digest over the values with the quoted one. Its hash is that of the signing scheme, not of
// the bank (TPM 2.0 part 3, TPM2_Quote).
func (q *Quote) checkDigest(h crypto.Hash, pcrs [][]byte) error {
	have := digest(h, pcrs...)
	if subtle.ConstantTimeCompare(have, q.pcrDigest) == 1 {
		return nil
	}
	return &refusal.Refusal{
		Link: linkQuote, Code: refusal.Binding, Want: fmt.Sprintf("register values with the quoted digest %x", q.pcrDigest),
		Got: fmt.Sprintf("values with digest %x", have), Next: nextFreshQuote,
	}
}

// AK is the attestation key that signed.
func (q *Quote) AK() *AK { return q.ak }

// ExtraData is all of what the caller of the TPM asked to be signed, up to 66 bytes.
func (q *Quote) ExtraData() []byte { return bytes.Clone(q.extraData) }

// QualifiedSigner is the qualified name of the attestation key as the TPM states it.
func (q *Quote) QualifiedSigner() []byte { return bytes.Clone(q.qualifiedSigner) }

// Clock is the TPM's time.
func (q *Quote) Clock() Clock { return q.clock }

// FirmwareVersion is the version of the TPM's firmware, in the manufacturer's own terms.
func (q *Quote) FirmwareVersion() uint64 { return q.firmware }

// PCRDigest is the quoted digest over the values.
func (q *Quote) PCRDigest() []byte { return bytes.Clone(q.pcrDigest) }

// Selected gives the quoted registers of the SHA-256 bank in ascending order.
func (q *Quote) Selected() []int { return q.indices() }

// PCR gives the value of a register, and false for one that was not quoted.
func (q *Quote) PCR(i int) ([sha256.Size]byte, bool) {
	if i < 0 || i >= MaxPCRs || q.selected&(1<<i) == 0 {
		return [sha256.Size]byte{}, false
	}
	return q.pcrs[i], true
}

// Match reports, as nil, that each register of want was quoted with the wanted value. Otherwise it joins a
// [refusal.Refusal] of code measurement for each that was not, in ascending order. An empty want is refused with code
// missing: it would accept anything.
func (q *Quote) Match(want map[int][sha256.Size]byte) error {
	if len(want) == 0 {
		return &refusal.Refusal{
			Link: linkRegisters, Code: refusal.Missing, Want: "the value of at least one register to compare with", Got: "none",
			Next: "name the image's values in the policy",
		}
	}
	registers := make([]int, 0, len(want))
	for i := range want {
		registers = append(registers, i)
	}
	slices.Sort(registers)
	var errs []error
	for _, i := range registers {
		wanted := want[i]
		have, ok := q.PCR(i)
		switch {
		case !ok:
			errs = append(errs, wrongRegister(i, wanted, "a quote without that register", nextQuotePCRs))
		case subtle.ConstantTimeCompare(have[:], wanted[:]) != 1:
			errs = append(errs, wrongRegister(i, wanted, fmt.Sprintf("%x", have), nextImage))
		}
	}
	return errors.Join(errs...)
}

func wrongRegister(i int, want [sha256.Size]byte, got, next string) error {
	return &refusal.Refusal{
		Link: linkRegisters, Code: refusal.Measurement, Want: fmt.Sprintf("PCR %d of %x", i, want), Got: got, Next: next,
	}
}
