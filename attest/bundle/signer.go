// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/kettle/attest/attest/refusal"
)

// Signer is who signed a certificate-signed bundle, as the instance's certificate says it. It comes only out of
// [Trust.Verify] and only after every check has passed; nothing in it has been compared with what anybody wants. A
// value that the certificate lacks is empty, and an empty value never satisfies anybody: the zero Signer is nobody.
// The texts are those of Fulcio's extensions 1.3.6.1.4.1.57264.1.N for GitHub Actions; URLs are whole.
type Signer struct {
	Issuer             string // .8: the OIDC issuer, for example https://token.actions.githubusercontent.com
	SAN                string // the one URI: the signing workflow with its ref; with a reusable workflow, that one
	SourceRepository   string // .12: the repository whose run signed, https://github.com/owner/name
	SourceRepositoryID string // .15: its number, which survives renaming and is never used again
	SourceOwnerID      string // .17: the number of its owner
	SourceRef          string // .14: refs/heads/… or refs/tags/…
	SourceDigest       string // .13: the commit
	BuildSignerDigest  string // .10: the commit of the signing workflow
	BuildConfigURI     string // .18: the workflow that the run began with
	RunnerEnvironment  string // .11: github-hosted or self-hosted
	Trigger            string // .20: the event
	RunInvocation      string // .21: the run and its attempt
	Environment        string // .23: the deployment environment, empty for a job without one
	Subject            string // .24: the token's subject
	// SignedOn is an authenticated time at which the signature was there: the earliest that a timestamp authority or a
	// log of the instance vouches for. The certificate was valid then.
	SignedOn time.Time
}

// The object identifiers that are read. 1.3.6.1.4.1.57264.1 is Fulcio's arc.
const fulcioArc = "1.3.6.1.4.1.57264.1."

const (
	oidIssuerV1    = fulcioArc + "1" // raw text, before DER was used
	oidIssuer      = fulcioArc + "8"
	oidSignerURI   = fulcioArc + "9"
	oidSAN         = "2.5.29.17"
	oidSCTs        = "1.3.6.1.4.1.11129.2.4.2"
	maxIdentity    = 2048 // bytes of one value
	tagUTF8        = 12
	tagURI         = 6
	namesWant      = "exactly one subject alternative name, a URI"
	firstDERString = 8 // the extensions from here on hold a DER UTF8String
)

var errText = errors.New("want a DER UTF8String of printable text, at most 2048 bytes")

// readSigner reads the identity out of a certificate, strictly: a reader that takes the first of two names, or takes a
// user's name for a URI, is told a different identity than Fulcio certified. It checks nothing but form.
func readSigner(leaf *x509.Certificate) (Signer, error) {
	var s Signer
	san, err := readSAN(leaf)
	if err != nil {
		return Signer{}, identity(namesWant, "another set of names", err)
	}
	s.SAN = san
	values, err := readExtensions(leaf)
	if err != nil {
		return Signer{}, malformed("identity extensions as Fulcio writes them", "others", err)
	}
	for n, field := range s.fields() {
		*field = values[n]
	}
	switch old, signer := values[oidIssuerV1], values[oidSignerURI]; {
	case s.Issuer == "":
		return Signer{}, identity("a certificate that names its OIDC issuer", "one that does not", nil)
	case old != "" && old != s.Issuer:
		return Signer{}, identity("one OIDC issuer", fmt.Sprintf("%.200q and %.200q", s.Issuer, old), nil)
	case signer != "" && signer != s.SAN:
		return Signer{}, identity("the same signing workflow in both places", fmt.Sprintf("%.200q and %.200q", s.SAN, signer), nil)
	}
	return s, nil
}

// fields gives the place of each extension's text.
func (s *Signer) fields() map[string]*string {
	return map[string]*string{
		oidIssuer:        &s.Issuer,
		fulcioArc + "10": &s.BuildSignerDigest,
		fulcioArc + "11": &s.RunnerEnvironment,
		fulcioArc + "12": &s.SourceRepository,
		fulcioArc + "13": &s.SourceDigest,
		fulcioArc + "14": &s.SourceRef,
		fulcioArc + "15": &s.SourceRepositoryID,
		fulcioArc + "17": &s.SourceOwnerID,
		fulcioArc + "18": &s.BuildConfigURI,
		fulcioArc + "20": &s.Trigger,
		fulcioArc + "21": &s.RunInvocation,
		fulcioArc + "23": &s.Environment,
		fulcioArc + "24": &s.Subject,
	}
}

// readSAN gives the one name, byte for byte: parsing it as a URL and writing it again could change it.
func readSAN(leaf *x509.Certificate) (string, error) {
	for _, e := range leaf.Extensions {
		if e.Id.String() != oidSAN {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 || len(names) != 1 {
			return "", fmt.Errorf("%d names: %w", len(names), err)
		}
		name := names[0]
		if name.Class != asn1.ClassContextSpecific || name.Tag != tagURI || name.IsCompound {
			return "", fmt.Errorf("a name of kind %d", name.Tag)
		}
		notURI := func(r rune) bool { return r <= ' ' || r > '~' }
		if len(name.Bytes) == 0 || len(name.Bytes) > maxIdentity || strings.ContainsFunc(string(name.Bytes), notURI) {
			return "", errors.New("a URI that is not printable ASCII")
		}
		return string(name.Bytes), nil
	}
	return "", errors.New("no name")
}

// readExtensions gives the text of each of Fulcio's extensions. That none comes twice is crypto/x509's to refuse.
func readExtensions(leaf *x509.Certificate) (map[string]string, error) {
	values := map[string]string{}
	for _, e := range leaf.Extensions {
		id := e.Id.String()
		if !strings.HasPrefix(id, fulcioArc) {
			continue
		}
		if id == oidIssuerV1 {
			values[id] = string(e.Value)
			continue
		}
		if last := e.Id[len(e.Id)-1]; last < firstDERString {
			continue // GitHub's first five, superseded by those below
		}
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(e.Value, &raw)
		if err != nil || len(rest) > 0 || raw.Class != asn1.ClassUniversal || raw.Tag != tagUTF8 || !printable(raw.Bytes) {
			return nil, fmt.Errorf("extension %s: %w", id, errText)
		}
		values[id] = string(raw.Bytes)
	}
	return values, nil
}

func printable(text []byte) bool {
	return len(text) <= maxIdentity && !strings.ContainsFunc(string(text), func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar })
}

// checkLeaf demands a certificate made for signing code with the one kind of key that is used here. Path validation
// alone would take a certificate without any stated purpose.
func checkLeaf(leaf *x509.Certificate) error {
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok || key.Curve != elliptic.P256():
		return malformed("a certificate for an ECDSA P-256 key", fmt.Sprintf("one for %T", leaf.PublicKey), errForeign)
	case leaf.IsCA, leaf.KeyUsage != x509.KeyUsageDigitalSignature, !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}),
		len(leaf.UnknownExtKeyUsage) > 0:
		return &refusal.Refusal{
			Link: link, Code: refusal.Chain, Want: "a certificate for signing code and nothing else", Got: "one for another purpose",
			Next: nextForeign, Cause: errForeign,
		}
	}
	return nil
}

func identity(want, got string, cause error) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Identity, Want: want, Got: got, Cause: cause, Next: nextForeign}
}

const nextForeign = "take the bundle that the release's own workflow made"
