// SPDX-License-Identifier: Apache-2.0

// Package evidence holds attestation evidence as data, and reads the layouts in which it travels.
//
// [Evidence] is what one machine said once: the raw parts, never re-encoded, and a [Kind] that says which parts there
// have to be. [Collection] is evidence with what Kettle's environments add to it, as one CMW JSON collection
// (draft-ietf-rats-msg-wrap, media type application/cmw+json) on one line; the digest of evidence is the SHA-256 of the
// exact line. [Import] reads the layouts of others.
//
// The package guarantees that what it parsed has every part of its kind exactly once and nothing that it does not know.
// Endorsements may be left out where another collection of the same file carries them: all quotes of one machine have
// the same. It does no cryptography and trusts nothing: verifying is for the packages above.
package evidence

import (
	"bytes"
	"fmt"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// MaxInput bounds one file of evidence in bytes, in whatever layout.
const MaxInput = 16 << 20

// Kind is the kind of machine that speaks, by the parts that its evidence has. It is what the evidence looks like and
// proves nothing: under a private root every kind is a simulator's.
type Kind string

// The kinds of evidence.
const (
	SNP      Kind = "snp"    // an SEV-SNP report
	TDX      Kind = "tdx"    // a TDX quote
	AzureSNP Kind = "az-snp" // a paravisor's SEV-SNP report, and a quote of the TPM that the paravisor holds
	AzureTDX Kind = "az-tdx" // the same with a TDX quote
	VTPM     Kind = "vtpm"   // a TPM 2.0 quote
	Nitro    Kind = "nitro"  // an AWS Nitro attestation document; imported only
)

// Evidence is what a machine says of itself. Which fields are set is decided by Kind; see [Evidence.Check].
type Evidence struct {
	Kind   Kind
	Report []byte // SNP: the report, 1184 bytes; TDX, AzureTDX: the quote; Nitro: the document; otherwise empty

	HCLReport    []byte   // AzureSNP, AzureTDX: the content of NV index 0x01400001
	TPMQuote     []byte   // AzureSNP, AzureTDX, VTPM: TPMS_ATTEST
	TPMSignature []byte   // TPMT_SIGNATURE over TPMQuote; in an imported az-snp document the bare RSASSA signature
	PCRs         [][]byte // the quoted PCRs of the SHA-256 bank, ascending, 32 bytes each

	Endorsements
	BootLog []byte // any kind, optional: TCG or CCEL event log as the kernel shows it
}

// Endorsements is what vendors say about the machine. Every field may be empty; what is needed, the verdict says.
type Endorsements struct {
	Leaf           []byte // SNP, AzureSNP: VCEK or VLEK certificate, DER
	CertTable      []byte // SNP: the certificate table that came with the report (auxblob), as it came
	CRL            []byte // SNP, AzureSNP: AMD's revocation list, DER
	Collateral     []byte // TDX, AzureTDX: Intel's TCB info, QE identity and lists as one JSON document, see package tdx
	AKCertificates []byte // VTPM: the provider's certificate of the attestation key and its intermediates, PEM
}

// Empty reports whether nothing is there.
func (e Endorsements) Empty() bool { return e.Equal(Endorsements{}) }

// Equal compares byte by byte.
func (e Endorsements) Equal(o Endorsements) bool {
	return bytes.Equal(e.Leaf, o.Leaf) && bytes.Equal(e.CertTable, o.CertTable) && bytes.Equal(e.CRL, o.CRL) &&
		bytes.Equal(e.Collateral, o.Collateral) && bytes.Equal(e.AKCertificates, o.AKCertificates)
}

// Check refuses evidence that lacks a part of its kind or has a part of another.
func (e *Evidence) Check() error {
	parts, ok := e.Kind.shape()
	if !ok {
		return malformed("a kind of evidence", fmt.Sprintf("%.20q", e.Kind))
	}
	for _, p := range [...]struct {
		name string
		has  bool
		need presence
	}{
		{"report", len(e.Report) > 0, parts.report},
		{"hcl-report", len(e.HCLReport) > 0, parts.hcl},
		{"tpm-quote", len(e.TPMQuote) > 0, parts.tpm},
		{"tpm-signature", len(e.TPMSignature) > 0, parts.tpm},
		{"tpm-pcrs", len(e.PCRs) > 0, parts.tpm},
		{"endorsements", len(e.Leaf) > 0, parts.amd},
		{"certificate-table", len(e.CertTable) > 0, parts.amd},
		{"crl", len(e.CRL) > 0, parts.amd},
		{"collateral", len(e.Collateral) > 0, parts.intel},
		{"ak-certificates", len(e.AKCertificates) > 0, parts.provider},
	} {
		if p.need == required && !p.has {
			return missing(fmt.Sprintf("item %s, which evidence of kind %s has", p.name, e.Kind))
		}
		if p.need == barred && p.has {
			return malformed(fmt.Sprintf("only what evidence of kind %s has", e.Kind), "item "+p.name)
		}
	}
	for i, v := range e.PCRs {
		if len(v) != pcrSize {
			return malformed(fmt.Sprintf("PCR values of %d bytes", pcrSize), fmt.Sprintf("%d bytes at place %d", len(v), i))
		}
	}
	if len(e.PCRs) > maxPCRs {
		return malformed(fmt.Sprintf("at most %d PCR values", maxPCRs), fmt.Sprint(len(e.PCRs)))
	}
	return nil
}

const (
	pcrSize = 32
	maxPCRs = 24
)

// presence says whether a kind has a part. The zero value bars it.
type presence uint8

const (
	barred presence = iota
	optional
	required
)

// shape is the parts of a kind.
type shape struct{ report, hcl, tpm, amd, intel, provider presence }

// shape gives the parts of a kind, and whether there is such a kind.
func (k Kind) shape() (shape, bool) {
	switch k {
	case SNP:
		return shape{report: required, amd: optional}, true
	case TDX:
		return shape{report: required, intel: optional}, true
	case AzureSNP:
		return shape{hcl: required, tpm: required, amd: optional}, true
	case AzureTDX:
		return shape{report: required, hcl: required, tpm: required, intel: optional}, true
	case VTPM:
		return shape{tpm: required, provider: optional}, true
	case Nitro:
		return shape{report: required}, true
	}
	return shape{}, false
}

// Digest names a line of evidence: the SHA-256 of its exact bytes, without the newline.
func Digest(line []byte) binding.Digest { return binding.Sum(line) }

const link = "evidence"

const nextAgain = "take the evidence again as the machine or the runner wrote it"

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Malformed, Want: want, Got: got, Next: nextAgain}
}

func missing(what string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Missing, Want: what, Got: "nothing", Next: nextAgain}
}
