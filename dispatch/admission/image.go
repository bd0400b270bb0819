// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/statement"
)

// Images verifies the image that an environment runs.
type Images interface {
	// Verify verifies the bundle of an image under the policy, and finds out which of the machine's values are among the
	// image's signed reference values. Its errors are refusals.
	Verify(lines [][]byte, b reference.Booted, at time.Time) (Image, error)
}

// Image is an image of known provenance.
type Image struct {
	Files  []statement.Subject            // as VSA-ENV names them
	Names  []binding.Digest               // every name by which it can be revoked
	Signed []string                       // the quote's values that are its reference values, see [policy.Environment]
	Inputs []statement.ResourceDescriptor // the statements that say so
	Levels []string                       // of SLSA that the image reaches
}

// SignedImages verifies images by the Sigstore bundles of provenance and reference values.
type SignedImages struct {
	Trust  reference.Verifier // the trusted root
	Policy *policy.Policy     // whose images are accepted
}

var _ Images = (*SignedImages)(nil)

// Verify implements [Images].
func (s *SignedImages) Verify(lines [][]byte, b reference.Booted, at time.Time) (Image, error) {
	img, err := reference.Verify(reference.Request{Lines: lines, Trust: s.Trust, Policy: s.Policy, At: at, Booted: &b})
	if err != nil {
		return Image{}, err
	}
	return Image{
		Files: img.Subjects(), Names: img.Digests(), Signed: img.Match().Signed(), Inputs: img.Inputs(),
		Levels: []string{statement.BuildLevel(img.BuildLevel())},
	}, nil
}
