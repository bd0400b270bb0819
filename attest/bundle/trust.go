// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/kettle/attest/internal/strict"
)

// Limits of a trusted root.
const (
	MaxTrust     = 1 << 20 // bytes
	MaxInstances = 16
)

// ErrTrust is matched by every error of [ParseTrust]: the trusted root is a file that the reader was told to trust, and a
// fault in it is one of configuration.
var ErrTrust = errors.New("trusted root")

// Trust is a set of Sigstore instances whose certificates are believed. It is immutable and safe for concurrent use.
type Trust struct {
	instances []*instance
}

// instance is one deployment of Sigstore: the authorities, logs and timestamp authorities that belong together.
type instance struct {
	root     *root.TrustedRoot
	issuers  []*x509.Certificate // every certificate that may issue leaves
	demands  demands
	verifier *verify.Verifier
}

// demands is what a bundle of an instance must carry. It follows from what the trusted root says the instance has, never
// from the bundle: whoever can leave a log entry out could otherwise sign without being seen.
type demands struct {
	sct bool // the certificate was logged before it was issued
	log bool // the signature was logged
	tsa bool // the time comes from a timestamp authority; without it a log's own time serves too
}

// ParseTrust reads trusted roots, media type application/vnd.dev.sigstore.trustedroot+json;version=0.1. Each JSON document
// is one instance; several may follow one another, one a line, as `gh attestation trusted-root` prints them. An instance
// with transparency logs demands an entry of every bundle, one with certificate transparency logs demands the certificate's
// proof, and one without a log demands a signed timestamp. Refused are an instance without authorities, one that has no
// source of time, and two documents that name the same authority: which demands hold would not be clear.
func ParseTrust(text []byte) (*Trust, error) {
	if len(text) > MaxTrust {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTrust, MaxTrust)
	}
	t, seen := new(Trust), map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(text))
	for {
		var document json.RawMessage
		if err := dec.Decode(&document); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%w: reading JSON: %w", ErrTrust, err)
		}
		if len(t.instances) == MaxInstances {
			return nil, fmt.Errorf("%w: more than %d instances", ErrTrust, MaxInstances)
		}
		i, err := parseInstance(document)
		if err != nil {
			return nil, fmt.Errorf("%w: instance %d: %w", ErrTrust, len(t.instances)+1, err)
		}
		own := map[string]bool{} // generations of one instance share certificates
		for _, c := range i.issuers {
			if seen[string(c.RawSubjectPublicKeyInfo)] {
				return nil, fmt.Errorf("%w: two instances have the authority %.200q", ErrTrust, c.Subject)
			}
			own[string(c.RawSubjectPublicKeyInfo)] = true
		}
		for key := range own {
			seen[key] = true
		}
		t.instances = append(t.instances, i)
	}
	if len(t.instances) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrTrust)
	}
	return t, nil
}

func parseInstance(document []byte) (*instance, error) {
	r, issuers, err := parseRoot(document)
	if err != nil {
		return nil, err
	}
	return newInstance(r, issuers, demands{sct: len(r.CTLogs()) > 0, log: len(r.RekorLogs()) > 0, tsa: len(r.RekorLogs()) == 0})
}

// parseRoot reads one trusted root and every certificate of its certificate authorities.
func parseRoot(document []byte) (*root.TrustedRoot, []*x509.Certificate, error) {
	if err := strict.Unique(document); err != nil {
		return nil, nil, fmt.Errorf("reading JSON: %w", err)
	}
	pb, err := root.NewTrustedRootProtobuf(document)
	if err != nil {
		return nil, nil, fmt.Errorf("decoding: %w", err)
	}
	r, err := root.NewTrustedRootFromProtobuf(pb)
	if err != nil {
		return nil, nil, fmt.Errorf("reading: %w", err)
	}
	issuers, err := issuersOf(pb)
	return r, issuers, err
}

func issuersOf(pb *prototrustroot.TrustedRoot) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, ca := range pb.GetCertificateAuthorities() {
		for _, c := range ca.GetCertChain().GetCertificates() {
			parsed, err := x509.ParseCertificate(c.GetRawBytes())
			if err != nil {
				return nil, fmt.Errorf("reading certificate: %w", err)
			}
			out = append(out, parsed)
		}
	}
	return out, nil
}

// newInstance makes the verifier that demands all of d.
func newInstance(r *root.TrustedRoot, issuers []*x509.Certificate, d demands) (*instance, error) {
	switch {
	case len(issuers) == 0:
		return nil, errors.New("it has no certificate authority")
	case d.tsa && len(r.TimestampingAuthorities()) == 0:
		return nil, errors.New("it has neither a transparency log nor a timestamp authority: nothing says when a signature was made")
	}
	v, err := verify.NewVerifier(r, d.options()...)
	if err != nil {
		return nil, fmt.Errorf("making verifier: %w", err)
	}
	return &instance{root: r, issuers: issuers, demands: d, verifier: v}, nil
}

func (d demands) options() []verify.VerifierOption {
	out := []verify.VerifierOption{verify.WithoutStatementPredicate()}
	if d.sct {
		out = append(out, verify.WithSignedCertificateTimestamps(1))
	}
	if d.log {
		out = append(out, verify.WithTransparencyLog(1))
	}
	if d.tsa {
		return append(out, verify.WithSignedTimestamps(1))
	}
	return append(out, verify.WithObserverTimestamps(1))
}

// instanceOf finds the instance that issued a certificate, by its signature alone. At most one can have.
func (t *Trust) instanceOf(leaf *x509.Certificate) *instance {
	if t == nil {
		return nil
	}
	for _, i := range t.instances {
		for _, issuer := range i.issuers {
			if leaf.CheckSignatureFrom(issuer) == nil {
				return i
			}
		}
	}
	return nil
}
