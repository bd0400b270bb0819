// SPDX-License-Identifier: Apache-2.0

// Package selfverify is what a machine asks of itself before it makes any key: that it runs the image which a trusted
// workflow built.
//
// [Verifier.VerifyImage] holds the machine's own quote and what it measured of itself against the image's bundle: genuine
// quote, replayed boot log, Sigstore signature of the workflow that the measured policy names, every reference value that
// the machine can measure, debug and TCB floors, and a clock that can be right. It returns an image only when all of it
// holds; otherwise the refusals say link, want and got.
//
// It stops mistakes early: a machine that was put together wrongly, with the provenance of another image, or on a host
// that is too old. It cannot vouch for itself: whoever cuts the check out of the program measures differently, and nothing
// outside relies on this alone. What was revoked since the image was built it cannot know.
package selfverify

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

// PropertyClock is what VSA-SELF says of its time: it is the host's, and lies between the authenticated time at which the
// image was signed and the age that the measured configuration allows.
const PropertyClock = "KETTLE_CLOCK_HOST_BOUNDED"

const linkSelf = "self-verification"

// Machine is what this machine measured of itself, outside of its secure processor.
type Machine struct {
	VCPUs       int                       // that run here
	CommandLine []byte                    // as the kernel shows it, without its final newline
	Components  map[string]binding.Digest // by the names of [statement.ComponentKettled] and its like
}

// Verifier verifies the machine's own image. Every field is required.
type Verifier struct {
	Bundle  []byte             // the image's bundle, JSON Lines: who could have chosen it is the host
	Trust   reference.Verifier // Sigstore's trusted root, of the measured configuration
	Policy  *policy.Policy     // of the measured configuration; its sections environments and revoked
	Digest  binding.Digest     // SHA-256 of that file
	Roots   appraise.Roots     // of the measured configuration
	Allowed []string           // platforms
	Machine Machine
	MaxAge  time.Duration // of the image's signature
}

var _ runner.ImageVerifier = (*Verifier)(nil)

// VerifyImage implements [runner.ImageVerifier].
func (v *Verifier) VerifyImage(_ context.Context, q runner.Quote, at time.Time) (runner.Image, error) {
	if err := v.complete(); err != nil {
		return runner.Image{}, err
	}
	quote, err := appraise.Verify(&q.Evidence, nil, v.Roots, at)
	if err != nil {
		return runner.Image{}, err
	}
	if !slices.Contains(v.Allowed, quote.Platform()) {
		return runner.Image{}, refuse(refusal.Policy, "a platform of the image's configuration: "+strings.Join(v.Allowed, ", "), quote.Platform(),
			"start the image on a platform that it was configured for")
	}
	if len(q.BootLog) > 0 {
		if _, err := quote.BootLog(q.BootLog); err != nil {
			return runner.Image{}, err
		}
	}
	image, err := v.image(quote, at)
	if err != nil {
		return runner.Image{}, err
	}
	if _, err := quote.Meets(v.Policy.Environments(), at, image.Match().Signed()...); err != nil {
		return runner.Image{}, err
	}
	return v.found(image), nil
}

func (v *Verifier) complete() error {
	for what, missing := range map[string]bool{
		"trusted root": v.Trust == nil, "policy": v.Policy == nil || v.Digest.IsZero(), "roots": v.Roots.Empty(), "platforms": len(v.Allowed) == 0,
		"command line": len(v.Machine.CommandLine) == 0, "count of processors": v.Machine.VCPUs <= 0,
		"digest of kettled": v.Machine.Components[statement.ComponentKettled].IsZero(), "age": v.MaxAge <= 0,
	} {
		if missing {
			return fmt.Errorf("verifying the machine's own image: no %s was given", what)
		}
	}
	if len(bytes.TrimSpace(v.Bundle)) == 0 {
		return refuse(refusal.Missing, "the bundle of the image, image.intoto.jsonl", "none",
			"put it into the image's bundle partition with kettle image attest --disk, or say in image.bundle where it is")
	}
	return nil
}

// image verifies provenance and reference values against the quote, and the clock against both.
func (v *Verifier) image(quote *appraise.Quote, at time.Time) (*reference.Image, error) {
	lines, err := bundle.Certified(v.Bundle)
	if err != nil {
		return nil, err
	}
	image, err := reference.Verify(reference.Request{
		Lines: lines, Trust: v.Trust, Policy: v.Policy, At: at,
		Booted: &reference.Booted{
			Environment: quote.Environment(), VCPUs: v.Machine.VCPUs, CommandLine: v.Machine.CommandLine, Components: v.Machine.Components,
		},
	})
	if err != nil {
		return nil, err
	}
	if last := image.SignedOn().Add(v.MaxAge); at.After(last) {
		return nil, refuse(refusal.Expired, "a start before "+last.UTC().Format(time.RFC3339)+", "+v.MaxAge.String()+" after the image was signed",
			at.UTC().Format(time.RFC3339)+" by this host's clock", "build a new image, or set the clock of the host")
	}
	return image, nil
}

// found says what holds.
func (v *Verifier) found(image *reference.Image) runner.Image {
	inputs := image.Inputs()
	digest := func(n int) binding.Digest {
		d, _ := inputs[n].Digest.SHA256() // made by package reference
		return d
	}
	return runner.Image{
		Files: image.Subjects(), Provenance: digest(0), References: digest(1), Policy: v.Digest,
		Levels: []string{statement.BuildLevel(image.BuildLevel()), PropertyClock},
	}
}

func refuse(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkSelf, Code: code, Want: want, Got: got, Next: next}
}

// Sentence gives the first refusal of err in one sentence, and how many there are besides: what a machine says before it
// powers off. Other errors are given as they are.
func Sentence(err error) string {
	if err == nil {
		return ""
	}
	all := refusal.All(err)
	if len(all) == 0 {
		return err.Error()
	}
	text := all[0].Error()
	if more := len(all) - 1; more > 0 {
		text += fmt.Sprintf(" (and %d more)", more)
	}
	return text
}
