// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"fmt"
	"strings"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// maxActions bounds how many different actions are resolved for one job.
const maxActions = 200

// resolved is a dependency of the job's steps with its commit or digest.
type resolved struct {
	repository, ref string
	digest          statement.DigestSet
	image           string // instead of repository and ref
	origin          statement.Origin
}

// resolveActions finds the commit of each action that a step names. A reference by commit needs no answer of GitHub:
// GitHub lets no branch or tag have such a name.
func (i *Identifier) resolveActions(ctx context.Context, s *sources) error {
	seen := make(map[string]bool)
	for _, step := range s.message.Steps {
		dep, key, err := dependency(step)
		if err != nil {
			return err
		}
		if key == "" || seen[key] {
			continue
		}
		if seen[key] = true; len(seen) > maxActions {
			return refuse(refusal.Policy, fmt.Sprintf("at most %d different actions", maxActions), "more")
		}
		if dep.digest == nil {
			sha, err := i.config.API.ResolveRef(ctx, dep.repository, dep.ref)
			if err != nil {
				return (&refusal.Refusal{
					Link: link, Code: refusal.Missing, Want: "the commit of action " + key, Got: "no answer of GitHub's with it",
					Next: "pin the action by its commit, or let kettled's credential read its repository.",
				}).Because(err)
			}
			if !isCommit(sha) {
				return refuse(refusal.Malformed, "a commit of action "+key, fmt.Sprintf("%.64q", sha))
			}
			dep.digest, dep.origin = statement.DigestSet{"gitCommit": sha}, statement.FromGitHub
		}
		s.actions = append(s.actions, dep)
	}
	return nil
}

// dependency is what a step depends on beyond the source; key is empty when there is nothing.
func dependency(step Step) (dep resolved, key string, err error) {
	switch {
	case step.Image != "":
		name, digest, pinned := strings.Cut(step.Image, "@sha256:")
		if !pinned || len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
			return dep, "", &refusal.Refusal{
				Link: link, Code: refusal.Policy, Want: "docker:// steps with an image by digest", Got: fmt.Sprintf("%.128q", step.Image),
				Next: "write the image as docker://NAME@sha256:DIGEST.",
			}
		}
		dep = resolved{image: name, digest: statement.DigestSet{"sha256": digest}, origin: statement.FromMeasured}
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
