// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// Limits on asking GitHub for the commits of one job's actions.
const (
	maxActions = 64 // different actions and images of one job
	maxAsking  = 8  // questions at a time
)

// resolved is a dependency of the job's steps with its commit or digest.
type resolved struct {
	repository, ref string
	digest          statement.DigestSet
	image           string // instead of repository and ref
	origin          statement.Origin
}

// resolveActions finds the commit of each action that a step names, in the order of the steps. A reference by commit
// needs no answer of GitHub: GitHub lets no branch or tag have such a name.
func (i *Identifier) resolveActions(ctx context.Context, s *sources) error {
	deps, err := stepDependencies(s.message.Steps, i.config.Containers)
	if err != nil {
		return err
	}
	group, asking := errgroup.WithContext(ctx)
	group.SetLimit(maxAsking)
	for n := range deps {
		if deps[n].digest != nil || deps[n].image != "" {
			continue
		}
		if asking.Err() != nil { // no more questions after a deadline or the first that has no answer
			break
		}
		group.Go(func() error { return i.resolve(asking, &deps[n]) })
	}
	err = group.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("resolving actions: %w", ctx.Err())
	}
	if err != nil {
		return err
	}
	s.actions = deps
	return nil
}

// resolve asks GitHub for the commit of an action.
func (i *Identifier) resolve(ctx context.Context, dep *resolved) error {
	sha, err := i.config.API.ResolveRef(ctx, dep.repository, dep.ref)
	if ctx.Err() != nil {
		return fmt.Errorf("resolving actions: %w", ctx.Err())
	}
	action := fmt.Sprintf("%s@%.128s", dep.repository, dep.ref)
	if err != nil {
		return (&refusal.Refusal{
			Link: link, Code: refusal.Missing, Want: "the commit of action " + action, Got: "no answer of GitHub's with it",
			Next: "pin the action by its commit, or let kettled's credential read its repository.",
		}).Because(err)
	}
	if !isCommit(sha) {
		return refuse(refusal.Malformed, "a commit of action "+action, fmt.Sprintf("%.64q", sha))
	}
	dep.digest, dep.origin = statement.DigestSet{"gitCommit": sha}, statement.FromGitHub
	return nil
}

// stepDependencies lists what the steps depend on, each once. Where jobs may have containers, an image may be named by a
// tag, and then stands without a digest; where they may not, only the name of an image tells what a step wants.
func stepDependencies(steps []Step, tags bool) ([]resolved, error) {
	var deps []resolved
	seen := make(map[string]bool)
	for _, step := range steps {
		dep, key, err := dependency(step, tags)
		if err != nil {
			return nil, err
		}
		if key == "" || seen[key] {
			continue
		}
		if seen[key] = true; len(seen) > maxActions {
			return nil, &refusal.Refusal{
				Link: link, Code: refusal.Policy, Want: fmt.Sprintf("at most %d different actions in a job", maxActions), Got: "more",
				Next: "split the job, or put some of its actions into a composite action.",
			}
		}
		deps = append(deps, dep)
	}
	return deps, nil
}

// dependency is what a step depends on beyond the source; key is empty when there is nothing.
func dependency(step Step, tags bool) (dep resolved, key string, err error) {
	switch {
	case step.Image != "":
		dep = image(step.Image)
		if dep.digest == nil && !tags {
			return dep, "", &refusal.Refusal{
				Link: link, Code: refusal.Policy, Want: "docker:// steps with an image by digest", Got: fmt.Sprintf("%.128q", step.Image),
				Next: "write the image as docker://NAME@sha256:DIGEST.",
			}
		}
		return dep, step.Image, nil
	case step.Action == nil || step.Action.Local:
		return dep, "", nil
	}
	dep = resolved{repository: step.Action.Repository, ref: step.Action.Ref}
	if isCommit(dep.ref) {
		dep.digest, dep.origin = statement.DigestSet{"gitCommit": dep.ref}, statement.FromMeasured
	}
	return dep, strings.ToLower(dep.repository) + "@" + dep.ref, nil
}

// image reads a reference to a container image. What a tag names can change at any time and is not asked for, so only a
// digest in the reference itself is one.
func image(reference string) resolved {
	reference = strings.TrimPrefix(reference, "docker://")
	dep := resolved{image: reference, origin: statement.FromMeasured}
	name, digest, pinned := strings.Cut(reference, "@sha256:")
	if pinned && len(digest) == 64 && strings.Trim(digest, "0123456789abcdef") == "" {
		dep.image, dep.digest = name, statement.DigestSet{"sha256": digest}
	}
	return dep
}
