// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/fakesigstore"
)

// admitted is a build on a machine whose image a workflow signed and which an operator admitted. Tests change one thing.
type admitted struct {
	image   attesttest.Image
	bundle  []byte // of the image, when it is not to be made from image
	vsa     func(*statement.EnvironmentVSA)
	vsaBy   *bundle.Key
	noVSA   bool
	policy  []string // replacements
	request func(*attest.Request)
}

// verify makes the build and verifies it.
func (a admitted) verify(t *testing.T) (*attest.Result, attest.Trace, error) {
	t.Helper()
	operator, public := attesttest.Operator(t)
	e := attesttest.Boot(t, attesttest.Options{})
	if a.vsaBy == nil {
		a.vsaBy = operator
	}
	summary := e.Admitted(t, a.vsaBy, a.vsa)
	e.Dispatch(t)
	l := e.Respond(t, "widget.tar.gz", []byte("what was built"))
	file := l.Bytes()
	if !a.noVSA {
		file = append(append(file, summary...), '\n')
	}
	if a.image.Measurement == [48]byte{} {
		a.image.Measurement = attesttest.LaunchDigest()
	}
	if a.bundle == nil {
		a.bundle = attesttest.SignedImage(t, a.image)
	}
	req := request(t, l.Artifact, append(file, a.bundle...))
	req.Sigstore = attesttest.SigstoreTrust(t)
	req.Policy = imagePolicy(t, public, a.policy...)
	if a.request != nil {
		a.request(&req)
	}
	return attest.Verify(t.Context(), req)
}

// imagePolicy accepts the images of the workflow and environments that the operator admitted.
func imagePolicy(t *testing.T, operator string, changes ...string) *policy.Policy {
	t.Helper()
	text := string(attesttest.PolicyFile(t, "images: any", "images: ["+attesttest.ImagePolicy()+"]",
		`measurements: ["`+attesttest.Measurement()+`"]`, "measurements: signed", "[register-replay, token]", "[register-replay, token, admission]\n  admission:\n    keys:\n      - |\n"+indented(operator)))
	for i := 0; i+1 < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			t.Fatalf("the policy does not say %q", changes[i])
		}
		text = strings.Replace(text, changes[i], changes[i+1], 1)
	}
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func indented(text string) string {
	return "        " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n        ")
}

func TestVerifyImageAndAdmission(t *testing.T) {
	t.Parallel()
	r, trace, err := admitted{}.verify(t)
	if err != nil {
		t.Fatalf("%v\n%+v", err, trace)
	}
	for _, link := range trace {
		if link.Status != attest.OK || link.Value == "" || link.Source == "" {
			t.Errorf("link %+v", link)
		}
	}
	if r.Image() != "https://github.com/"+attesttest.ImageSigner || r.Level() != "none" { // a simulator has no level
		t.Errorf("image %q, level %q", r.Image(), r.Level())
	}
	if notes := strings.Join(r.Notes(), "\n"); strings.Contains(notes, "image:") {
		t.Errorf("the notes speak of the image:\n%s", notes)
	}
}

