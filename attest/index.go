// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// maxTries bounds the lines that are tried where several could be meant.
const maxTries = 16

// maxAtOnce bounds the quotes that are verified before anything asks for them.
const maxAtOnce = 8

// index finds statements and evidence by digest. Nothing in it is verified.
type index struct {
	bundles      map[binding.Digest][]*bundle.Bundle // by payload
	provenances  []binding.Digest
	responses    []response
	dispatches   []binding.Digest
	summaries    []binding.Digest                          // VSAs, by payload
	evidence     map[binding.Digest]*evidence.Collection   // by line
	quotes       map[binding.Digest][]*evidence.Collection // by the payload that they say they quote
	quoted       map[*evidence.Collection]binding.Digest   // the same the other way round
	inOrder      []*evidence.Collection                    // as the files have them
	endorsements []evidence.Endorsements                   // of all files
	certified    [][]byte                                  // what workflows signed
	verified     map[*evidence.Collection]func() (*appraise.Quote, error)
}

// response is a RESPONSE statement and its place.
type response struct {
	payload   binding.Digest
	statement *statement.Response
}

// candidate is provenance that names the artifact, with one RESPONSE statement that names the provenance.
type candidate struct {
	provenance binding.Digest
	subject    string
	response   *response // nil when there is none
}

func newIndex(files []*bundle.File) *index {
	idx := &index{
		bundles: map[binding.Digest][]*bundle.Bundle{}, evidence: map[binding.Digest]*evidence.Collection{},
		quotes: map[binding.Digest][]*evidence.Collection{}, quoted: map[*evidence.Collection]binding.Digest{},
	}
	for _, f := range files {
		for _, b := range f.Bundles {
			idx.addBundle(b)
		}
		for _, e := range f.Evidence {
			idx.addEvidence(e)
		}
		idx.endorsements = append(idx.endorsements, f.Endorsements()...)
		idx.certified = append(idx.certified, f.Certified...)
	}
	for _, e := range idx.inOrder {
		idx.findPayload(e)
	}
	return idx
}

func (idx *index) addBundle(b *bundle.Bundle) {
	payload := b.Payload()
	d := binding.Sum(payload)
	idx.bundles[d] = append(idx.bundles[d], b)
	if len(idx.bundles[d]) > 1 {
		return // the same statement again, for example where two files were merged
	}
	switch kind, attribute := statement.Kind(payload); {
	case kind == statement.ProvenanceType:
		idx.provenances = append(idx.provenances, d)
	case kind == statement.SCAIType && attribute == statement.AttributeTEEBound:
		if s, err := statement.ParseResponse(payload); err == nil {
			idx.responses = append(idx.responses, response{d, s})
		}
	case kind == statement.VSAType:
		idx.summaries = append(idx.summaries, d)
	case kind == statement.SCAIType && attribute == statement.AttributeBuildIDBound:
		idx.dispatches = append(idx.dispatches, d)
	}
}

func (idx *index) addEvidence(e bundle.Evidence) {
	d := evidence.Digest(e.Line)
	if idx.evidence[d] != nil {
		return
	}
	idx.evidence[d] = e.Collection
	idx.inOrder = append(idx.inOrder, e.Collection)
}

// findPayload finds the statement that evidence says it quotes. A TPM's quote names it by a digest of a digest.
func (idx *index) findPayload(e *evidence.Collection) {
	payload, ok := appraise.UnverifiedPayloadDigest(&e.Evidence)
	if !ok {
		for d := range idx.bundles {
			if appraise.UnverifiedQuotes(e, d) {
				payload, ok = d, true
				break
			}
		}
	}
	if ok {
		idx.quotes[payload] = append(idx.quotes[payload], e)
		idx.quoted[e] = payload
	}
}

// prepare makes each quote's verification something that happens once, when it is asked for. A bundle has three quotes,
// each of which costs milliseconds: where there are few, all begin at once. wait returns when none runs any more.
func (idx *index) prepare(roots appraise.Roots, at time.Time) (wait func()) {
	idx.verified = make(map[*evidence.Collection]func() (*appraise.Quote, error), len(idx.evidence))
	for _, e := range idx.evidence {
		idx.verified[e] = sync.OnceValues(func() (*appraise.Quote, error) { return appraise.Verify(&e.Evidence, idx.endorsements, roots, at) })
	}
	var running sync.WaitGroup
	if len(idx.verified) <= maxAtOnce {
		for _, verify := range idx.verified {
			running.Go(func() { _, _ = verify() }) // whoever asks for the quote gets the error
		}
	}
	return running.Wait
}

// signed gives the payload with this digest after checking that the key signed it.
func (idx *index) signed(payload binding.Digest, spki []byte) ([]byte, error) {
	var first error
	for n, b := range idx.bundles[payload] {
		if n == maxTries {
			break
		}
		got, err := b.Verify(spki)
		if err == nil {
			return got, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// candidates finds the provenance that names the artifact by digest.
func (idx *index) candidates(a Artifact) ([]candidate, error) {
	var out []candidate
	var named []string
	for _, d := range idx.provenances {
		subject, others := idx.subject(d, a)
		if named = append(named, others...); subject == "" {
			continue
		}
		found := false
		for i := range idx.responses {
			if r := &idx.responses[i]; r.statement.Provenance == d {
				out, found = append(out, candidate{d, subject, r}), true
			}
		}
		if !found {
			out = append(out, candidate{d, subject, nil})
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	if len(idx.provenances) == 0 {
		return nil, relink(linkArtifact, "", refuse(refusal.Missing, "provenance in the bundle file", "none", nextWhole))
	}
	got := "no subject with it"
	if len(named) > 0 {
		got += ", but " + strings.Join(named, " and ")
	}
	return nil, relink(linkArtifact, "", refuse(refusal.Binding, fmt.Sprintf("provenance of %s with sha256:%s", a.Name, a.Digest), got,
		"the artifact is not the one that was built, or the bundle belongs to another; take both again"))
}

// subject gives the name under which provenance names the artifact's digest, and what it says of its name otherwise.
func (idx *index) subject(provenance binding.Digest, a Artifact) (string, []string) {
	var h struct {
		Subject []statement.Subject `json:"subject"`
	}
	if json.Unmarshal(idx.bundles[provenance][0].Payload(), &h) != nil {
		return "", nil
	}
	var others []string
	base := a.Name[strings.LastIndexByte(a.Name, '/')+1:]
	for _, s := range h.Subject {
		d, ok := s.Digest.SHA256()
		if ok && d == a.Digest && s.Name != "" {
			return s.Name, nil
		}
		if ok && s.Name[strings.LastIndexByte(s.Name, '/')+1:] == base {
			others = append(others, fmt.Sprintf("%q with sha256:%s", clip(s.Name), d))
		}
	}
	return "", others
}

// single refuses a second DISPATCH statement that the same environment signed: it takes one job, ever.
func (idx *index) single(dispatch binding.Digest, spki []byte) error {
	others := slices.DeleteFunc(slices.Clone(idx.dispatches), func(d binding.Digest) bool { return d == dispatch })
	for _, d := range others {
		if _, err := idx.signed(d, spki); err == nil {
			return refuse(refusal.Binding, "one DISPATCH statement of the environment", "a second one, sha256:"+d.String(),
				"the environment signed two jobs, which an honest one never does; do not trust it")
		} else if !errors.Is(err, refusal.ErrNotVerified) {
			return err
		}
	}
	return nil
}
