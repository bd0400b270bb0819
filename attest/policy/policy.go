// SPDX-License-Identifier: Apache-2.0

// Package policy reads the one file that says what is accepted: the jobs that an environment runs, the environments
// that may have built and whose images they boot, what is revoked, and the artifacts that a consumer takes.
//
// The schema is closed and nothing in it defaults to accept. An unknown or repeated key, an anchor, a null, an empty
// list and an absent field are errors of the file; a section that is absent refuses that use. Where everything is
// meant, "any" has to be written, and [Policy.Open] lists every such place so that results can show it. Names are
// exact or anchored globs, in which `*` stays within one path segment and `**` does not; there are no regular
// expressions.
//
// The package guarantees that Allow returns nil only when every field of the section that was asked accepts the facts.
// It trusts its caller for the facts: that they are true is for the statement, its quote and GitHub's signature to
// prove. It is linked into kettled and does no input or output.
package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// APIVersion is the version of the schema that this package reads.
const APIVersion = "kettle/v1"

// MaxFile bounds a policy file in bytes.
const MaxFile = 1 << 20

// link is the name of this link of the chain in refusals.
const link = "policy"

// ErrInvalid is matched by every error of [Parse]: the file is wrong, nothing was judged with it.
var ErrInvalid = errors.New("policy is not valid")

// Policy is one policy file. It exists only when every section in it is complete. It is immutable.
type Policy struct {
	digest  binding.Digest
	expires deadline
	jobs    *identity
	envs    *environments
	revoked *revoked
	arts    *artifacts
	open    []string
}

// document is the file as written.
type document struct {
	APIVersion   string        `yaml:"apiVersion"`
	Expires      deadline      `yaml:"expires"`
	Jobs         *identity     `yaml:"jobs"`
	Environments *environments `yaml:"environments"`
	Revoked      *revoked      `yaml:"revoked"`
	Artifacts    *artifacts    `yaml:"artifacts"`
}

// Parse reads a policy file. All faults are reported together; each matches [ErrInvalid].
func Parse(b []byte) (*Policy, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrInvalid, len(b), MaxFile)
	}
	if err := plain(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	var d document
	if err := dec.Decode(&d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	c := new(checker)
	c.document(&d)
	if err := errors.Join(c.faults...); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &Policy{
		digest: binding.Sum(b), expires: d.Expires, jobs: d.Jobs, envs: d.Environments, revoked: d.Revoked, arts: d.Artifacts, open: c.open,
	}, nil
}

// Digest names the policy: SHA-256 of the file's exact bytes.
func (p *Policy) Digest() binding.Digest { return p.digest }

// Open lists the places where the policy says "any" or "none", for example "jobs.refs: any".
func (p *Policy) Open() []string { return append([]string(nil), p.open...) }

// Expires gives the time from which the policy refuses everything; false when it says "never".
func (p *Policy) Expires() (time.Time, bool) { return p.expires.at, !p.expires.never }

// inForce refuses a policy that is absent or has run out.
func (p *Policy) inForce(now time.Time) error {
	if p == nil {
		return refuse(refusal.Policy, "a policy", "none", "name a policy file")
	}
	if now.IsZero() {
		return refuse(refusal.Policy, "a time to judge the policy at", "none", "give the time of the evidence, or now")
	}
	if !p.expires.never && !now.Before(p.expires.at) {
		return refuse(refusal.Policy, "a policy that is in force at "+now.UTC().Format(time.RFC3339),
			"one that expired on "+p.expires.at.UTC().Format(time.RFC3339), "review the policy and write a new expiry date")
	}
	return nil
}

// plain refuses what makes a YAML file mean something else than it says at first sight: a second document, anchors,
// aliases, merges, tags and nulls.
func plain(b []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var n yaml.Node
	if err := dec.Decode(&n); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("the file is empty")
		}
		return fmt.Errorf("reading YAML: %w", err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("the file has more than one document")
	}
	return plainNode(&n, 0)
}

const maxDepth = 16

func plainNode(n *yaml.Node, depth int) error {
	switch {
	case depth > maxDepth:
		return fmt.Errorf("line %d: nested deeper than %d", n.Line, maxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fmt.Errorf("line %d: anchors and aliases are not allowed", n.Line)
	case n.Style&yaml.TaggedStyle != 0:
		return fmt.Errorf("line %d: tags are not allowed", n.Line)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!merge":
		return fmt.Errorf("line %d: merge keys are not allowed", n.Line)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return fmt.Errorf("line %d: a value is missing", n.Line)
	}
	var errs []error
	for _, c := range n.Content {
		errs = append(errs, plainNode(c, depth+1))
	}
	return errors.Join(errs...)
}

func refuse(code refusal.Code, want, got, next string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: code, Want: want, Got: got, Next: next}
}

// noSection refuses a use that the policy says nothing about.
func noSection(name string) error {
	return refuse(refusal.Policy, "a policy with the section "+name, "one without it",
		"write the section "+name+"; a missing section refuses that use")
}
