// SPDX-License-Identifier: Apache-2.0

// Package appraise judges one piece of evidence: it is the switch over platforms.
//
// Judging has two steps, because they fail for different reasons. [Verify] asks whether the evidence is genuine: a
// secure processor made it, its endorsements lead to a root that the caller named, all of it was valid at the time that
// the caller named. [Quote.Judge] and [Quote.Meets] ask whether the machine is good enough: the floor, and the platform,
// chip, measurement and registers that the section environments of a policy accepts. An [Appraisal] exists only after
// both.
//
// The package guarantees that a platform's name is decided by the root that the evidence leads to, never by what the
// evidence calls itself: under a private root everything is "sim". It trusts the caller's roots, time and policy, and
// the platform packages for their formats.
package appraise

import (
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/vtpm"
)

// PlatformSim is the platform of everything that leads to a private root.
const PlatformSim = "sim"

// ErrUnsupported is matched by every [*UnsupportedError].
var ErrUnsupported = errors.New("not supported here")

// UnsupportedError says that this program cannot judge a kind of evidence. It is no verdict on the evidence.
type UnsupportedError struct {
	Kind string // what was given, safe to print
	Need string // what would be needed, as a clause
}

// Error says kind and need.
func (e *UnsupportedError) Error() string { return fmt.Sprintf("%s: %s", e.Kind, e.Need) }

// Is matches [ErrUnsupported].
func (e *UnsupportedError) Is(target error) bool { return target == ErrUnsupported }

// Unsupported reports true; programs give it an exit code of its own.
func (e *UnsupportedError) Unsupported() bool { return true }

// MaxEndorsements bounds what is tried for one quote.
const MaxEndorsements = 16

// Quote is evidence that is genuine and whose machine is not yet judged. Only [Verify] makes one.
type Quote struct {
	kind        evidence.Kind
	at          time.Time
	report      *snp.Report     // SNP, AzureSNP
	td          *tdx.Quote      // TDX, AzureTDX
	guest       *vtpm.Guest     // AzureSNP, AzureTDX
	tpm         *vtpm.Quote     // AzureSNP, AzureTDX, VTPM
	document    *nitro.Document // Nitro
	crls        [][]byte        // AMD's lists that came with the evidence or beside it
	collaterals [][]byte        // Intel's, the same
}

// Verify checks evidence against the roots at the given time. Evidence without endorsements of its own is checked with
// those of others, in order, until one is for its chip and TCB. Its errors are refusals.
func Verify(e *evidence.Evidence, others []evidence.Endorsements, roots Roots, at time.Time) (*Quote, error) {
	if e == nil {
		return nil, noEvidence()
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	v := &verifier{evidence: e, others: others[:min(len(others), MaxEndorsements)], roots: roots}
	q := &Quote{kind: e.Kind, at: at}
	var err error
	switch e.Kind {
	case evidence.SNP:
		q.report, err = v.snp(e.Report, at)
	case evidence.TDX:
		q.td, err = tdx.Verify(e.Report, roots.Intel, at)
	case evidence.AzureSNP, evidence.AzureTDX:
		err = v.azure(q)
	case evidence.VTPM:
		err = v.tpm(q)
	case evidence.Nitro:
		q.document, err = nitro.Verify(e.Report, roots.AWS, at)
	default:
		err = noEvidence()
	}
	if err != nil {
		return nil, err
	}
	q.crls, q.collaterals = v.lists(), v.collaterals()
	return q, nil
}

func noEvidence() error {
	return &refusal.Refusal{
		Link: "evidence", Code: refusal.Missing, Want: "evidence of a kind that is known", Got: "none",
		Next: "name the evidence as the machine or the runner wrote it",
	}
}

// Kind is what the evidence looks like; [Quote.Platform] is what it is.
func (q *Quote) Kind() evidence.Kind { return q.kind }

// Platform is the kind of evidence, or "sim" under a private root.
func (q *Quote) Platform() string {
	private := false
	switch {
	case q.report != nil:
		private = !q.report.Root().AMD()
	case q.td != nil:
		private = !q.td.Root().Intel()
	case q.document != nil:
		return q.document.Platform() // it tells enclaves from instances
	}
	if private {
		return PlatformSim
	}
	return string(q.kind)
}

// Report gives the verified SEV-SNP report; nil where there is none.
func (q *Quote) Report() *snp.Report { return q.report }

// TD gives the verified TDX quote; nil where there is none.
func (q *Quote) TD() *tdx.Quote { return q.td }

// TPM gives the verified TPM quote; nil where there is none.
func (q *Quote) TPM() *vtpm.Quote { return q.tpm }

// Guest gives what the paravisor vouches for; nil where there is none.
func (q *Quote) Guest() *vtpm.Guest { return q.guest }

// Document gives the verified document of AWS; nil where there is none.
func (q *Quote) Document() *nitro.Document { return q.document }

// ReportData gives the 64 bytes that the guest had signed; false where a TPM speaks, which takes [Quote.ExtraData].
func (q *Quote) ReportData() ([64]byte, bool) {
	switch q.kind {
	case evidence.SNP:
		return q.report.ReportData(), true
	case evidence.TDX:
		return q.td.ReportData(), true
	}
	return [64]byte{}, false
}

// ExtraData gives what a TPM's caller had signed, or the user data of a Nitro document; false where neither speaks.
func (q *Quote) ExtraData() ([]byte, bool) {
	switch {
	case q.tpm != nil:
		return q.tpm.ExtraData(), true
	case q.document != nil:
		return q.document.UserData(), true
	}
	return nil, false
}

// Binds demands that the quote was made for these payload and context bytes and this purpose, and gives the context.
func (q *Quote) Binds(payload, context []byte, purpose binding.Purpose) (binding.Context, error) {
	if data, ok := q.ReportData(); ok {
		return binding.Check(data, payload, context, purpose)
	}
	extra, _ := q.ExtraData()
	return binding.CheckExtraData(extra, payload, context, purpose)
}

// Describe names quote and root for people.
func (q *Quote) Describe() (what, root string) {
	var hardware, pinned string
	var fingerprint [32]byte
	switch {
	case q.report != nil:
		hardware = fmt.Sprintf("%s line, %s", q.report.Line(), q.report.SigningKey())
		pinned, fingerprint = "AMD's pinned root", q.report.Root().Fingerprint()
	case q.td != nil:
		hardware = fmt.Sprintf("quote version %d", q.td.Version())
		pinned, fingerprint = "Intel's pinned root", q.td.Root().Fingerprint()
	case q.document != nil:
		root = "AWS's pinned root"
		if fingerprint = q.document.Root().Fingerprint(); !q.document.Root().AWS() {
			root = fmt.Sprintf("private root sha256:%x", fingerprint)
		}
		return q.Platform() + " document", root
	default:
		hardware = "key trusted by " + q.tpm.AK().Origin().String()
		return "TPM quote, " + hardware, "a root that the caller named"
	}
	if q.Platform() == PlatformSim {
		pinned = fmt.Sprintf("private root sha256:%x", fingerprint)
	}
	return fmt.Sprintf("%s report, %s", q.Platform(), hardware), pinned
}
