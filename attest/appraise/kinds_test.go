// SPDX-License-Identifier: Apache-2.0

package appraise_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

func TestEveryKind(t *testing.T) {
	t.Parallel()
	for kind, m := range machines(t, "one") {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			q, err := appraise.Verify(&m.Evidence, nil, m.roots, m.at)
			fatal(t, err)
			want := appraise.PlatformSim
			if kind == evidence.VTPM {
				want = "vtpm"
			}
			if q.Platform() != want || q.Kind() != kind {
				t.Errorf("platform %s of kind %s", q.Platform(), q.Kind())
			}
			for _, f := range []floor.Floor{floor.Signature, floor.Default} {
				if err := q.Judge(f, appraise.Terms{}); err != nil {
					t.Errorf("floor %s: %v", f, err)
				}
			}
			if err := q.Judge(0, appraise.Terms{}); !errors.Is(err, refusal.ErrMissing) {
				t.Errorf("no floor: %v", err)
			}
			data, hardware := q.ReportData()
			extra, tpm := q.ExtraData()
			if hardware == tpm || hardware && data != reportData() || tpm && !bytes.Equal(extra, extraData()) {
				t.Errorf("report data %x %v, extra data %x %v", data, hardware, extra, tpm)
			}
			if what, root := q.Describe(); what == "" || root == "" {
				t.Error("no words for it")
			}
			e := q.Environment()
			if q.Document() == nil && tpm != (e.Registers["pcr15"] != "") || q.Document() != nil && e.Registers["pcr0"] == "" || (q.TD() != nil) != (e.Registers["rtmr3"] != "") {
				t.Errorf("registers %v", e.Registers)
			}
		})
	}
}

// TestAttackSwappedPart takes each part of another, equally genuine machine. Only parts that say nothing of the machine
// may be taken without notice, and of another machine's whole evidence nothing is lost.
func TestAttackSwappedPart(t *testing.T) {
	t.Parallel()
	own, other := machines(t, "one"), machines(t, "two")
	parts := map[string]func(to, from *evidence.Evidence){
		"report":     func(to, from *evidence.Evidence) { to.Report = from.Report },
		"hcl":        func(to, from *evidence.Evidence) { to.HCLReport = from.HCLReport },
		"quote":      func(to, from *evidence.Evidence) { to.TPMQuote = from.TPMQuote },
		"signature":  func(to, from *evidence.Evidence) { to.TPMSignature = from.TPMSignature },
		"ak chain":   func(to, from *evidence.Evidence) { to.AKCertificates = from.AKCertificates },
		"leaf":       func(to, from *evidence.Evidence) { to.Leaf = from.Leaf },
		"quote, sig": func(to, from *evidence.Evidence) { to.TPMQuote, to.TPMSignature = from.TPMQuote, from.TPMSignature },
		"whole TPM": func(to, from *evidence.Evidence) { // only the hardware's report tells
			to.HCLReport, to.TPMQuote, to.TPMSignature = from.HCLReport, from.TPMQuote, from.TPMSignature
		},
	}
	for kind, m := range own {
		for name, swap := range parts {
			e := m.Evidence
			theirs := other[kind].Evidence
			swap(&e, &theirs)
			if unchanged(&e, &m.Evidence) {
				continue
			}
			if kind == evidence.SNP && name != "leaf" || kind == evidence.TDX || kind == evidence.Nitro { // a whole report is a machine by itself
				continue
			}
			if q, err := appraise.Verify(&e, nil, m.roots, m.at); !errors.Is(err, refusal.ErrNotVerified) || q != nil {
				t.Errorf("%s with %s of another: %v, %v", kind, name, q != nil, err)
			}
		}
	}
}

func unchanged(a, b *evidence.Evidence) bool {
	return bytes.Equal(a.Report, b.Report) && bytes.Equal(a.HCLReport, b.HCLReport) && bytes.Equal(a.TPMQuote, b.TPMQuote) &&
		bytes.Equal(a.TPMSignature, b.TPMSignature) && a.Endorsements.Equal(b.Endorsements)
}

// TestAttackPinnedRoots gives evidence of every synthetic kind to a verifier that trusts the vendors alone.
func TestAttackPinnedRoots(t *testing.T) {
	t.Parallel()
	pinned, err := appraise.Pinned()
	fatal(t, err)
	for kind, m := range machines(t, "one") {
		for name, roots := range map[string]appraise.Roots{"pinned": pinned, "none": {}} {
			if q, err := appraise.Verify(&m.Evidence, nil, roots, m.at); !errors.Is(err, refusal.ErrChain) || q != nil {
				t.Errorf("%s under %s roots: %v, %v", kind, name, q, err)
			}
		}
	}
}

