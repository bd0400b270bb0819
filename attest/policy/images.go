// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/refusal"
)

// HostedRunner is the runner environment that an image's workflow has to run in where the policy does not write another:
// machines of GitHub, in GitHub's own words.
const HostedRunner = "github-hosted"

// ImageSigner is who signed the provenance of an image, as a verified certificate says it. An empty field satisfies nobody.
type ImageSigner struct {
	Issuer            string // of the identity token
	Workflow          string // URL of the signing workflow and its ref: the certificate's one name
	Repository        string // URL of the repository whose run signed
	RepositoryID      string
	OwnerID           string
	SourceRef         string // what was built
	RunnerEnvironment string // github-hosted or self-hosted
}

// images says whose images are accepted: a list of signers, or the word any, which looks at no image.
type images struct {
	word    string
	signers []signer
}

// signer is one workflow whose images are accepted.
type signer struct {
	line       int
	issuer     string     // exact
	workflow   string     // URL without its ref, or a glob
	refs       list       // of the workflow
	sourceRefs list       // of what is built; as refs where it is absent
	repository repository // whose run signs
	runner     string     // github-hosted where it is absent
}

// UnmarshalYAML reads the word or the list, and refuses unknown keys in each entry.
func (i *images) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		return n.Decode(&i.word)
	}
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: images: want a list of {issuer, workflow, refs, repository}, or any", n.Line)
	}
	i.signers = []signer{}
	for _, c := range n.Content {
		s := signer{line: c.Line}
		err := mapping(c, "images", map[string]func(*yaml.Node) error{
			"issuer": text(&s.issuer), "workflow": text(&s.workflow), "refs": s.refs.UnmarshalYAML, "sourceRefs": s.sourceRefs.UnmarshalYAML,
			"repository": s.repository.read, "runner": text(&s.runner),
		})
		if err != nil {
			return err
		}
		i.signers = append(i.signers, s)
	}
	return nil
}

// read reads {url, id, ownerId}.
func (r *repository) read(n *yaml.Node) error {
	return mapping(n, "repository", map[string]func(*yaml.Node) error{"url": text(&r.URL), "id": text(&r.ID), "ownerId": text(&r.OwnerID)})
}

// mapping reads an object with these keys and no others, each at most once.
func mapping(n *yaml.Node, field string, keys map[string]func(*yaml.Node) error) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s: want keys and values", n.Line, field)
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := keys[key.Value]
		if !ok {
			return fmt.Errorf("line %d: %s: unknown or repeated key %.40q", key.Line, field, key.Value)
		}
		if err := read(value); err != nil {
			return err
		}
		delete(keys, key.Value)
	}
	return nil
}

// text reads one scalar as it is written.
func text(into *string) func(*yaml.Node) error {
	return func(n *yaml.Node) error {
		if n.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: want text", n.Line)
		}
		*into = n.Value
		return nil
	}
}

func (i *images) absent() bool { return i.word == "" && i.signers == nil }

// images checks environments.images.
func (c *checker) images(i *images) {
	const field = "environments.images"
	switch {
	case i.absent():
		c.fault("%s is missing: write whose images are accepted, or any", field)
	case i.word == wordAny:
		c.opened(field, wordAny)
	case i.word != "":
		c.fault("%s: want a list of {issuer, workflow, refs, repository}, or any, got %.40q", field, i.word)
	case len(i.signers) == 0:
		c.fault("%s is empty: it would refuse everything", field)
	case len(i.signers) > maxList:
		c.fault("%s has more than %d entries", field, maxList)
		return
	}
	for n := range i.signers {
		c.signer(fmt.Sprintf("%s[%d]", field, n), &i.signers[n])
	}
}

func (c *checker) signer(at string, s *signer) {
	if host, ok := strings.CutPrefix(s.issuer, "https://"); !ok || host == "" || strings.ContainsAny(s.issuer, "* \t\r\n") {
		c.fault("%s.issuer: want the exact issuer of the identity, https://…, got %.80q", at, s.issuer)
	}
	c.url(at+".workflow", s.workflow)
	if strings.Contains(s.workflow, "@") {
		c.fault("%s.workflow: its ref belongs into refs, got %.200q", at, s.workflow)
	}
	c.list(at+".refs", &s.refs, wordAny, checkGlob)
	if !s.sourceRefs.absent() {
		c.list(at+".sourceRefs", &s.sourceRefs, wordAny, checkGlob)
	}
	c.repository(at+".repository", s.repository)
	switch s.runner {
	case "", HostedRunner:
	case "self-hosted", wordAny:
		c.opened(at+".runner", s.runner)
	default:
		c.fault("%s.runner: want %s, self-hosted or any, got %.40q", at, HostedRunner, s.runner)
	}
}

