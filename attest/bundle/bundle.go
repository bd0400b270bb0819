// SPDX-License-Identifier: Apache-2.0

// Package bundle signs and verifies in-toto statements as Sigstore bundles v0.3, and reads and writes the JSON Lines
// file that carries them together with their evidence.
//
// A bundle here is a DSSE envelope with one signature. Most are by a bare ECDSA P-256 key: which key that must be comes
// from the hardware quote or from an operator, never from the bundle, so [Bundle.Verify] takes it from its caller. Others
// carry a certificate of a Sigstore instance, which names the workflow that signed: [Trust.Verify] demands everything that
// the caller's trusted root says the instance has (certificate transparency, log entry, timestamp) and returns who signed
// as a [Signer]; whether that is the right one is the caller's to judge. The package guarantees that a payload it returns
// was signed, whole, under the in-toto payload type. It trusts sigstore-go for envelopes, signatures, proofs and
// timestamps, after its own strict reading, and is the module's only importer of it. Verifying uses no network and no clock.
package bundle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	sigbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/strict"
)

// MediaType is the media type of every bundle that this package writes and the only one that it reads.
const MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

// MaxLine bounds one bundle in bytes: the largest payload in base64, and its frame.
const MaxLine = statement.MaxPayload*4/3 + 64<<10

const link = "signature"

// errForeign marks a Sigstore bundle that is well formed and of another kind, for example one that GitHub signed with
// a certificate. It may stand in the same file and proves nothing here.
var errForeign = errors.New("a bundle of another kind")

// Sign makes one line: a bundle over exactly these payload bytes, without the newline.
func Sign(ctx context.Context, key *Key, payload []byte) ([]byte, error) {
	pb, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: statement.PayloadType}, key, sign.BundleOptions{Context: ctx})
	if err != nil {
		return nil, fmt.Errorf("signing bundle: %w", err)
	}
	b, err := protojson.Marshal(pb)
	if err != nil {
		return nil, fmt.Errorf("encoding bundle: %w", err)
	}
	var line bytes.Buffer // protojson varies its white space on purpose
	if err := json.Compact(&line, b); err != nil {
		return nil, fmt.Errorf("compacting bundle: %w", err)
	}
	return line.Bytes(), nil
}

// Bundle is one parsed and not yet verified bundle.
type Bundle struct {
	inner   *sigbundle.Bundle
	payload []byte
}

// Is reports whether a JSON line looks like a Sigstore bundle, without judging it.
func Is(line []byte) bool {
	var probe struct {
		MediaType string `json:"mediaType"`
	}
	return json.Unmarshal(line, &probe) == nil && probe.MediaType == MediaType
}

// Parse reads one line. Another media type, another payload type, more than one signature, and verification material
// that is not a bare key are refused.
func Parse(line []byte) (*Bundle, error) {
	inner, err := open(line)
	if err != nil {
		return nil, err
	}
	if m := inner.GetVerificationMaterial(); m.GetCertificate() != nil || m.GetX509CertificateChain() != nil {
		return nil, malformed("a public key hint as verification material", "a certificate", errForeign)
	}
	if inner.GetVerificationMaterial().GetPublicKey().GetHint() == "" {
		return nil, malformed("a public key hint as verification material", "none", nil)
	}
	return &Bundle{inner: inner, payload: inner.GetDsseEnvelope().GetPayload()}, nil
}

// open reads one line up to its verification material: bundle v0.3, a DSSE envelope, the in-toto type, one signature.
func open(line []byte) (*sigbundle.Bundle, error) {
	if len(line) > MaxLine {
		return nil, malformed(fmt.Sprintf("a bundle of at most %d bytes", MaxLine), fmt.Sprintf("%d bytes", len(line)), nil)
	}
	if err := strict.Unique(line); err != nil {
		return nil, malformed("JSON that every reader understands alike", "JSON that is ambiguous or broken", err)
	}
	inner := new(sigbundle.Bundle)
	if err := inner.UnmarshalJSON(line); err != nil {
		return nil, undecoded(line, "a Sigstore bundle v0.3", err)
	}
	if inner.GetMediaType() != MediaType {
		return nil, malformed("media type "+MediaType, fmt.Sprintf("%.100q", inner.GetMediaType()), nil)
	}
	env := inner.GetDsseEnvelope()
	if env == nil {
		return nil, malformed("a DSSE envelope", "another content", errForeign)
	}
	if len(env.GetSignatures()) != 1 {
		return nil, malformed("one signature", fmt.Sprint(len(env.GetSignatures())), nil)
	}
	if env.GetPayloadType() != statement.PayloadType {
		return nil, malformed("payload type "+statement.PayloadType, fmt.Sprintf("%.100q", env.GetPayloadType()), errForeign)
	}
	return inner, nil
}