// TestAttackImage: the machine runs what no trusted workflow signed, or what was withdrawn.
func TestAttackImage(t *testing.T) {
	t.Parallel()
	who := func(change func(*fakesigstore.Identity)) *fakesigstore.Identity {
		id := attesttest.ImageIdentity()
		change(&id)
		return &id
	}
	other, err := fakesigstore.New(fakesigstore.Config{Now: func() time.Time { return attesttest.Now().Add(-24 * time.Hour) }})
	fatal(t, err)
	for name, tc := range map[string]struct {
		admitted
		link string
		want error
	}{
		"no bundle of the image":  {admitted{bundle: []byte("{}\n")}, "image", refusal.ErrMissing},
		"bundle of another image": {admitted{image: attesttest.Image{Measurement: [48]byte{1}}}, "image", refusal.ErrMeasurement},
		"another configuration":   {admitted{image: attesttest.Image{Components: map[string]binding.Digest{statement.ComponentConfiguration: {1}}}}, "image", refusal.ErrMeasurement},
		"another workflow": {admitted{image: attesttest.Image{Identity: who(func(i *fakesigstore.Identity) {
			i.JobWorkflowRef = "kettle/attest/.github/workflows/other.yml@refs/tags/v1"
		})}}, "image", refusal.ErrIdentity},
		"a branch": {admitted{image: attesttest.Image{Identity: who(func(i *fakesigstore.Identity) {
			i.JobWorkflowRef = "kettle/attest/.github/workflows/image.yml@refs/heads/main"
		})}}, "image", refusal.ErrIdentity},
		"a fork":                       {admitted{image: attesttest.Image{Identity: who(func(i *fakesigstore.Identity) { i.RepositoryID = "31337" })}}, "image", refusal.ErrIdentity},
		"another issuer":               {admitted{image: attesttest.Image{Identity: who(func(i *fakesigstore.Identity) { i.Issuer = "https://gitlab.example" })}}, "image", refusal.ErrIdentity},
		"values of another signer":     {admitted{image: attesttest.Image{ValuesBy: who(func(i *fakesigstore.Identity) { i.SHA = strings.Repeat("c", 40) })}}, "image", refusal.ErrIdentity},
		"another instance of Sigstore": {admitted{image: attesttest.Image{Instance: other}}, "image", refusal.ErrNotVerified},
		"a debug build":                {admitted{image: attesttest.Image{Build: statement.BuildDebug}}, "image", refusal.ErrDebug},
		"no trusted root":              {admitted{request: func(r *attest.Request) { r.Sigstore = nil }}, "image", refusal.ErrMissing},
		"a revoked image": {admitted{policy: []string{"revoked: none", fmt.Sprintf("revoked: {images: [%s], keys: none, chips: none}", binding.Sum([]byte("kettle uki.efi")))}},
			"image", refusal.ErrRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, trace, err := tc.verify(t)
			expect(t, trace, err, tc.link, tc.want)
		})
	}
}

// TestAttackRevokedMachine: an environment's key or its chip is withdrawn.
func TestAttackRevokedMachine(t *testing.T) {
	t.Parallel()
	l := attesttest.Whole(t, attesttest.Options{})
	req := request(t, l.Artifact, l.Bytes())
	r, _, err := attest.Verify(t.Context(), req)
	fatal(t, err)
	for _, revoked := range []string{
		"{images: none, keys: [" + r.EnvironmentKey().String() + "], chips: none}", "{images: none, keys: none, chips: [" + r.Instance().ChipID + "]}",
	} {
		req.Policy = policyOf(t, "revoked: none", "revoked: "+revoked)
		_, trace, err := attest.Verify(t.Context(), req)
		expect(t, trace, err, "measurement", refusal.ErrRevoked)
	}
}

// TestAttackAdmission: the machine was not admitted, or another was, or by somebody else, or too late.
func TestAttackAdmission(t *testing.T) {
	t.Parallel()
	stranger, _ := attesttest.Operator(t)
	for name, tc := range map[string]struct {
		admitted
		want error
	}{
		"no summary":          {admitted{noVSA: true}, refusal.ErrMissing},
		"another operator":    {admitted{vsaBy: stranger}, refusal.ErrSignature},
		"another environment": {admitted{vsa: func(v *statement.EnvironmentVSA) { v.EnvironmentKey[0] ^= 1 }}, refusal.ErrBinding},
		"another machine":     {admitted{vsa: func(v *statement.EnvironmentVSA) { v.Instance.ReportID = strings.Repeat("77", 32) }}, refusal.ErrBinding},
		"another chip":        {admitted{vsa: func(v *statement.EnvironmentVSA) { v.Instance.ChipID = strings.Repeat("77", 64) }}, refusal.ErrBinding},
		"another launch": {admitted{vsa: func(v *statement.EnvironmentVSA) {
			v.Launch = statement.DigestSet{statement.KeySimMeasurement: strings.Repeat("77", 48)}
		}}, refusal.ErrBinding},
		"refused": {admitted{vsa: func(v *statement.EnvironmentVSA) {
			v.Summary.Result, v.Summary.Levels = statement.Failed, []string{string(statement.Failed)}
		}}, refusal.ErrPolicy},
		"after dispatch": {admitted{vsa: func(v *statement.EnvironmentVSA) { v.Summary.TimeVerified = attesttest.Now().Add(time.Hour) }}, refusal.ErrBinding},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, trace, err := tc.verify(t)
			expect(t, trace, err, "admission", tc.want)
		})
	}
}

// expect demands a refusal of this kind at this link, and no result.
func expect(t *testing.T, trace attest.Trace, err error, link string, want error) {
	t.Helper()
	if !errors.Is(err, want) || failedLink(trace) != link {
		t.Errorf("got %v at %q, want %v at %q", err, failedLink(trace), want, link)
	}
}
