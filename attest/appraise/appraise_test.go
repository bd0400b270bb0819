// SPDX-License-Identifier: Apache-2.0

package appraise_test

import (
	"errors"
	"testing"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
)

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func roots(t testing.TB, pem []byte) appraise.Roots {
	t.Helper()
	r, err := appraise.Roots{}.WithPrivate(pem)
	fatal(t, err)
	return r
}

// quoted is evidence of a machine over these words.
func quoted(t testing.TB, p *sim.Processor) *evidence.Evidence {
	t.Helper()
	c := &evidence.Collection{Binding: []byte("context")}
	attesttest.Requote(t, p, []byte("payload"), c)
	return &c.Evidence
}

func environments(t testing.TB, changes ...string) policy.Environments {
	t.Helper()
	p, err := policy.Parse(attesttest.PolicyFile(t, changes...))
	fatal(t, err)
	return p.Environments()
}

func TestVerify(t *testing.T) {
	t.Parallel()
	own, other := attesttest.Processor(t, attesttest.LaunchDigest()), attesttest.Processor(t, attesttest.LaunchDigest())
	ours := roots(t, attesttest.Authority().RootsPEM())
	whole, bare := quoted(t, own), quoted(t, own)
	bare.Endorsements = evidence.Endorsements{}
	foreign := quoted(t, other).Endorsements
	many := make([]evidence.Endorsements, appraise.MaxEndorsements, appraise.MaxEndorsements+1)
	for i := range many {
		many[i] = foreign
	}
	for name, tc := range map[string]struct {
		evidence *evidence.Evidence
		others   []evidence.Endorsements
		roots    appraise.Roots
		want     error
	}{
		"its own endorsement":    {whole, nil, ours, nil},
		"another line's":         {bare, []evidence.Endorsements{foreign, whole.Endorsements}, ours, nil},
		"its own counts alone":   {with(whole, foreign), []evidence.Endorsements{whole.Endorsements}, ours, refusal.ErrNotVerified},
		"none":                   {bare, nil, ours, refusal.ErrEndorsementsMissing},
		"another machine's":      {bare, []evidence.Endorsements{foreign}, ours, refusal.ErrNotVerified},
		"beyond the bound":       {bare, append(many, whole.Endorsements), ours, refusal.ErrNotVerified},
		"no root":                {whole, nil, appraise.Roots{}, refusal.ErrChain},
		"another root":           {whole, nil, roots(t, attesttest.OtherAuthority().RootsPEM()), refusal.ErrChain},
		"report of another size": {&evidence.Evidence{Kind: evidence.SNP, Report: whole.Report[1:], Endorsements: whole.Endorsements}, nil, ours, refusal.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q, err := appraise.Verify(tc.evidence, tc.others, tc.roots, attesttest.Now())
			if !errors.Is(err, tc.want) || (q == nil) != (tc.want != nil) {
				t.Errorf("got %v, %v; want %v", q, err, tc.want)
			}
		})
	}
}

func with(c *evidence.Evidence, endorsements evidence.Endorsements) *evidence.Evidence {
	out := *c
	out.Endorsements = endorsements
	return &out
}

func TestMeets(t *testing.T) {
	t.Parallel()
	p := attesttest.Processor(t, attesttest.LaunchDigest())
	p.Extend(binding.Sum([]byte("configuration")))
	q, err := appraise.Verify(quoted(t, p), nil, roots(t, attesttest.Authority().RootsPEM()), attesttest.Now())
	fatal(t, err)
	a, err := q.Meets(environments(t), attesttest.Now())
	fatal(t, err)
	log := new(eventlog.Log)
	fatal(t, log.Append(eventlog.Configuration, binding.Sum([]byte("configuration"))))
	has, err := a.Replays(log)
	fatal(t, err)
	if a.Platform() != "sim" || a.Measurement() != attesttest.Measurement() || !has {
		t.Errorf("platform %s, measurement %s, register %v", a.Platform(), a.Measurement(), has)
	}
	if i := a.Instance(); i.Platform != "sim" || len(i.ReportID) != 64 || len(i.ChipID) != 128 || a.Quote() != q {
		t.Errorf("instance %+v", i)
	}
	for name, tc := range map[string]struct {
		change [2]string
		want   error
	}{
		"measurement": {[2]string{attesttest.Measurement(), "00" + attesttest.Measurement()[2:]}, refusal.ErrMeasurement},
		"platform":    {[2]string{"platforms: [sim]", "platforms: [snp]"}, refusal.ErrPolicy},
		"expired":     {[2]string{"2027-06-01", "2026-11-01"}, refusal.ErrPolicy},
	} {
		if a, err := q.Meets(environments(t, tc.change[:]...), attesttest.Now()); !errors.Is(err, tc.want) || a != nil {
			t.Errorf("%s: %v, %v", name, a, err)
		}
	}
	if err := q.MeetsFloor(policy.Environments{}, attesttest.Now()); !errors.Is(err, refusal.ErrNotVerified) {
		t.Errorf("no section: %v", err)
	}
}

func TestUnverifiedPayloadDigest(t *testing.T) {
	t.Parallel()
	c := quoted(t, attesttest.Processor(t, attesttest.LaunchDigest()))
	if d, ok := appraise.UnverifiedPayloadDigest(c); !ok || d != binding.Sum([]byte("payload")) {
		t.Errorf("%v, %v", d, ok)
	}
	c.Report = c.Report[1:]
	if d, ok := appraise.UnverifiedPayloadDigest(c); ok || !d.IsZero() {
		t.Errorf("of a short report: %v, %v", d, ok)
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	err := error(&appraise.UnsupportedError{Kind: "a quote", Need: "another program"})
	var typed *appraise.UnsupportedError
	if !errors.Is(err, appraise.ErrUnsupported) || !errors.As(err, &typed) || !typed.Unsupported() || err.Error() != "a quote: another program" {
		t.Errorf("%v", err)
	}
}
