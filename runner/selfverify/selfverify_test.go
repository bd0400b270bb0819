// SPDX-License-Identifier: Apache-2.0

package selfverify_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/fakesigstore"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/selfverify"
)

const commandLine = "console=tty0 quiet kettle.config=sha256:00 kettle.root=verity:00:1"

// machine is a machine that runs its image as it was built. Tests change one thing about it, or about what was signed.
type machine struct {
	image    attesttest.Image
	verifier func(*selfverify.Verifier)
	quote    func(*runner.Quote)
	launched [48]byte // when it is another than the image's
	at       time.Time
}

func (m machine) verify(t testing.TB) (runner.Image, error) {
	t.Helper()
	digest := attesttest.LaunchDigest()
	m.image.Measurement, m.image.CommandLine = digest, commandLine
	if m.launched != [48]byte{} {
		digest = m.launched
	}
	p := attesttest.Processor(t, digest)
	roots, err := appraise.Roots{}.WithPrivate(attesttest.Authority().RootsPEM())
	fatal(t, err)
	parsed := policyOf(t)
	v := &selfverify.Verifier{
		Bundle: attesttest.SignedImage(t, m.image), Trust: attesttest.SigstoreTrust(t), Policy: parsed, Digest: parsed.Digest(), Roots: roots,
		Allowed: []string{"sim"}, MaxAge: 30 * 24 * time.Hour,
		Machine: selfverify.Machine{VCPUs: 1, CommandLine: []byte(commandLine), Components: map[string]binding.Digest{
			statement.ComponentKettled: binding.Sum([]byte("kettled")), statement.ComponentRootHash: binding.Sum([]byte("root")),
			statement.ComponentConfiguration: attesttest.Configuration(),
		}},
	}
	q := quoteOf(t, p)
	if m.quote != nil {
		m.quote(&q)
	}
	if m.verifier != nil {
		m.verifier(v)
	}
	if m.at.IsZero() {
		m.at = attesttest.Now()
	}
	return v.VerifyImage(t.Context(), q, m.at)
}

// policyOf accepts signed images on simulators.
func policyOf(t testing.TB, changes ...string) *policy.Policy {
	t.Helper()
	text := attesttest.PolicyFile(t, append([]string{
		"images: any", "images: [" + attesttest.ImagePolicy() + "]", `measurements: ["` + attesttest.Measurement() + `"]`, "measurements: signed",
	}, changes...)...)
	p, err := policy.Parse(text)
	fatal(t, err)
	return p
}

func quoteOf(t testing.TB, p *sim.Processor) runner.Quote {
	t.Helper()
	report, err := p.Report([64]byte{})
	fatal(t, err)
	leaf, err := snp.EndorsementKey(p.Endorsements())
	fatal(t, err)
	return runner.Quote{Evidence: evidence.Evidence{Kind: evidence.SNP, Report: report[:], Endorsements: evidence.Endorsements{Leaf: leaf}}}
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVerifyImage(t *testing.T) {
	t.Parallel()
	got, err := machine{}.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Files) != 6 || got.Provenance.IsZero() || got.References.IsZero() || got.Provenance == got.References ||
		!slices.Equal(got.Levels, []string{statement.BuildLevel(3), selfverify.PropertyClock}) {
		t.Errorf("got %+v", got)
	}
}

func with(change func(*selfverify.Verifier)) machine { return machine{verifier: change} }

func component(name string, d binding.Digest) machine {
	return with(func(v *selfverify.Verifier) { v.Machine.Components[name] = d })
}

func by(change func(*fakesigstore.Identity)) machine {
	id := attesttest.ImageIdentity()
	change(&id)
	return machine{image: attesttest.Image{Identity: &id}}
}

