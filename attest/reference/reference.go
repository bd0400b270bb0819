// SPDX-License-Identifier: Apache-2.0

// Package reference verifies what is signed about an image, and holds a machine against it.
//
// An image bundle is JSON Lines of Sigstore bundles, in no order that means anything. Two of them belong to an image: its
// SLSA provenance, and the SCAI statement with its reference values. [Verify] demands both for the one image that the
// caller has, made by one signer whom the policy accepts, agreeing with each other and with the signer's certificate, about
// an image that is no debug build and not revoked. [Image.Covers] demands that a quote shows values which are signed for such
// a machine, and that what the caller measured itself is what was signed.
//
// The package guarantees that an [Image] exists only after all of that, and that every refusal names its link: "image
// provenance" or "reference values". It trusts the caller's trusted root, policy and time, and the caller's own
// measurements. It does no cryptography, input or output of its own, and reads no clock.
//
// Sources: SLSA v1.2 (verifying artifacts), SLSA build environment track (working draft; reference values of bootloader,
// kernel, agent and root file system), https://in-toto.io/attestation/scai/v0.3.
package reference

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// The links of the chain that this package judges.
const (
	LinkProvenance = "image provenance"
	LinkValues     = "reference values"
)

// Verifier verifies one certificate-signed bundle: [*bundle.Trust]. It returns a payload and its signer only after success.
type Verifier interface {
	Verify(line []byte) (payload []byte, signer bundle.Signer, err error)
}

var _ Verifier = (*bundle.Trust)(nil)

// Request is what an image is verified with. Lines, Trust, Policy and At are required, and Files or Booted: they say which
// image the caller has. Where both are given, both have to fit.
type Request struct {
	Lines  [][]byte         // of the image bundle; lines of other kinds are skipped
	Trust  Verifier         // the trusted root
	Policy *policy.Policy   // its sections environments and revoked
	At     time.Time        // the time to judge at
	Files  []binding.Digest // SHA-256 of files of the image: all of them have to be subjects
	Booted *Booted          // what the caller's machine measured
}

// Image is an image whose provenance and reference values hold. Only [Verify] makes one. It is immutable.
type Image struct {
	provenance *statement.ImageProvenance
	values     *statement.ReferenceValues
	signer     bundle.Signer
	signedOn   time.Time // the later of the two
	inputs     []statement.ResourceDescriptor
	match      *Match
}

