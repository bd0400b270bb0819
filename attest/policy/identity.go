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
	"github.com/kettle/attest/attest/statement"
)

// forkSuffix is written after an event's name to accept jobs whose code may come from another repository.
const forkSuffix = ":fork"

// identity says which jobs are meant: the section jobs, and the same fields in the section artifacts.
type identity struct {
	Repositories   repositories `yaml:"repositories"`
	Workflows      list         `yaml:"workflows"`
	Refs           list         `yaml:"refs"`
	Events         list         `yaml:"events"`
	IdentitySource string       `yaml:"identitySource"`
}

// repositories is a list of repositories. There is no "any": an owner's id has to be known.
type repositories []repository

// repository is one repository, or several of one owner. Names are given to others when they become free, so the
// numeric ids have to be written as well.
type repository struct {
	URL     string `yaml:"url"`     // https://github.com/acme/widget, or a glob
	ID      string `yaml:"id"`      // numeric, or any
	OwnerID string `yaml:"ownerId"` // numeric, or any
}

// UnmarshalYAML reads a list of repositories and refuses unknown keys in each.
func (r *repositories) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.SequenceNode {
		return fmt.Errorf("line %d: repositories: want a list of {url, id, ownerId}", n.Line)
	}
	*r = repositories{}
	for _, c := range n.Content {
		if c.Kind != yaml.MappingNode {
			return fmt.Errorf("line %d: repositories: want {url, id, ownerId}", c.Line)
		}
		var one repository
		fields := map[string]*string{"url": &one.URL, "id": &one.ID, "ownerId": &one.OwnerID}
		for i := 0; i+1 < len(c.Content); i += 2 {
			key, value := c.Content[i], c.Content[i+1]
			dst, ok := fields[key.Value]
			if !ok {
				return fmt.Errorf("line %d: repositories: unknown or repeated key %q", key.Line, key.Value)
			}
			if value.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d: repositories.%s: want text", value.Line, key.Value)
			}
			*dst = value.Value
			delete(fields, key.Value)
		}
		*r = append(*r, one)
	}
	return nil
}

func (r repository) matches(f statement.Facts) bool {
	return match(r.URL, f.Server+"/"+f.Repository) &&
		(r.ID == wordAny || r.ID == f.RepositoryID) && (r.OwnerID == wordAny || r.OwnerID == f.RepositoryOwnerID)
}

func (r repository) String() string {
	return fmt.Sprintf("%s (id %s, owner %s)", r.URL, r.ID, r.OwnerID)
}

// Jobs is the section that says which jobs an environment runs.
type Jobs struct{ policy *Policy }

// Jobs gives the section jobs, which refuses everything when the file has none.
func (p *Policy) Jobs() Jobs { return Jobs{p} }

// Allow returns nil when the section accepts a job with these facts at this time. Otherwise it joins one
// [refusal.Refusal] for each field that does not, with code identity or policy.
func (j Jobs) Allow(f statement.Facts, now time.Time) error {
	if err := j.policy.inForce(now); err != nil {
		return err
	}
	if j.policy.jobs == nil {
		return noSection("jobs")
	}
	return j.policy.jobs.allow("jobs", f)
}

// allow checks each field and joins what does not fit.
func (i *identity) allow(section string, f statement.Facts) error {
	var errs []error
	add := func(code refusal.Code, field, want, got string) {
		errs = append(errs, refuse(code, section+"."+field+" to accept the job: "+want, got,
			"build it as the policy says, or review the policy"))
	}
	if !slices.ContainsFunc(i.Repositories, func(r repository) bool { return r.matches(f) }) {
		add(refusal.Identity, "repositories", i.Repositories.String(),
			repository{f.Server + "/" + f.Repository, f.RepositoryID, f.RepositoryOwnerID}.String())
	}
	for _, c := range []struct {
		field, got string
		want       *list
	}{{"workflows", f.WorkflowPath, &i.Workflows}, {"refs", f.Ref, &i.Refs}} {
		if c.got == "" || !c.want.matches(c.got) {
			add(refusal.Identity, c.field, c.want.String(), fmt.Sprintf("%q", c.got))
		}
	}
	if event := eventOf(f); f.Event == "" || !i.Events.has(event) {
		add(refusal.Policy, "events", i.Events.String(), fmt.Sprintf("%q", event))
	}
	if f.IdentitySource == "" || i.IdentitySource != wordAny && i.IdentitySource != f.IdentitySource {
		add(refusal.Identity, "identitySource", fmt.Sprintf("%q", i.IdentitySource), fmt.Sprintf("%q", f.IdentitySource))
	}
	return errors.Join(errs...)
}

// eventOf names the event as a policy has to write it. Pull requests, and what runs after another workflow, count as
// coming from a fork unless the facts say that the proposed code is in the same repository; every other event does when
// they say that it is in another one. Code of strangers runs only where the policy says so in words.
func eventOf(f statement.Facts) string {
	own := f.HeadRepositoryID == f.RepositoryID
	if !own && (f.HeadRepositoryID != "" || strings.HasPrefix(f.Event, "pull_request") || f.Event == "workflow_run") {
		return f.Event + forkSuffix
	}
	return f.Event
}

func (r repositories) String() string {
	names := make([]string, len(r))
	for i, one := range r {
		names[i] = one.String()
	}
	return strings.Join(names, " or ")
}
