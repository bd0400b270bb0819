// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/collect/fault"
)

// MaxExtra is the most that a quote can carry of the caller's in every TPM: a digest of SHA-512 and its algorithm.
const MaxExtra = 66

const quoteTries = 5 // while somebody extends registers between quote and reading

// Quote is a quote of registers of the SHA-256 bank.
type Quote struct {
	Attest    []byte // TPMS_ATTEST, the signed bytes
	Signature []byte // TPMT_SIGNATURE
	Selection []int  // the quoted registers, ascending
	PCRs      [][DigestSize]byte
	AKPublic  []byte // TPMT_PUBLIC of the key that signed
}

// Quote has the key sign the registers and extra. The values are those that the signature covers: if a register changes
// between signing and reading, it is done again.
func (t *TPM) Quote(ctx context.Context, ak Key, extra []byte, pcrs []int) (Quote, error) {
	const doing = "quoting PCRs"
	if err := checkSelection(pcrs); err != nil {
		return Quote{}, err
	}
	if len(extra) > MaxExtra {
		return Quote{}, fmt.Errorf("%s: %d bytes of extra data, want at most %d", doing, len(extra), MaxExtra)
	}
	for range quoteTries {
		answer, err := run(ctx, t, tpm2.Quote{
			SignHandle: ak.auth(), QualifyingData: tpm2.TPM2BData{Buffer: extra}, PCRSelect: selection(pcrs),
			InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		})
		if err != nil {
			return Quote{}, broken(ctx, doing, err)
		}
		values, err := t.PCRs(ctx, pcrs)
		if err != nil {
			return Quote{}, err
		}
		q := Quote{
			Attest: answer.Quoted.Bytes(), Signature: tpm2.Marshal(answer.Signature), Selection: pcrs, PCRs: values, AKPublic: ak.Public,
		}
		same, err := q.consistent(extra)
		if err != nil {
			return Quote{}, fault.Broken(doing, err)
		}
		if same {
			return q, nil
		}
	}
	return Quote{}, fault.Broken(doing, errors.New("the registers changed after every quote"))
}

// consistent demands that the quote is over the caller's data, and reports whether the values are the quoted ones.
func (q Quote) consistent(extra []byte) (bool, error) {
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest)
	if err != nil {
		return false, fmt.Errorf("reading the quote: %w", err)
	}
	if attest.Magic != tpm2.TPMGeneratedValue || attest.Type != tpm2.TPMSTAttestQuote {
		return false, errors.New("the TPM answered with something that is no quote")
	}
	if !bytes.Equal(attest.ExtraData.Buffer, extra) {
		return false, errors.New("the TPM answered with a quote over other data")
	}
	info, err := attest.Attested.Quote()
	if err != nil {
		return false, fmt.Errorf("reading the quote: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(info.PCRSelect), tpm2.Marshal(selection(q.Selection))) {
		return false, errors.New("the TPM answered with a quote over other registers")
	}
	h := sha256.New()
	for _, v := range q.PCRs {
		h.Write(v[:])
	}
	return bytes.Equal(info.PCRDigest.Buffer, h.Sum(nil)), nil
}
