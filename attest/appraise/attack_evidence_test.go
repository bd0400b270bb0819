// SPDX-License-Identifier: Apache-2.0

package appraise_test

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"testing"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx/tdxtest"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// TestAttackUnreadableCollateral: a document that cannot be read hides neither debugging nor migration, and the floor that
// asks for none ignores it.
func TestAttackUnreadableCollateral(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{At: day().Add(-time.Hour)})
	const debug, migratable = 1, 1 << 29
	for name, tc := range map[string]struct {
		attributes uint64
		codes      []refusal.Code
	}{
		"debug":      {debug, []refusal.Code{refusal.Debug, refusal.Malformed}},
		"migratable": {migratable, []refusal.Code{refusal.Malformed, refusal.Policy}},
	} {
		quote := tdxtest.NewQuote()
		quote.Body.Attributes |= tc.attributes
		e := evidence.Evidence{Kind: evidence.TDX, Report: p.Quote(quote), Endorsements: evidence.Endorsements{Collateral: []byte("{")}}
		q, err := appraise.Verify(&e, nil, private(t, p.PEM(tdxtest.Root)), p.Day())
		fatal(t, err)
		if err := q.Judge(floor.Signature, appraise.Terms{}); err != nil {
			t.Errorf("%s at the floor signature: %v", name, err)
		}
		all := refusal.All(q.Judge(floor.Default, appraise.Terms{}))
		if len(all) != len(tc.codes) {
			t.Errorf("%s: %v", name, all)
			continue
		}
		for i, code := range tc.codes {
			if all[i].Code != code {
				t.Errorf("%s: reason %d is %v, want %s", name, i, all[i], code)
			}
		}
	}
}

// TestAttackGuestAsParavisor: the guest above a paravisor has the same launch measurement, and names a key of its own in a
// report that it asked for at its lower level.
func TestAttackGuestAsParavisor(t *testing.T) {
	t.Parallel()
	s := signer(t)
	public, ok := s.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	runtime := vtpmtest.Runtime{AK: public, SecureBoot: true}.JSON()
	for vmpl := range byte(4) {
		m := snptest.New("Genoa", "VCEK")
		m.SetReportData(vtpmtest.ReportData(runtime))
		m.Report[0x30] = vmpl
		a := machine{Evidence: evidence.Evidence{
			Kind: evidence.AzureSNP, HCLReport: vtpmtest.HCL(vtpm.SNP, m.Signed(t), runtime), Endorsements: evidence.Endorsements{Leaf: m.LeafDER(t)},
		}}
		a.quote(t, s, extraData())
		q, err := appraise.Verify(&a.Evidence, nil, private(t, m.RootsPEM(t)), day())
		if vmpl == 0 && err != nil || vmpl > 0 && (!errors.Is(err, refusal.ErrChain) || q != nil) {
			t.Errorf("VMPL %d: %v", vmpl, err)
		}
	}
}

// TestAttackJunkBehindReport: what stands behind a report is a certificate table or a reason to refuse, whatever else
// brings the certificate.
func TestAttackJunkBehindReport(t *testing.T) {
	t.Parallel()
	m := snptest.New("Genoa", "VCEK")
	for name, behind := range map[string][]byte{
		"ones": bytes.Repeat([]byte{0xff}, 4096), "one byte": {1}, "text": []byte("certificates follow"),
	} {
		e := evidence.Evidence{Kind: evidence.SNP, Report: m.Signed(t), Endorsements: evidence.Endorsements{Leaf: m.LeafDER(t), CertTable: behind}}
		if q, err := appraise.Verify(&e, nil, private(t, m.RootsPEM(t)), day()); !errors.Is(err, refusal.ErrMalformed) || q != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttackQuoteOfNothing: a quote that nothing verified reaches no floor.
func TestAttackQuoteOfNothing(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]*appraise.Quote{"nil": nil, "zero": {}} {
		for _, f := range []floor.Floor{floor.Signature, floor.Default, floor.Strict} {
			if err := q.Judge(f, appraise.Terms{}); !errors.Is(err, refusal.ErrMissing) {
				t.Errorf("%s at %s: %v", name, f, err)
			}
		}
	}
}

// TestAttackCollateralOutvoted: a document that says revoked is final, whichever stands first.
func TestAttackCollateralOutvoted(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{At: day().Add(-time.Hour)})
	good, revoking := p.NewCollateral(), p.NewCollateral()
	revoking.PCKCRL.Revoked = []string{tdxtest.PCKLeaf}
	texts := [][]byte{p.Collateral(good).JSON(), p.Collateral(revoking).JSON()}
	for first := range texts {
		e := evidence.Evidence{Kind: evidence.TDX, Report: p.Quote(tdxtest.NewQuote())}
		others := []evidence.Endorsements{{Collateral: texts[first]}, {Collateral: texts[1-first]}}
		q, err := appraise.Verify(&e, others, private(t, p.PEM(tdxtest.Root)), p.Day())
		fatal(t, err)
		if err := q.Judge(floor.Default, appraise.Terms{}); !errors.Is(err, refusal.ErrRevoked) {
			t.Errorf("document %d first: %v", first, err)
		}
	}
}
