// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	sigbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/strict"
)

// Artifact is what a bundle of any Sigstore client is about, and who must have signed it: a Key, or both an Identity and
// an Issuer.
type Artifact struct {
	Content io.Reader // the file; nil if only its digest is known
	SHA256  []byte    // its digest, where there is no Content

	Identity string // the whole subject alternative name, no pattern
	Issuer   string // the whole OIDC issuer
	Key      []byte // DER SubjectPublicKeyInfo
}

// ErrArtifact is returned for an [Artifact] that does not say what it is or who must have signed it.
var ErrArtifact = errors.New("name the content or the SHA-256 of the artifact, and either a key or both identity and issuer")

// VerifyArtifact checks a bundle as any Sigstore client does: every version of the format up to 0.3, a message signature
// or a DSSE envelope with an in-toto statement that has the artifact as a subject, signed by a certificate or a key. It
// demands what the trusted root says the instance has, as [Trust.Verify] does, and the one identity that is named. It
// serves the conformance suite; Kettle's own bundles are narrower and go through [Trust.Verify].
func (t *Trust) VerifyArtifact(bundle []byte, a Artifact) error {
	artifact, err := a.policy()
	if err != nil {
		return err
	}
	b, err := openAny(bundle)
	if err != nil {
		return err
	}
	if a.Key != nil {
		return t.verifyKeyed(b, a.Key, verify.NewPolicy(artifact, verify.WithKey()))
	}
	want, err := verify.NewShortCertificateIdentity(a.Issuer, "", a.Identity, "")
	if err != nil {
		return ErrArtifact
	}
	i, err := t.instanceFor(b)
	if err != nil {
		return err
	}
	return i.verifyAny(b, verify.NewPolicy(artifact, verify.WithCertificateIdentity(want)))
}

// policy checks that exactly one kind of everything is named.
func (a Artifact) policy() (verify.ArtifactPolicyOption, error) {
	switch {
	case (a.Key == nil) == (a.Identity == "" || a.Issuer == ""), a.Key != nil && (a.Identity != "" || a.Issuer != ""):
		return nil, ErrArtifact
	case a.Content != nil && a.SHA256 == nil:
		return verify.WithArtifact(a.Content), nil
	case a.Content == nil && len(a.SHA256) == 32:
		return verify.WithArtifactDigest("sha256", a.SHA256), nil
	default:
		return nil, ErrArtifact
	}
}

// openAny reads a bundle of any version and kind.
func openAny(text []byte) (*sigbundle.Bundle, error) {
	if len(text) > MaxLine {
		return nil, malformed(fmt.Sprintf("a bundle of at most %d bytes", MaxLine), fmt.Sprintf("%d bytes", len(text)), nil)
	}
	if err := strict.Unique(text); err != nil {
		return nil, malformed("JSON that every reader understands alike", "JSON that is ambiguous or broken", err)
	}
	b := new(sigbundle.Bundle)
	if err := b.UnmarshalJSON(text); err != nil {
		return nil, undecoded(text, "a Sigstore bundle", err)
	}
	return b, nil
}

// instanceFor finds the instance of a bundle's certificate.
func (t *Trust) instanceFor(b *sigbundle.Bundle) (*instance, error) {
	content, err := b.VerificationContent()
	if err != nil {
		return nil, malformed("a bundle with a certificate or a key", "one without", err)
	}
	leaf := content.Certificate()
	if leaf == nil {
		return nil, identity("a bundle that a certificate signed", "one that a bare key signed", nil)
	}
	i := t.instanceOf(leaf)
	if i == nil {
		return nil, unknownInstance(leaf)
	}
	return i, nil
}

func (i *instance) verifyAny(b *sigbundle.Bundle, p verify.PolicyBuilder) error {
	if _, err := i.verifier.Verify(b, p); err != nil {
		return notConformant(err)
	}
	return nil
}

// verifyKeyed checks a bundle by a long-lived key. Such a bundle names no instance: the first that knows its log counts.
func (t *Trust) verifyKeyed(b *sigbundle.Bundle, spki []byte, p verify.PolicyBuilder) error {
	key, err := keyMaterial(spki)
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range t.instances {
		d := i.demands
		d.sct = false // only a certificate has one
		v, err := verify.NewVerifier(root.TrustedMaterialCollection{i.root, key}, d.options()...)
		if err != nil {
			return fmt.Errorf("making verifier: %w", err)
		}
		if _, err = v.Verify(b, p); err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return notConformant(errors.Join(errs...))
}

func notConformant(cause error) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Signature, Want: "a bundle that proves who signed this artifact, and that this is who was named",
		Got: "one that does not", Next: "compare identity, issuer and artifact with what was released", Cause: cause,
	}
}

func unknownInstance(leaf *x509.Certificate) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Chain, Want: "a certificate of an instance that the trusted root names",
		Got: fmt.Sprintf("one issued by %.200q", leaf.Issuer.String()), Next: "give the trusted root of the instance that signed, or " + nextForeign,
	}
}