// Verify finds the image that the caller has among the lines and demands everything that the package promises. Where the
// bundle holds several statements about that image, one pair that holds is enough; otherwise the refusals of the first are
// returned, joined.
func Verify(r Request) (*Image, error) {
	if err := r.complete(); err != nil {
		return nil, err
	}
	pairs, err := find(r)
	if err != nil {
		return nil, err
	}
	var first error
	for _, p := range pairs {
		img, err := r.judge(p)
		if err == nil {
			return img, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

func (r Request) complete() error {
	switch {
	case r.Trust == nil:
		return refuse(LinkProvenance, refusal.Missing, "a trusted root", "none", "name the file with the trusted root of the instance that signs images")
	case r.At.IsZero():
		return refuse(LinkProvenance, refusal.Missing, "a time to judge at", "none", "give the time of the evidence, or now")
	case len(r.Files) == 0 && r.Booted == nil:
		return refuse(LinkProvenance, refusal.Missing, "a file of the image or a machine that booted it", "neither", "say which image is meant")
	}
	return nil
}

// judge demands everything of one pair of statements.
func (r Request) judge(p pair) (*Image, error) {
	img, err := r.verifyPair(p)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(img.agrees(), r.accepts(img)); err != nil {
		return nil, err
	}
	if r.Booted != nil {
		if img.match, err = img.Covers(*r.Booted); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// verifyPair verifies both signatures. What was read to find the pair is believed only if it is, byte for byte, what was
// signed.
func (r Request) verifyPair(p pair) (*Image, error) {
	payload, signer, err := r.Trust.Verify(p.provenance.line)
	if err != nil {
		return nil, relink(LinkProvenance, err)
	}
	values, signer2, err := r.Trust.Verify(p.values.line)
	if err != nil {
		return nil, relink(LinkValues, err)
	}
	img := &Image{signer: signer, signedOn: signer.SignedOn}
	if signer2.SignedOn.After(img.signedOn) {
		img.signedOn = signer2.SignedOn
	}
	if signer.SignedOn.IsZero() || signer2.SignedOn.IsZero() {
		return nil, refuse(LinkProvenance, refusal.Missing, "an authenticated time of both signatures", "none", nextRelease)
	}
	signer.SignedOn, signer2.SignedOn = time.Time{}, time.Time{}
	if signer != signer2 {
		return nil, refuse(LinkValues, refusal.Identity, "the signer of the image's provenance: "+describe(signer), describe(signer2), nextRelease)
	}
	if !bytes.Equal(payload, p.provenance.payload) || !bytes.Equal(values, p.values.payload) {
		return nil, refuse(LinkProvenance, refusal.Malformed, "a line that every reader takes for the same statement", "one that two readers take for different ones", nextRelease)
	}
	img.provenance, img.values = p.provenance.provenance, p.values.values
	img.inputs = []statement.ResourceDescriptor{
		{Name: LinkProvenance, Digest: statement.SHA256(binding.Sum(payload))},
		{Name: LinkValues, Digest: statement.SHA256(binding.Sum(values))},
	}
	return img, nil
}

// accepts demands what the policy says: the signer, no debug build, nothing revoked, and a time that can be.
func (r Request) accepts(img *Image) error {
	const skew = 10 * time.Minute // of the verifier's clock against the timestamp authority's
	s, p := img.signer, img.provenance
	errs := []error{r.Policy.Revoked().Allow(policy.Names{Images: img.Digests()}, r.At)}
	if p.External.Image.Build != statement.BuildProduction {
		errs = append(errs, refuse(LinkProvenance, refusal.Debug, "a production build", "a "+p.External.Image.Build+" build",
			"build the image without --debug: a debug image speaks on its serial line"))
	}
	errs = append(errs, r.Policy.Environments().AllowImage(policy.ImageSigner{
		Issuer: s.Issuer, Workflow: s.SAN, Repository: s.SourceRepository, RepositoryID: s.SourceRepositoryID,
		OwnerID: s.SourceOwnerID, SourceRef: s.SourceRef, RunnerEnvironment: s.RunnerEnvironment,
	}, r.At))
	if img.signedOn.After(r.At.Add(skew)) {
		errs = append(errs, refuse(LinkProvenance, refusal.Expired, "a signature made before "+r.At.UTC().Format(time.RFC3339),
			"one made on "+img.signedOn.UTC().Format(time.RFC3339), "set the clock of the machine that verifies"))
	}
	return relink(LinkProvenance, errors.Join(errs...))
}

// Provenance gives the verified provenance. It must not be changed.
func (i *Image) Provenance() *statement.ImageProvenance { return i.provenance }

// Values gives the verified reference values. They must not be changed.
func (i *Image) Values() *statement.ReferenceValues { return i.values }

// Signer gives who signed both statements.
func (i *Image) Signer() bundle.Signer { return i.signer }

// SignedOn gives an authenticated time at which both signatures were there.
func (i *Image) SignedOn() time.Time { return i.signedOn }

// Inputs names both payloads by digest, for the inputAttestations of a summary.
func (i *Image) Inputs() []statement.ResourceDescriptor { return slices.Clone(i.inputs) }

// Match gives what of [Request].Booted was found; nil where there was none.
func (i *Image) Match() *Match { return i.match }

// Subjects gives the image's files.
func (i *Image) Subjects() []statement.Subject { return slices.Clone(i.provenance.Subjects) }

// Digests gives the SHA-256 digest of each of the image's files.
func (i *Image) Digests() []binding.Digest {
	out := make([]binding.Digest, 0, len(i.provenance.Subjects))
	for _, s := range i.provenance.Subjects {
		d, _ := s.Digest.SHA256() // its shape was checked when it was parsed
		out = append(out, d)
	}
	return out
}

// BuildLevel gives the level of SLSA's build track that the image reaches by what its certificate says: 3 where a reusable
// workflow on a machine of GitHub signed, so that whoever calls it cannot reach the key; 2 where the workflow itself did; 1
// where the machine was somebody else's.
func (i *Image) BuildLevel() int {
	switch {
	case i.signer.RunnerEnvironment != policy.HostedRunner:
		return 1
	case i.signer.BuildConfigURI == "" || i.signer.BuildConfigURI == i.signer.SAN:
		return 2
	}
	return 3
}

// describe names a signer in one line.
func describe(s bundle.Signer) string {
	return fmt.Sprintf("%.300q of %.200q, commit %.64q, run %.200q", s.SAN, s.SourceRepository, s.SourceDigest, s.RunInvocation)
}

const nextRelease = "take image.intoto.jsonl from the release of this very image"

func refuse(link string, code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: code, Want: want, Got: got, Next: next}
}

// relink says of which link the refusals of another package are. Other errors are not this package's to hide.
func relink(link string, err error) error {
	if err == nil {
		return nil
	}
	all := refusal.All(err)
	if len(all) == 0 {
		return fmt.Errorf("%s: %w", link, err)
	}
	errs := make([]error, len(all))
	for n, r := range all {
		named := *r
		named.Link = link
		errs[n] = &named
	}
	return errors.Join(errs...)
}