// AllowImage returns nil when the section accepts images that this workflow signed. Otherwise it joins one
// [refusal.Refusal] with code identity for each thing that does not fit the entry which fits best. A policy that says any
// accepts machines without looking at their images, so accepts no signer.
func (e Environments) AllowImage(who ImageSigner, now time.Time) error {
	s, err := e.section(now)
	if err != nil {
		return err
	}
	if len(s.Images.signers) == 0 {
		return refuse(refusal.Policy, "a policy that says in environments.images whose images are accepted", s.Images.word,
			"write down the workflow that signs the image")
	}
	var nearest []error
	for n := range s.Images.signers {
		faults := s.Images.signers[n].judge(who, fmt.Sprintf("environments.images[%d].", n))
		if len(faults) == 0 {
			return nil
		}
		if n == 0 || len(faults) < len(nearest) {
			nearest = faults
		}
	}
	return errors.Join(nearest...)
}

// VerifiesImages reports whether the section demands an image of known provenance. It is false only where the policy says
// "any".
func (e Environments) VerifiesImages(now time.Time) (bool, error) {
	s, err := e.section(now)
	if err != nil {
		return false, err
	}
	return s.Images.word != wordAny, nil
}

// judge lists what of the signer the entry does not accept.
func (s *signer) judge(who ImageSigner, at string) []error {
	var faults []error
	demand := func(ok bool, field, want, got string) {
		if !ok {
			faults = append(faults, refuse(refusal.Identity, at+field+" to accept the image: "+want, got,
				"launch an image that the workflow of the policy signed, or review the policy"))
		}
	}
	// A ref can hold an at sign and so can a file's name, but no slash stands in the latter: what stands behind the first one
	// has to be a whole ref, so that no file name can pass for one.
	workflow, ref, _ := strings.Cut(who.Workflow, "@")
	isRef := strings.HasPrefix(ref, "refs/")
	source := s.sourceRefs
	if source.absent() {
		source = s.refs
	}
	runner := s.runner
	if runner == "" {
		runner = HostedRunner
	}
	demand(who.Issuer != "" && who.Issuer == s.issuer, "issuer", fmt.Sprintf("%q", s.issuer), fmt.Sprintf("%.200q", who.Issuer))
	demand(workflow != "" && match(s.workflow, workflow), "workflow", fmt.Sprintf("%q", s.workflow), fmt.Sprintf("%.300q", workflow))
	demand(isRef && s.refs.matches(ref), "refs", s.refs.String(), fmt.Sprintf("%.300q", ref))
	demand(who.SourceRef != "" && source.matches(who.SourceRef), "sourceRefs", source.String(), fmt.Sprintf("%.300q", who.SourceRef))
	demand(who.Repository != "" && match(s.repository.URL, who.Repository), "repository.url", fmt.Sprintf("%q", s.repository.URL), fmt.Sprintf("%.300q", who.Repository))
	demand(numeric(who.RepositoryID) && oneOf(who.RepositoryID, s.repository.ID), "repository.id", s.repository.ID, fmt.Sprintf("%.40q", who.RepositoryID))
	demand(numeric(who.OwnerID) && oneOf(who.OwnerID, s.repository.OwnerID), "repository.ownerId", s.repository.OwnerID, fmt.Sprintf("%.40q", who.OwnerID))
	demand(who.RunnerEnvironment != "" && oneOf(who.RunnerEnvironment, runner), "runner", runner, fmt.Sprintf("%.40q", who.RunnerEnvironment))
	return faults
}

func oneOf(got, want string) bool { return want == wordAny || got == want }

// needsImage refuses a machine whose image nobody verified where the policy demands one.
func (s *environments) needsImage(env Environment) error {
	if s.Images.word == wordAny || len(env.Signed) > 0 {
		return nil
	}
	return refuse(refusal.Measurement, "a machine that booted an image which environments.images accepts, by its signed reference values",
		"no image that was verified", "give the bundle of the image, image.intoto.jsonl")
}

// signed reports whether a quoted value is among the signed reference values of a verified image.
func (e Environment) signed(name string) bool { return slices.Contains(e.Signed, name) }
