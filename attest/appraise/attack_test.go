// SPDX-License-Identifier: Apache-2.0

package appraise_test

import (
	"errors"
	"testing"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// Each test here passes when its attacks fail; mutants_test.go cuts out one check after the other and lets them succeed.

// hardware gives verified evidence of a synthetic machine with one change.
func hardware(t *testing.T, change func(m *snptest.Machine)) *appraise.Quote {
	t.Helper()
	m := snptest.New("Turin", "VCEK")
	change(m)
	e := evidence.Evidence{Kind: evidence.SNP, Report: m.Signed(t), Endorsements: evidence.Endorsements{Leaf: m.LeafDER(t)}}
	q, err := appraise.Verify(&e, nil, private(t, m.RootsPEM(t)), day())
	fatal(t, err)
	return q
}

// domain is the same for a trust domain.
func domain(t *testing.T, change func(q *tdxtest.Quote), collateral bool) *appraise.Quote {
	t.Helper()
	p := tdxtest.New(tdxtest.Config{})
	d := tdxtest.NewQuote()
	change(&d)
	e := evidence.Evidence{Kind: evidence.TDX, Report: p.Quote(d)}
	if collateral {
		e.Collateral = p.Collateral(p.NewCollateral()).JSON()
	}
	q, err := appraise.Verify(&e, nil, private(t, p.PEM(tdxtest.Root)), p.Day())
	fatal(t, err)
	return q
}

// TestAttackSimulatorAsHardware: what leads to a private root is a simulator's, whatever its evidence calls itself.
func TestAttackSimulatorAsHardware(t *testing.T) {
	t.Parallel()
	for kind, m := range machines(t, "one") {
		if kind == evidence.VTPM { // has no root of its own
			continue
		}
		q, err := appraise.Verify(&m.Evidence, nil, m.roots, m.at)
		fatal(t, err)
		if q.Platform() != appraise.PlatformSim || q.Environment().Platform != appraise.PlatformSim || q.Instance().Platform != appraise.PlatformSim {
			t.Errorf("%s: platform %s", kind, q.Platform())
		}
	}
}

// TestAttackWeakHardware takes machines that their host can read past the judge of all platforms.
func TestAttackWeakHardware(t *testing.T) {
	t.Parallel()
	debugged := hardware(t, func(m *snptest.Machine) { m.Report[0x0a] |= 1 << 3 })
	if debugged.Judge(floor.Default, appraise.Terms{}) == nil {
		t.Error("a guest that is debugged")
	}
	if domain(t, func(q *tdxtest.Quote) { q.Body.Attributes |= 1 }, true).Judge(floor.Default, appraise.Terms{}) == nil {
		t.Error("a trust domain that is debugged")
	}
	if domain(t, func(*tdxtest.Quote) {}, false).Judge(floor.Default, appraise.Terms{}) == nil {
		t.Error("a trust domain of which nobody knows whether its platform is up to date")
	}
}

// TestAttackLowerLevel: what runs below a provider's or a paravisor's level may be the job's; it does not speak for the
// machine where no policy names that machine.
func TestAttackLowerLevel(t *testing.T) {
	t.Parallel()
	policy := environments(t, "floor: strict", "floor: default\n  chips: any") // strict asks for the level itself
	fatal(t, hardware(t, func(*snptest.Machine) {}).MeetsFloor(policy, day()))
	if hardware(t, func(m *snptest.Machine) { m.Report[0x30] = 2 }).MeetsFloor(policy, day()) == nil {
		t.Error("a report from VMPL 2")
	}
}

// TestAttackRevocationOutvoted: a list that names a key is final, whatever older lists lie beside it, and leaving the list
// out does not help where one is required.
func TestAttackRevocationOutvoted(t *testing.T) {
	t.Parallel()
	m := snptest.New("Turin", "VCEK")
	e := evidence.Evidence{Kind: evidence.SNP, Report: m.Signed(t), Endorsements: evidence.Endorsements{Leaf: m.LeafDER(t), CRL: m.CRL(t)}}
	judge := func(others ...evidence.Endorsements) error {
		q, err := appraise.Verify(&e, others, private(t, m.RootsPEM(t)), day())
		fatal(t, err)
		return q.Judge(floor.Default, appraise.Terms{RevocationList: true})
	}
	fatal(t, judge())
	if err := judge(evidence.Endorsements{CRL: m.CRL(t, m.ASK.SerialNumber)}); !errors.Is(err, refusal.ErrRevoked) {
		t.Errorf("outvoted: %v", err)
	}
	e.CRL = nil
	if err := judge(); !errors.Is(err, refusal.ErrEndorsementsMissing) {
		t.Errorf("left out: %v", err)
	}
}

// TestAttackOtherEvents: a register that was extended by more or by something else than the log says.
func TestAttackOtherEvents(t *testing.T) {
	t.Parallel()
	log := new(eventlog.Log)
	fatal(t, log.Append(eventlog.Configuration, binding.Sum([]byte("configuration"))))
	q := domain(t, func(q *tdxtest.Quote) { q.Body.RTMR[3] = [48]byte{1} }, false)
	if replayed, err := q.Replays(log); !replayed || !errors.Is(err, refusal.ErrEventLogMismatch) {
		t.Errorf("%v, %v", replayed, err)
	}
	q = hardware(t, func(m *snptest.Machine) { m.Report[0xc0] = 1 }) // HOST_DATA is a simulator's register
	if replayed, err := q.Replays(log); !replayed || !errors.Is(err, refusal.ErrEventLogMismatch) {
		t.Errorf("%v, %v", replayed, err)
	}
}
