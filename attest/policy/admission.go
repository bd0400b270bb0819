// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/binding"
)

// admission says whose word about an environment counts: the operators that sign VSA-ENV.
type admission struct {
	Keys list // PEM blocks PUBLIC KEY: a signed line carries no key, so a digest would verify nothing

	parsed []AdmissionKey
}

// AdmissionKey is a key that signs VSA-ENV.
type AdmissionKey struct {
	Digest binding.Digest // SHA-256 of the SubjectPublicKeyInfo
	SPKI   []byte         // DER
}

// UnmarshalYAML reads {keys: […]}.
func (a *admission) UnmarshalYAML(n *yaml.Node) error {
	return mapping(n, "admission", map[string]func(*yaml.Node) error{"keys": a.Keys.UnmarshalYAML})
}

// admission checks environments.admission, which stands there exactly when lateCompromise asks for it.
func (c *checker) admission(e *environments) {
	const field = "environments.admission"
	required := slices.Contains(e.LateCompromise.values, string(Admission))
	switch {
	case e.Admission == nil && required:
		c.fault("%s is missing: lateCompromise asks for admission, so write the keys of those who admit", field)
	case e.Admission == nil:
	case !required:
		c.fault("%s: nothing looks at it; write admission into lateCompromise", field)
	default:
		c.list(field+".keys", &e.Admission.Keys, "", func(v string) error {
			k, err := parseAdmissionKey(v)
			for _, other := range e.Admission.parsed {
				if err == nil && other.Digest == k.Digest {
					err = errors.New("one key stands there twice")
				}
			}
			e.Admission.parsed = append(e.Admission.parsed, k)
			return err
		})
	}
}

func parseAdmissionKey(v string) (AdmissionKey, error) {
	block, rest := pem.Decode([]byte(v))
	if block == nil || block.Type != "PUBLIC KEY" || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return AdmissionKey{}, errors.New("want one PEM block PUBLIC KEY, the whole key of who admits: a digest verifies no signature")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return AdmissionKey{}, errors.New("the PEM block holds no public key")
	}
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return AdmissionKey{}, errors.New("want an ECDSA P-256 key")
	}
	if canonical, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(canonical, block.Bytes) {
		return AdmissionKey{}, errors.New("want the canonical encoding of the key")
	}
	return AdmissionKey{Digest: binding.Sum(block.Bytes), SPKI: block.Bytes}, nil
}

// AdmissionKeys gives the keys whose VSA-ENV counts. It is empty exactly where the policy does not require admission.
func (e Environments) AdmissionKeys(now time.Time) ([]AdmissionKey, error) {
	s, err := e.section(now)
	if err != nil || s.Admission == nil {
		return nil, err
	}
	out := make([]AdmissionKey, len(s.Admission.parsed))
	for i, k := range s.Admission.parsed {
		out[i] = AdmissionKey{Digest: k.Digest, SPKI: bytes.Clone(k.SPKI)}
	}
	return out, nil
}
