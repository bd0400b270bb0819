// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// Limits of what is looked at and of what is tried.
const (
	maxStatements = 256 // of each kind in one bundle
	maxPairs      = 16  // about the caller's image
)

// candidate is a line that says it is one of the two statements. Nothing in it is believed before its signature is.
type candidate struct {
	line, payload []byte
	subjects      []statement.Subject
	provenance    *statement.ImageProvenance // one of the two
	values        *statement.ReferenceValues
}

type pair struct{ provenance, values candidate }

// find gives the pairs of statements that say that they are about the caller's image.
func find(r Request) ([]pair, error) {
	provenances, values, err := sort(r.Lines)
	if err != nil {
		return nil, err
	}
	mine := func(c candidate) bool {
		return !slices.ContainsFunc(r.Files, func(d binding.Digest) bool { return !names(c.subjects, d) })
	}
	ours, err := some(LinkProvenance, provenances, mine)
	if err != nil {
		return nil, err
	}
	theirs, err := some(LinkValues, values, mine)
	if err != nil {
		return nil, err
	}
	if r.Booted != nil {
		if theirs, err = booted(theirs, *r.Booted); err != nil {
			return nil, err
		}
	}
	var pairs []pair
	for _, v := range theirs {
		for _, p := range ours {
			if sameSubjects(p.subjects, v.subjects) && len(pairs) < maxPairs {
				pairs = append(pairs, pair{p, v})
			}
		}
	}
	if len(pairs) == 0 {
		return nil, refuse(LinkValues, refusal.Binding, "reference values and provenance with the same subjects", "ones of different images", nextRelease)
	}
	return pairs, nil
}

// sort reads the lines of both kinds. Lines of other kinds are skipped; one that claims to be of a kind and does not decode
// is refused, so that a damaged bundle is called damaged.
func sort(lines [][]byte) (provenances, values []candidate, err error) {
	for _, line := range lines {
		payload := unverified(line)
		kind, attribute := statement.Kind(payload)
		switch {
		case kind == statement.ProvenanceType && statement.ProvenanceBuildType(payload) == statement.ImageBuildType:
			p, err := statement.ParseImageProvenance(payload)
			if err != nil {
				return nil, nil, relink(LinkProvenance, err)
			}
			provenances = append(provenances, candidate{line: line, payload: payload, subjects: p.Subjects, provenance: p})
		case kind == statement.SCAIType && attribute == statement.AttributeReferenceValue:
			v, err := statement.ParseReferenceValues(payload)
			if err != nil {
				return nil, nil, relink(LinkValues, err)
			}
			values = append(values, candidate{line: line, payload: payload, subjects: v.Subjects, values: v})
		}
		if len(provenances) > maxStatements || len(values) > maxStatements {
			return nil, nil, refuse(LinkProvenance, refusal.Malformed, fmt.Sprintf("at most %d images in one bundle", maxStatements), "more", nextRelease)
		}
	}
	return provenances, values, nil
}

// unverified gives the payload of a bundle's envelope for finding, or nothing.
func unverified(line []byte) []byte {
	if len(line) > bundle.MaxLine || !bundle.Is(line) {
		return nil
	}
	var b struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	if json.Unmarshal(line, &b) != nil {
		return nil
	}
	return b.Envelope.Payload
}

// some demands that there is a statement of the kind, and one about the caller's image.
func some(link string, all []candidate, mine func(candidate) bool) ([]candidate, error) {
	if len(all) == 0 {
		return nil, refuse(link, refusal.Missing, "a signed statement of "+link, "none", nextRelease)
	}
	var out []candidate
	for _, c := range all {
		if mine(c) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, refuse(link, refusal.Binding, "a signed statement about these files", fmt.Sprintf("%d about other images", len(all)), nextRelease)
	}
	return out, nil
}

// booted keeps the statements whose values the machine shows. If none does, the refusals of the nearest are returned.
func booted(all []candidate, b Booted) ([]candidate, error) {
	var out []candidate
	var nearest error
	least := 0
	for _, c := range all {
		_, err := covers(c.values, b)
		if err == nil {
			out = append(out, c)
			continue
		}
		if n := len(refusal.All(err)); nearest == nil || n < least {
			nearest, least = err, n
		}
	}
	if len(out) == 0 {
		return nil, nearest
	}
	return out, nil
}

func names(subjects []statement.Subject, d binding.Digest) bool {
	return slices.ContainsFunc(subjects, func(s statement.Subject) bool {
		have, ok := s.Digest.SHA256()
		return ok && have == d
	})
}

// sameSubjects demands the same names with the same digests, in any order.
func sameSubjects(a, b []statement.Subject) bool {
	if len(a) != len(b) {
		return false
	}
	for _, s := range a { // names are unique in each
		have, ok := s.Digest.SHA256()
		other, found := statement.DigestOf(b, s.Name)
		if !ok || !found || have != other {
			return false
		}
	}
	return true
}