// undecoded says what stands where a bundle should. Older generators wrote bare envelopes: those are not broken, they only
// prove nothing without asking the log.
func undecoded(text []byte, want string, cause error) *refusal.Refusal {
	var probe struct {
		PayloadType string            `json:"payloadType"`
		Signatures  []json.RawMessage `json:"signatures"`
	}
	if json.Unmarshal(text, &probe) == nil && probe.PayloadType != "" && len(probe.Signatures) > 0 {
		return malformed(want, "a bare DSSE envelope, which carries neither certificate nor log entry and is not supported", cause)
	}
	return malformed(want, "a line that does not decode as one", cause)
}

// ParseEnvelope reads a bare DSSE envelope, as others publish what their long-lived keys signed. It says as much as a
// bundle with a key: whose key it must be is the caller's to know. Its key id chooses nothing.
func ParseEnvelope(line []byte) (*Bundle, error) {
	if len(line) > MaxLine {
		return nil, malformed(fmt.Sprintf("an envelope of at most %d bytes", MaxLine), fmt.Sprintf("%d bytes", len(line)), nil)
	}
	if err := strict.Unique(line); err != nil {
		return nil, malformed("a DSSE envelope", "JSON that is ambiguous or broken", err)
	}
	const frame = `{"mediaType":"` + MediaType + `","verificationMaterial":{"publicKey":{"hint":"none"}},"dsseEnvelope":%s}`
	b, err := Parse(fmt.Appendf(nil, frame, line))
	if err != nil {
		return nil, err
	}
	b.inner.GetDsseEnvelope().GetSignatures()[0].Keyid = "" // it is not signed, and the library would compare it with a name of its own
	return b, nil
}

// Payload gives the unverified payload, for inspecting and for finding the evidence that names its key.
func (b *Bundle) Payload() []byte { return bytes.Clone(b.payload) }

// Verify checks the signature with this key, and returns the payload only after success.
func (b *Bundle) Verify(spki []byte) ([]byte, error) {
	material, err := keyMaterial(spki)
	if err != nil {
		return nil, err
	}
	v, err := verify.NewVerifier(material, verify.WithNoObserverTimestamps(), verify.WithoutStatementPredicate())
	if err != nil {
		return nil, fmt.Errorf("making verifier: %w", err)
	}
	// The artifact is compared by the caller, digest against subject; the key is the identity.
	if _, err := v.Verify(b.inner, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithKey())); err != nil {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Signature, Want: "a signature by the key that the quote names, " + hint(spki),
			Got:   "a signature that this key did not make",
			Next:  "the statement was altered, or its evidence belongs to another statement",
			Cause: err,
		}
	}
	return bytes.Clone(b.payload), nil
}

// keyMaterial makes the one trusted key of a verification. The hint in the bundle chooses nothing.
func keyMaterial(spki []byte) (root.TrustedMaterial, error) {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, malformed("a DER SubjectPublicKeyInfo", "bytes that do not decode", err)
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, malformed("an ECDSA P-256 key", fmt.Sprintf("%T", pub), nil)
	}
	canonical, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(canonical, spki) {
		return nil, malformed("the canonical encoding of the key", "another encoding", err)
	}
	v, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		return nil, fmt.Errorf("loading key: %w", err)
	}
	trusted := root.NewExpiringKey(v, time.Time{}, time.Time{}) // the quote bounds its life, not a clock
	return root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return trusted, nil }), nil
}

func malformed(want, got string, cause error) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: want, Got: got, Cause: cause,
		Next: "take the bundle file again from where the runner stored it",
	}
}