func TestVerifyRefusesKinds(t *testing.T) {
	t.Parallel()
	good := machines(t, "one")
	for name, tc := range map[string]struct {
		kind   evidence.Kind
		change func(*machine)
		want   error
	}{
		"no kind":                {evidence.SNP, func(m *machine) { m.Kind = "" }, refusal.ErrMalformed},
		"another kind":           {evidence.SNP, func(m *machine) { m.Kind = evidence.TDX }, refusal.ErrNotVerified},
		"no leaf":                {evidence.SNP, func(m *machine) { m.Leaf = nil }, refusal.ErrEndorsementsMissing},
		"broken table":           {evidence.SNP, func(m *machine) { m.Leaf, m.CertTable = nil, []byte("table") }, refusal.ErrMalformed},
		"empty table":            {evidence.SNP, func(m *machine) { m.Leaf, m.CertTable = nil, make([]byte, 4096) }, refusal.ErrEndorsementsMissing},
		"later":                  {evidence.SNP, func(m *machine) { m.at = m.at.AddDate(1, 0, 0) }, refusal.ErrExpired},
		"TDX later":              {evidence.TDX, func(m *machine) { m.at = m.at.AddDate(100, 0, 0) }, refusal.ErrExpired},
		"HCL of TDX for SNP":     {evidence.AzureSNP, func(m *machine) { m.HCLReport = good[evidence.AzureTDX].HCLReport }, refusal.ErrMalformed},
		"HCL of SNP for TDX":     {evidence.AzureTDX, func(m *machine) { m.HCLReport = good[evidence.AzureSNP].HCLReport }, refusal.ErrMalformed},
		"HCL broken":             {evidence.AzureSNP, func(m *machine) { m.HCLReport = m.HCLReport[1:] }, refusal.ErrMalformed},
		"signature cut":          {evidence.AzureSNP, func(m *machine) { m.TPMSignature = m.TPMSignature[1:] }, refusal.ErrNotVerified},
		"PCR missing":            {evidence.AzureTDX, func(m *machine) { m.PCRs = m.PCRs[1:] }, refusal.ErrMalformed},
		"key nobody vouches for": {evidence.VTPM, func(m *machine) { m.AKCertificates = nil }, refusal.ErrChain},
		"certificates broken":    {evidence.VTPM, func(m *machine) { m.AKCertificates = []byte("x") }, refusal.ErrMalformed},
		"certificate later":      {evidence.VTPM, func(m *machine) { m.at = m.at.AddDate(1, 0, 0) }, refusal.ErrExpired},
	} {
		m := good[tc.kind]
		tc.change(&m)
		if q, err := appraise.Verify(&m.Evidence, nil, m.roots, m.at); !errors.Is(err, tc.want) || q != nil {
			t.Errorf("%s: %v, %v; want %v", name, q, err, tc.want)
		}
	}
	if q, err := appraise.Verify(nil, nil, good[evidence.SNP].roots, day()); !errors.Is(err, refusal.ErrMissing) || q != nil {
		t.Errorf("nothing: %v, %v", q, err)
	}
}

