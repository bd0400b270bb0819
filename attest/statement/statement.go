// SPDX-License-Identifier: Apache-2.0

// Package statement holds the in-toto statements that Kettle makes and reads: SLSA provenance v1 with Kettle's own
// build type, and SCAI v0.3 for the BOOT, DISPATCH, RESPONSE and FINAL statements of one build environment.
//
// It reads a strict subset. A statement of another type, an unknown or repeated key, a missing field, or a digest of
// the wrong shape is refused, because a verifier that skips what it does not know can be told anything. Statements are
// data here: the package does no cryptography and trusts nothing. Signatures and quotes cover the exact payload bytes,
// so [Marshal] is called once, by the maker, and nobody serialises a parsed statement again.
//
// Sources: in-toto attestation framework v1 (Statement, ResourceDescriptor), https://slsa.dev/provenance/v1,
// https://in-toto.io/attestation/scai/v0.3.
package statement

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/strict"
)

// The types of statement and predicate that this package knows.
const (
	StatementType  = "https://in-toto.io/Statement/v1"
	ProvenanceType = "https://slsa.dev/provenance/v1"
	SCAIType       = "https://in-toto.io/attestation/scai/v0.3"

	// PayloadType is the DSSE payload type of every statement.
	PayloadType = "application/vnd.in-toto+json"

	// BuildType says how to read the external parameters of the provenance.
	BuildType = "https://github.com/kettle/attest/buildtypes/github-actions-job/v1"

	// builders is the prefix of every builder.id: builders/<platform>/<profile>/v1.
	builders = "https://github.com/kettle/attest/builders/"
)

// Limits on statements that are read.
const (
	MaxPayload  = 16 << 20 // bytes; GitHub's attestations API bears no more
	MaxSubjects = 1024     // as actions/attest
)

const link = "statement"

// BuilderID names the builder: the platform that quotes and the profile of the sandbox. It alone determines the level
// that provenance can claim, so each mode of different security has its own.
func BuilderID(platform, profile string) string { return builders + platform + "/" + profile + "/v1" }

// DigestSet maps an algorithm to a lower-case hexadecimal digest.
type DigestSet map[string]string

// SHA256 makes a digest set of one SHA-256 digest.
func SHA256(d binding.Digest) DigestSet { return DigestSet{"sha256": d.String()} }

// SHA256 gives the SHA-256 digest of the set, if it has a well-formed one.
func (s DigestSet) SHA256() (binding.Digest, bool) {
	d, err := binding.ParseDigest(s["sha256"])
	return d, err == nil
}

// Subject is one artifact that a statement is about.
type Subject struct {
	Name   string    `json:"name"`
	Digest DigestSet `json:"digest"`
}

// ResourceDescriptor points at something by name, place or digest.
type ResourceDescriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      DigestSet         `json:"digest,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// header is the part of a statement that every kind shares.
type header struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// marshal encodes a statement once; the bytes become the DSSE payload.
func marshal(subjects []Subject, predicateType string, predicate any) ([]byte, error) {
	if err := checkSubjects(subjects); err != nil {
		return nil, err
	}
	p, err := encode(predicate)
	if err != nil {
		return nil, err
	}
	return encode(header{Type: StatementType, Subject: subjects, PredicateType: predicateType, Predicate: p})
}

// encode is json.Marshal without HTML escapes: the statements are for programs and people, not for web pages.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding statement: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'}), nil
}

// parse reads the header of a statement of the given predicate type and decodes its predicate.
func parse(payload []byte, predicateType string, predicate any) ([]Subject, error) {
	return parseFor(payload, predicateType, predicate, checkSubjects)
}

// parseFor is parse with another check of the subjects.
func parseFor(payload []byte, predicateType string, predicate any, check func([]Subject) error) ([]Subject, error) {
	if len(payload) > MaxPayload {
		return nil, malformed(fmt.Sprintf("a statement of at most %d bytes", MaxPayload), fmt.Sprintf("%d bytes", len(payload)))
	}
	if err := strict.Unique(payload); err != nil {
		return nil, malformed("one JSON value in which every key stands once", "another: "+shape(err)).Because(err)
	}
	var h header
	if err := decode(payload, &h); err != nil {
		return nil, err
	}
	if h.Type != StatementType {
		return nil, malformed("_type "+StatementType, fmt.Sprintf("%q", h.Type))
	}
	if h.PredicateType != predicateType {
		return nil, malformed("predicateType "+predicateType, fmt.Sprintf("%q", h.PredicateType))
	}
	if err := check(h.Subject); err != nil {
		return nil, err
	}
	if err := decode(h.Predicate, predicate); err != nil {
		return nil, err
	}
	return h.Subject, nil
}

// Kind tells the kind of a statement without judging it: its predicate type, and for SCAI the first attribute.
func Kind(payload []byte) (predicateType, attribute string) {
	var h struct {
		PredicateType string `json:"predicateType"`
		Predicate     struct {
			Attributes []struct {
				Attribute string `json:"attribute"`
			} `json:"attributes"`
		} `json:"predicate"`
	}
	if json.Unmarshal(payload, &h) != nil {
		return "", ""
	}
	if len(h.Predicate.Attributes) > 0 {
		attribute = h.Predicate.Attributes[0].Attribute
	}
	return h.PredicateType, attribute
}

func checkSubjects(subjects []Subject) error {
	if len(subjects) == 0 {
		return malformed("at least one subject", "none")
	}
	if len(subjects) > MaxSubjects {
		return malformed(fmt.Sprintf("at most %d subjects", MaxSubjects), fmt.Sprint(len(subjects)))
	}
	seen := make(map[string]bool, len(subjects))
	for _, s := range subjects {
		if s.Name == "" || seen[s.Name] {
			return malformed("subjects with a name of their own", fmt.Sprintf("%q", s.Name))
		}
		seen[s.Name] = true
		if _, ok := s.Digest.SHA256(); !ok {
			return malformed(fmt.Sprintf("a sha256 digest of subject %q", s.Name), fmt.Sprintf("%q", s.Digest["sha256"]))
		}
	}
	return nil
}

// decode reads exactly one JSON value and refuses unknown keys.
func decode(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return malformed("a statement of the documented shape", "another shape: "+shape(err)).Because(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return malformed("one JSON object", "trailing data")
	}
	return nil
}

// shape keeps the part of a decoding error that helps, which never quotes more than a key.
func shape(err error) string {
	s := strings.TrimPrefix(err.Error(), "json: ")
	if len(s) > 120 {
		s = s[:120] + "…"
	}
	return s
}

// seconds cuts a time to whole seconds in UTC, the form of every time in a statement.
func seconds(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	u := t.UTC().Truncate(time.Second)
	return &u
}

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: want, Got: got,
		Next: "the statement was not written by Kettle version 1, or was altered",
	}
}
