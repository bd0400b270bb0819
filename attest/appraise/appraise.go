// SPDX-License-Identifier: Apache-2.0

// Package appraise judges one piece of evidence: it is the switch over platforms.
//
// Judging has two steps, because they fail for different reasons. [Verify] asks whether the evidence is genuine: a
// secure processor made it, its endorsements lead to a root that the caller named, all of it was valid at the time that
// the caller named. [Quote.Meets] asks whether the machine is good enough: the floor, platform, chip and measurement
// that the section environments of a policy accepts. An [Appraisal] exists only after both.
//
// The package guarantees nothing about what was quoted: comparing report data with statements is for package binding
// and the caller. It trusts the caller's roots, time and policy, and the platform packages for their formats.
package appraise

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
)

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

// Quote is evidence that is genuine and whose machine is not yet judged. Only [Verify] makes one.
type Quote struct{ report *snp.Report }

// MaxEndorsements bounds the certificates that are tried for one quote.
const MaxEndorsements = 16

// Verify checks evidence against the roots at the given time. Evidence without endorsements of its own is checked with
// those of others, in order, until one is for its chip and TCB. Its errors are refusals.
func Verify(c *evidence.Collection, others [][]byte, roots []snp.Root, at time.Time) (*Quote, error) {
	candidates := [][]byte{c.Endorsements}
	if len(c.Endorsements) == 0 && len(others) > 0 {
		candidates = others[:min(len(others), MaxEndorsements)]
	}
	var first error
	for _, leaf := range candidates {
		report, err := snp.Verify(c.Report, leaf, roots, at)
		if err == nil {
			return &Quote{report}, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// Report gives the verified report.
func (q *Quote) Report() *snp.Report { return q.report }

// Platform is "snp", or "sim" under a private root.
func (q *Quote) Platform() string { return q.report.Platform() }

// MeetsFloor reports, as nil, that the machine reaches the floor of the policy's environments.
func (q *Quote) MeetsFloor(e policy.Environments, at time.Time) error {
	word, err := e.Floor(at)
	if err != nil {
		return err
	}
	floor, err := floor.Parse(word)
	if err != nil {
		return fmt.Errorf("reading the policy's floor: %w", err)
	}
	return q.report.Meets(floor)
}

// Meets judges the machine by the policy's environments: floor, platform, chip and measurement. Independent faults are
// joined.
func (q *Quote) Meets(e policy.Environments, at time.Time) (*Appraisal, error) {
	err := errors.Join(q.MeetsFloor(e, at), e.Allow(policy.Environment{
		Platform: q.Platform(), ChipID: q.report.ChipID(), Measurement: q.report.Measurement(),
	}, at))
	if err != nil {
		return nil, err
	}
	return &Appraisal{quote: q}, nil
}

// Appraisal is the result of judging evidence: genuine, and of a machine that the policy accepts. Only [Quote.Meets]
// makes one.
type Appraisal struct{ quote *Quote }

// Platform is "snp", or "sim" under a private root.
func (a *Appraisal) Platform() string { return a.quote.Platform() }

// Report gives the verified report.
func (a *Appraisal) Report() *snp.Report { return a.quote.report }

// Measurement is the launch measurement in lower-case hexadecimal.
func (a *Appraisal) Measurement() string {
	m := a.quote.report.Measurement()
	return hex.EncodeToString(m[:])
}

// Instance names the running machine that was quoted.
func (a *Appraisal) Instance() statement.Instance {
	reportID, chipID := a.quote.report.ReportID(), a.quote.report.ChipID()
	return statement.Instance{
		Platform: a.Platform(), ReportID: hex.EncodeToString(reportID[:]), ChipID: hex.EncodeToString(chipID[:]),
	}
}

// Register gives the run-time register of the machine, and whether its platform has one. SEV-SNP has none: HOST_DATA is
// the host's, fixed at launch. Only under a simulator's root is HOST_DATA the register.
func (a *Appraisal) Register() (binding.Digest, bool) {
	if a.Platform() != snp.PlatformSim {
		return binding.Digest{}, false
	}
	return a.quote.report.HostData(), true
}

// reportDataOffset is the place of REPORT_DATA in a SEV-SNP report (ABI, table "ATTESTATION_REPORT Structure").
const reportDataOffset = 0x50

// UnverifiedPayloadDigest gives the first half of the report data as it stands in the evidence, for finding the
// statement that a quote belongs to. Nothing may be concluded from it: [binding.Check] demands it of a verified quote.
func UnverifiedPayloadDigest(c *evidence.Collection) (binding.Digest, bool) {
	if len(c.Report) != snp.ReportSize {
		return binding.Digest{}, false
	}
	return binding.Digest(c.Report[reportDataOffset:][:len(binding.Digest{})]), true
}