// TestAttackSelf: every way to run something else than what was signed, or on something else, is refused before any key is
// made.
func TestAttackSelf(t *testing.T) {
	t.Parallel()
	year := 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		machine
		want error
	}{
		"no bundle":              {with(func(v *selfverify.Verifier) { v.Bundle = nil }), refusal.ErrMissing},
		"empty bundle":           {with(func(v *selfverify.Verifier) { v.Bundle = []byte("\n \n") }), refusal.ErrMissing},
		"truncated bundle":       {with(func(v *selfverify.Verifier) { v.Bundle = v.Bundle[:len(v.Bundle)/3] }), refusal.ErrNotVerified},
		"another image's bundle": {machine{launched: [48]byte{7}}, refusal.ErrMeasurement},
		"another command line":   {with(func(v *selfverify.Verifier) { v.Machine.CommandLine = []byte(commandLine + " init=/bin/sh") }), refusal.ErrMeasurement},
		"a debug command line":   {with(func(v *selfverify.Verifier) { v.Machine.CommandLine = []byte(commandLine + " kettle.debug") }), refusal.ErrDebug},
		"another kettled":        {component(statement.ComponentKettled, binding.Digest{1}), refusal.ErrMeasurement},
		"another root":           {component(statement.ComponentRootHash, binding.Digest{1}), refusal.ErrMeasurement},
		"another configuration":  {component(statement.ComponentConfiguration, binding.Digest{1}), refusal.ErrMeasurement},
		"a debug build":          {machine{image: attesttest.Image{Build: statement.BuildDebug}}, refusal.ErrDebug},
		"another workflow": {by(func(i *fakesigstore.Identity) {
			i.JobWorkflowRef = "kettle/attest/.github/workflows/test.yml@refs/tags/v1"
		}), refusal.ErrIdentity},
		"a branch": {by(func(i *fakesigstore.Identity) {
			i.JobWorkflowRef = "kettle/attest/.github/workflows/image.yml@refs/heads/main"
		}), refusal.ErrIdentity},
		"another issuer":              {by(func(i *fakesigstore.Identity) { i.Issuer = "https://gitlab.example" }), refusal.ErrIdentity},
		"a fork":                      {by(func(i *fakesigstore.Identity) { i.Repository, i.RepositoryID = "mallory/images", "31337" }), refusal.ErrNotVerified},
		"another platform":            {with(func(v *selfverify.Verifier) { v.Allowed = []string{"snp"} }), refusal.ErrPolicy},
		"a machine of another policy": {with(func(v *selfverify.Verifier) { v.Policy = policyOf(t, "platforms: [sim]", "platforms: [snp]") }), refusal.ErrPolicy},
		"a forged quote":              {machine{quote: func(q *runner.Quote) { q.Report[0x90] ^= 1 }}, refusal.ErrSignature},
		"two years ago":               {machine{at: attesttest.Now().Add(-2 * year)}, refusal.ErrExpired},
		"two years ahead":             {machine{at: attesttest.Now().Add(2 * year)}, refusal.ErrNotVerified},
		"beyond the age":              {with(func(v *selfverify.Verifier) { v.MaxAge = time.Hour }), refusal.ErrExpired},
		"image of tomorrow":           {machine{image: attesttest.Image{SignedOn: attesttest.Now().Add(24 * time.Hour)}}, refusal.ErrNotVerified},
		"revoked image": {with(func(v *selfverify.Verifier) {
			v.Policy = policyOf(t, "revoked: none", "revoked: {images: ["+binding.Sum([]byte("kettle initrd.cpio")).String()+"], keys: none, chips: none}")
		}), refusal.ErrRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.verify(t)
			if !errors.Is(err, tc.want) || got.Files != nil {
				t.Errorf("got %+v, %v, want %v", got, err, tc.want)
			}
			if line := selfverify.Sentence(err); err != nil && (strings.Contains(line, "\n") || !strings.Contains(line, "want")) {
				t.Errorf("no sentence: %q", line)
			}
		})
	}
}

// TestIncomplete: what is not given refuses.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*selfverify.Verifier){
		"trust": func(v *selfverify.Verifier) { v.Trust = nil }, "policy": func(v *selfverify.Verifier) { v.Policy = nil },
		"digest": func(v *selfverify.Verifier) { v.Digest = binding.Digest{} }, "roots": func(v *selfverify.Verifier) { v.Roots = appraise.Roots{} },
		"platforms": func(v *selfverify.Verifier) { v.Allowed = nil }, "command line": func(v *selfverify.Verifier) { v.Machine.CommandLine = nil },
		"processors": func(v *selfverify.Verifier) { v.Machine.VCPUs = 0 }, "kettled": func(v *selfverify.Verifier) { v.Machine.Components = nil },
		"age": func(v *selfverify.Verifier) { v.MaxAge = 0 },
	} {
		if got, err := with(change).verify(t); err == nil || got.Files != nil {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func BenchmarkVerifyImage(b *testing.B) {
	b.ReportAllocs()
	digest := attesttest.LaunchDigest()
	m := machine{image: attesttest.Image{Measurement: digest, CommandLine: commandLine}}
	var v *selfverify.Verifier
	m.verifier = func(made *selfverify.Verifier) { v = made }
	if _, err := m.verify(b); err != nil {
		b.Fatal(err)
	}
	q := quoteOf(b, attesttest.Processor(b, digest))
	for b.Loop() {
		if _, err := v.VerifyImage(b.Context(), q, attesttest.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
