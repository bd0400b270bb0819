// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"fmt"
	"regexp"
	"time"

	"github.com/kettle/attest/attest/binding"
)

// The SCAI attributes of what an environment and its dispatcher say to one another before anything is released.
const (
	AttributeChallenge = "ADMISSION_CHALLENGE" // the dispatcher: quote this nonce
	AttributeRequest   = "ADMISSION_REQUEST"   // the environment: seal what you release to this key
	AttributeRelease   = "ADMISSION_RELEASE"   // the dispatcher: this is what I sealed, and for whom
)

// maxSealed bounds what one release carries, in bytes.
const maxSealed = 128 << 10

// runnerPrefix is the form of what every name of an environment's runners begins with.
var runnerPrefix = regexp.MustCompile(`^kettle-[0-9a-f]{16}$`)

// Challenge is the dispatcher's first word to the environment that has this key, signed by an operator's key.
type Challenge struct {
	EnvironmentKey binding.Digest
	Conditions     ChallengeConditions
}

// ChallengeConditions is what is demanded, and when.
type ChallengeConditions struct {
	Nonce   binding.Digest `json:"nonce"`   // to be quoted
	Fresh   binding.Digest `json:"fresh"`   // as the environment drew it: this challenge answers its question and no other
	Time    time.Time      `json:"time"`    // the dispatcher's clock, whole seconds
	Expires time.Time      `json:"expires"` // the nonce is no good from here on, whole seconds
	Image   bool           `json:"image"`   // the image's bundle has to come with the request
}

// Marshal encodes the statement once.
func (s *Challenge) Marshal() ([]byte, error) {
	c := s.Conditions
	c.Time, c.Expires = c.Time.UTC().Truncate(time.Second), c.Expires.UTC().Truncate(time.Second)
	return environment(s.EnvironmentKey, AttributeChallenge, &ResourceDescriptor{Name: "nonce", Digest: SHA256(c.Nonce)}, c, nil)
}

// ParseChallenge reads an ADMISSION_CHALLENGE payload.
func ParseChallenge(payload []byte) (*Challenge, error) {
	s := new(Challenge)
	a, key, err := parseEnvironment(payload, AttributeChallenge, &s.Conditions)
	if err != nil {
		return nil, err
	}
	s.EnvironmentKey = key
	c := s.Conditions
	if d, ok := target(a); !ok || d != c.Nonce || d.IsZero() || c.Fresh.IsZero() || a.Evidence != nil {
		return nil, malformed("a nonce as target and the environment's own", "other values")
	}
	if c.Time.IsZero() || !c.Expires.After(c.Time) {
		return nil, malformed("a time, and a later one until which the nonce is good", "other times")
	}
	return s, nil
}

// AdmissionRequest is what an environment has quoted to be admitted, signed by its key.
type AdmissionRequest struct {
	EnvironmentKey binding.Digest
	HPKEKey        binding.Digest // SHA-256 of Conditions.HPKEKey
	BootEvidence   binding.Digest // digest of the BOOT evidence line
	Conditions     RequestConditions
}

// RequestConditions is what the environment says of itself.
type RequestConditions struct {
	Nonce    binding.Digest `json:"nonce"`   // of the challenge
	HPKEKey  []byte         `json:"hpkeKey"` // the key itself, 32 bytes; Marshal computes the digest
	Instance Instance       `json:"instance"`
	Prefix   string         `json:"prefix"` // of its runners' names: "kettle-" and 16 hexadecimal digits
}

// sizeHPKE is the length of an X25519 public key (RFC 7748).
const sizeHPKE = 32

// Marshal encodes the statement once.
func (s *AdmissionRequest) Marshal() ([]byte, error) {
	s.HPKEKey = binding.Sum(s.Conditions.HPKEKey)
	return environment(s.EnvironmentKey, AttributeRequest,
		&ResourceDescriptor{Name: "hpke-key", Digest: SHA256(s.HPKEKey)}, s.Conditions,
		&ResourceDescriptor{Name: "boot-evidence", Digest: SHA256(s.BootEvidence), MediaType: "application/cmw+json"})
}

// ParseAdmissionRequest reads an ADMISSION_REQUEST payload.
func ParseAdmissionRequest(payload []byte) (*AdmissionRequest, error) {
	s := new(AdmissionRequest)
	a, key, err := parseEnvironment(payload, AttributeRequest, &s.Conditions)
	if err != nil {
		return nil, err
	}
	s.EnvironmentKey = key
	c, ok := s.Conditions, false
	if s.HPKEKey, ok = target(a); !ok || len(c.HPKEKey) != sizeHPKE || s.HPKEKey != binding.Sum(c.HPKEKey) {
		return nil, malformed(fmt.Sprintf("an HPKE key of %d bytes, and its digest as target", sizeHPKE), "another key or digest")
	}
	if a.Evidence == nil {
		return nil, malformed("the boot evidence", "none")
	}
	if s.BootEvidence, ok = a.Evidence.Digest.SHA256(); !ok || s.BootEvidence.IsZero() {
		return nil, malformed("the digest of the boot evidence", "none")
	}
	if c.Nonce.IsZero() || !runnerPrefix.MatchString(c.Prefix) {
		return nil, malformed("a nonce, and the prefix of its runners' names", fmt.Sprintf("%.40q", c.Prefix))
	}
	if err := c.Instance.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// Release is what the dispatcher gives an environment that it admitted, signed by an operator's key: HPKE authenticates
// no sender, so this signature does.
type Release struct {
	EnvironmentKey binding.Digest
	Summary        binding.Digest // digest of the VSA-ENV line that comes with it
	Conditions     ReleaseConditions
}

// ReleaseConditions is the sealed credential and what it was sealed for.
type ReleaseConditions struct {
	Nonce        binding.Digest `json:"nonce"`
	HPKEKey      binding.Digest `json:"hpkeKey"`      // SHA-256 of the key that it is sealed to
	Encapsulated []byte         `json:"encapsulated"` // RFC 9180, "enc": 32 bytes
	Sealed       []byte         `json:"sealed"`       // RFC 9180, "ct"
}

// Marshal encodes the statement once.
func (s *Release) Marshal() ([]byte, error) {
	return environment(s.EnvironmentKey, AttributeRelease,
		&ResourceDescriptor{Name: "vsa-env", Digest: SHA256(s.Summary), MediaType: PayloadType}, s.Conditions, nil)
}

// ParseRelease reads an ADMISSION_RELEASE payload.
func ParseRelease(payload []byte) (*Release, error) {
	s := new(Release)
	a, key, err := parseEnvironment(payload, AttributeRelease, &s.Conditions)
	if err != nil {
		return nil, err
	}
	s.EnvironmentKey = key
	c, ok := s.Conditions, false
	if s.Summary, ok = target(a); !ok || s.Summary.IsZero() || a.Evidence != nil {
		return nil, malformed("the digest of VSA-ENV as target", "none")
	}
	if c.Nonce.IsZero() || c.HPKEKey.IsZero() || len(c.Encapsulated) != sizeHPKE || len(c.Sealed) == 0 || len(c.Sealed) > maxSealed {
		return nil, malformed(fmt.Sprintf("something sealed for a nonce and a key, of at most %d bytes", maxSealed), "something else")
	}
	return s, nil
}