// TestEndorsementsOfOthers takes what another line of the file carries, where the evidence has none of its own.
func TestEndorsementsOfOthers(t *testing.T) {
	t.Parallel()
	for kind, m := range machines(t, "one") {
		bare := m.Evidence
		bare.Endorsements = evidence.Endorsements{}
		q, err := appraise.Verify(&bare, []evidence.Endorsements{{}, m.Endorsements}, m.roots, m.at)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if err := q.Judge(floor.Default, appraise.Terms{RevocationList: true}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestRevocationLists(t *testing.T) {
	t.Parallel()
	m, other := snpMachine(t, "one", reportData()), snpMachine(t, "two", reportData())
	required := appraise.Terms{RevocationList: true}
	for name, tc := range map[string]struct {
		list  []byte
		terms appraise.Terms
		floor floor.Floor
		want  error
	}{
		"current":                  {m.CRL, required, floor.Default, nil},
		"required":                 {nil, required, floor.Default, refusal.ErrEndorsementsMissing},
		"required, not asked":      {nil, required, floor.Signature, nil},
		"absent":                   {nil, appraise.Terms{}, floor.Default, nil},
		"another machine's":        {other.CRL, appraise.Terms{}, floor.Default, refusal.ErrNotVerified},
		"broken":                   {[]byte("list"), appraise.Terms{}, floor.Default, refusal.ErrMalformed},
		"broken, strict, required": {[]byte("list"), required, floor.Strict, refusal.ErrMalformed},
	} {
		e := m.Evidence
		e.CRL = tc.list
		q, err := appraise.Verify(&e, nil, m.roots, m.at)
		fatal(t, err)
		if err := q.Judge(tc.floor, tc.terms); !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if q.RevocationChecked() != (tc.list != nil) {
			t.Errorf("%s: checked %v", name, q.RevocationChecked())
		}
	}
}

// TestCollateral judges a TD by the document of its platform, whatever else travels with it.
func TestCollateral(t *testing.T) {
	t.Parallel()
	m := tdxMachine(t, "one", reportData())
	p := tdxtest.New(tdxtest.Config{At: day().Add(-time.Hour), Seed: "one", FMSPC: [6]byte{9, 9, 9, 9, 9, 9}})
	foreign := p.Collateral(p.NewCollateral()).JSON()
	judge := func(own []byte, others ...[]byte) error {
		e := m.Evidence
		e.Collateral = own
		var beside []evidence.Endorsements
		for _, o := range others {
			beside = append(beside, evidence.Endorsements{Collateral: o})
		}
		q, err := appraise.Verify(&e, beside, m.roots, m.at)
		fatal(t, err)
		return q.Judge(floor.Default, appraise.Terms{})
	}
	for name, tc := range map[string]struct {
		err  error
		want error
	}{
		"own":              {judge(m.Collateral), nil},
		"none":             {judge(nil), refusal.ErrEndorsementsMissing},
		"beside":           {judge(nil, foreign, m.Collateral), nil},
		"foreign":          {judge(foreign), refusal.ErrEndorsementsMismatch},
		"own counts alone": {judge(foreign, m.Collateral), refusal.ErrEndorsementsMismatch},
		"broken":           {judge([]byte("{}")), refusal.ErrNotVerified},
	} {
		if !errors.Is(tc.err, tc.want) || tc.want == nil && tc.err != nil {
			t.Errorf("%s: %v", name, tc.err)
		}
	}
}

// TestBinds demands the same two halves of every kind: of hardware in its 64 bytes, of a TPM by their digest.
func TestBinds(t *testing.T) {
	t.Parallel()
	c := binding.Context{V: binding.Version, Purpose: binding.Boot, EnvironmentKey: binding.Sum([]byte("key"))}
	context, err := c.Canonical()
	fatal(t, err)
	payload := []byte("payload")
	m := tdxMachine(t, "one", binding.ReportData(payload, context))
	a := azureMachine(t, "one", evidence.AzureSNP)
	for name, e := range map[string]machine{"tdx": m, "snp": snpMachine(t, "one", binding.ReportData(payload, context))} {
		q, err := appraise.Verify(&e.Evidence, nil, e.roots, e.at)
		fatal(t, err)
		if got, err := q.Binds(payload, context, binding.Boot); err != nil || got != c {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if _, err := q.Binds([]byte("other"), context, binding.Boot); !errors.Is(err, refusal.ErrBinding) {
			t.Errorf("%s, another payload: %v", name, err)
		}
		col := &evidence.Collection{Evidence: e.Evidence, Binding: context}
		if !appraise.UnverifiedQuotes(col, binding.Sum(payload)) || appraise.UnverifiedQuotes(col, binding.Sum(nil)) {
			t.Errorf("%s: the payload is not found", name)
		}
	}
	q, err := appraise.Verify(&a.Evidence, nil, a.roots, a.at)
	fatal(t, err)
	if _, err := q.Binds(payload, context, binding.Boot); !errors.Is(err, refusal.ErrBinding) {
		t.Errorf("a TPM that quoted something else: %v", err)
	}
	extra := binding.ExtraData(payload, context)
	tpm := tpmMachine(t, extra[:])
	q, err = appraise.Verify(&tpm.Evidence, nil, tpm.roots, tpm.at)
	fatal(t, err)
	if got, err := q.Binds(payload, context, binding.Boot); err != nil || got != c {
		t.Errorf("vtpm: %v, %v", got, err)
	}
	col := &evidence.Collection{Evidence: tpm.Evidence, Binding: context}
	if !appraise.UnverifiedQuotes(col, binding.Sum(payload)) || appraise.UnverifiedQuotes(col, binding.Sum(nil)) {
		t.Error("vtpm: the payload is not found")
	}
	for _, cut := range []int{0, 5, 7, 8, 60} {
		col.TPMQuote = tpm.TPMQuote[:cut]
		if appraise.UnverifiedQuotes(col, binding.Sum(payload)) {
			t.Errorf("found in %d bytes", cut)
		}
	}
}

// TestReplays compares PCR 15 and RTMR3 with the log, and says where there is no register.
func TestReplays(t *testing.T) {
	t.Parallel()
	log := new(eventlog.Log)
	fatal(t, log.Append(eventlog.Configuration, binding.Sum([]byte("configuration"))))
	p := tdxtest.New(tdxtest.Config{At: day().Add(-time.Hour)})
	for name, tc := range map[string]struct {
		rtmr     [48]byte
		replayed bool
		want     error
	}{
		"as the log":     {log.RTMR(), true, nil},
		"something else": {[48]byte{1}, true, refusal.ErrEventLogMismatch},
		"never extended": {[48]byte{}, false, nil},
	} {
		quote := tdxtest.NewQuote()
		quote.Body.RTMR[3] = tc.rtmr
		e := evidence.Evidence{Kind: evidence.TDX, Report: p.Quote(quote)}
		q, err := appraise.Verify(&e, nil, private(t, p.PEM(tdxtest.Root)), p.Day())
		fatal(t, err)
		replayed, err := q.Replays(log)
		if replayed != tc.replayed || !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("%s: %v, %v", name, replayed, err)
		}
	}
	a := azureMachine(t, "one", evidence.AzureSNP)
	q, err := appraise.Verify(&a.Evidence, nil, a.roots, a.at)
	fatal(t, err)
	if replayed, err := q.Replays(log); !replayed || !errors.Is(err, refusal.ErrEventLogMismatch) {
		t.Errorf("PCR 15 of other events: %v, %v", replayed, err)
	}
}
