// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"testing"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/config"
)

// TestAttackCredentialOfTheLauncher: a machine that has to be admitted takes no credential from whoever started it, and one
// that takes it from there does not go on without.
func TestAttackCredentialOfTheLauncher(t *testing.T) {
	t.Parallel()
	const prefix = "kettle-0011223344556677"
	for name, tc := range map[string]struct {
		from  string
		given channel.Admission
		ok    bool
	}{
		"launcher's":              {config.FromLauncher, channel.Admission{Credential: secret.New("ghs_x"), Prefix: prefix}, true},
		"launcher's, not there":   {config.FromLauncher, channel.Admission{Prefix: prefix}, false},
		"dispatcher's":            {config.FromAdmission, channel.Admission{Prefix: prefix}, true},
		"launcher's in its place": {config.FromAdmission, channel.Admission{Credential: secret.New("ghs_x"), Prefix: prefix}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inside, outside := net.Pipe()
			defer inside.Close()
			defer outside.Close()
			go func() { _ = channel.NewLauncher(outside).Admit(t.Context(), tc.given) }()
			got, err := (&launcher{guest: channel.NewGuest(inside)}).given(t.Context(), tc.from)
			if (err == nil) != tc.ok || tc.ok && got.prefix != prefix {
				t.Errorf("got prefix %q, %v", got.prefix, err)
			}
			if (got.credential.Token.Reveal() == "ghs_x") != (tc.ok && tc.from == config.FromLauncher) {
				t.Error("another credential than was given")
			}
		})
	}
}

// TestServiceWithoutCredential: nothing is asked of GitHub before there is a credential.
func TestServiceWithoutCredential(t *testing.T) {
	t.Parallel()
	s := new(service)
	_, register := s.Register(t.Context(), "a")
	_, observe := s.Observe(t.Context(), runner.Registration{})
	_, identify := s.Identify(t.Context(), runner.Question{})
	_, conclusion := s.Conclusion(t.Context(), statement.Facts{})
	for name, err := range map[string]error{
		"register": register, "observe": observe, "identify": identify, "conclusion": conclusion, "remove": s.Remove(t.Context(), runner.Registration{}),
	} {
		if !errors.Is(err, errNoCredential) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttackOtherMachineAfterBoot: what was verified at boot is no word about another machine.
func TestAttackOtherMachineAfterBoot(t *testing.T) {
	t.Parallel()
	roots, err := appraise.Roots{}.WithPrivate(attesttest.Authority().RootsPEM())
	if err != nil {
		t.Fatal(err)
	}
	quote := func(p *sim.Processor) runner.Quote {
		report, err := p.Report([64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := snp.EndorsementKey(p.Endorsements())
		if err != nil {
			t.Fatal(err)
		}
		return runner.Quote{Evidence: evidence.Evidence{Kind: evidence.SNP, Report: report[:], Endorsements: evidence.Endorsements{Leaf: leaf}}}
	}
	mine, other := attesttest.Processor(t, attesttest.LaunchDigest()), attesttest.Processor(t, attesttest.LaunchDigest())
	o := &own{appraiser: appraiser{roots: roots, allowed: []string{"sim"}}, image: runner.Image{Levels: []string{"verified"}}}
	if o.self, err = o.appraiser.Appraise(quote(mine), attesttest.Now()); err != nil {
		t.Fatal(err)
	}
	if image, err := o.VerifyImage(t.Context(), quote(mine), attesttest.Now()); err != nil || len(image.Levels) != 1 {
		t.Errorf("this machine: %+v, %v", image, err)
	}
	if image, err := o.VerifyImage(t.Context(), quote(other), attesttest.Now()); err == nil || len(image.Levels) > 0 {
		t.Errorf("another machine: %+v", image)
	}
}
