// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// Attestation is one stored bundle.
type Attestation struct {
	ID            int64
	Owner         string
	Repo          string
	PredicateType string
	Digests       []string // of the subjects, each "sha256:…"
	Bundle        json.RawMessage
}

func (s *Server) routeAttestations(mux *http.ServeMux) {
	mux.Handle("POST /repos/{owner}/{repo}/attestations", s.rest((*call).createAttestation))
	mux.Handle("GET /repos/{owner}/{repo}/attestations/{digest}", s.rest((*call).listAttestations))
}

// Attestations returns what is stored for a repository, oldest first.
func (s *Server) Attestations(owner, name string) []Attestation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if repo := s.repository(owner, name); repo != nil {
		return slices.Clone(repo.attestations)
	}
	return nil
}

// bundle is the shape of a Sigstore bundle with a DSSE envelope. Signatures are not verified: GitHub's answer to a bundle of a
// foreign signer is not documented.
type bundle struct {
	MediaType string `json:"mediaType"`
	Material  map[string]json.RawMessage
	Envelope  struct {
		Payload    []byte `json:"payload"`
		Type       string `json:"payloadType"`
		Signatures []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// UnmarshalJSON reads the shape; verificationMaterial keeps its parts as they are.
func (b *bundle) UnmarshalJSON(raw []byte) error {
	type plain bundle
	var parts struct {
		*plain
		Material map[string]json.RawMessage `json:"verificationMaterial"`
	}
	parts.plain = (*plain)(b)
	if err := json.Unmarshal(raw, &parts); err != nil {
		return err
	}
	b.Material = parts.Material
	return nil
}

// statement is the shape of an in-toto statement.
type statement struct {
	Type          string `json:"_type"`
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

func (b *bundle) check() (*statement, string) {
	_, key := b.Material["publicKey"]
	_, leaf := b.Material["certificate"]
	_, chain := b.Material["x509CertificateChain"]
	switch {
	case !strings.HasPrefix(b.MediaType, "application/vnd.dev.sigstore.bundle"):
		return nil, "mediaType is not a Sigstore bundle's"
	case !key && !leaf && !chain:
		return nil, "verificationMaterial holds neither a certificate nor a public key"
	case b.Envelope.Type != "application/vnd.in-toto+json":
		return nil, "payloadType is not in-toto's"
	case len(b.Envelope.Signatures) == 0 || len(b.Envelope.Signatures[0].Sig) == 0:
		return nil, "the envelope is not signed"
	}
	var st statement
	if err := json.Unmarshal(b.Envelope.Payload, &st); err != nil {
		return nil, "the payload is not JSON"
	}
	switch {
	case !strings.HasPrefix(st.Type, "https://in-toto.io/Statement/"):
		return nil, "the payload is not an in-toto statement"
	case st.PredicateType == "" || len(st.Subject) == 0 || len(st.Subject) > 1024:
		return nil, "the statement needs a predicate type and between 1 and 1024 subjects"
	}
	for _, sub := range st.Subject {
		if len(sub.Digest) == 0 {
			return nil, "a subject has no digest"
		}
	}
	return &st, ""
}

func (c *call) createAttestation() error {
	repo, err := c.target("attestations", "write")
	if err != nil {
		return err
	}
	var ask struct {
		Bundle json.RawMessage `json:"bundle"`
	}
	if err := c.decode(&ask); err != nil {
		return err
	}
	if len(ask.Bundle) == 0 {
		return unprocessable("Invalid request.\n\n\"bundle\" wasn't supplied.")
	}
	var b bundle
	if err := json.Unmarshal(ask.Bundle, &b); err != nil {
		return unprocessable("Invalid Argument - bundle: %s", err)
	}
	st, why := b.check()
	if why != "" {
		return unprocessable("Invalid Argument - bundle: %s", why)
	}
	a := Attestation{ID: c.s.next("attestation"), Owner: repo.Owner, Repo: repo.Name, PredicateType: st.PredicateType, Bundle: ask.Bundle}
	for _, sub := range st.Subject {
		for algorithm, digest := range sub.Digest {
			a.Digests = append(a.Digests, algorithm+":"+digest)
		}
	}
	slices.Sort(a.Digests)
	repo.attestations = append(repo.attestations, a)
	c.s.touch()
	return c.reply(http.StatusCreated, map[string]int64{"id": a.ID})
}

func (c *call) listAttestations() error {
	repo, err := c.target("attestations", "read")
	if err != nil {
		return err
	}
	type item struct {
		Bundle     json.RawMessage `json:"bundle"`
		Repository int64           `json:"repository_id"`
		URL        string          `json:"bundle_url"`
		Initiator  string          `json:"initiator"`
	}
	list := []item{}
	kind := c.r.URL.Query().Get("predicate_type")
	for _, a := range slices.Backward(repo.attestations) {
		if slices.Contains(a.Digests, c.r.PathValue("digest")) && (kind == "" || kind == a.PredicateType) {
			list = append(list, item{a.Bundle, repo.ID, "", "user"})
		}
	}
	if len(list) == 0 {
		return notFound()
	}
	return c.reply(http.StatusOK, map[string]any{"attestations": list})
}
