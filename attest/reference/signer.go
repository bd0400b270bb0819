// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// agrees demands that both statements say of their making what the signer's certificate says. The certificate is GitHub's
// word; the statements are the workflow's, which might have been made to say something else.
func (i *Image) agrees() error {
	s, p := i.signer, i.provenance
	w, g := p.External.Workflow, p.Internal.GitHub
	source, commit := p.Source()
	var errs []error
	for _, c := range []struct{ link, name, want, got string }{
		{LinkProvenance, "builder.id", s.SAN, p.BuilderID},
		{LinkValues, "producer", s.SAN, i.values.Producer},
		{LinkProvenance, "workflow.repository", s.SourceRepository, w.Repository},
		{LinkProvenance, "workflow.ref", s.SourceRef, w.Ref},
		{LinkProvenance, "the workflow that the run began with", s.BuildConfigURI, w.Repository + "/" + w.Path + "@" + w.Ref},
		{LinkProvenance, "the source", "git+" + s.SourceRepository + "@" + s.SourceRef, source},
		{LinkProvenance, "the source commit", s.SourceDigest, commit},
		{LinkProvenance, "github.repository_id", s.SourceRepositoryID, g.RepositoryID},
		{LinkProvenance, "github.repository_owner_id", s.SourceOwnerID, g.RepositoryOwnerID},
		{LinkProvenance, "github.runner_environment", s.RunnerEnvironment, g.RunnerEnvironment},
		{LinkProvenance, "github.event_name", s.Trigger, g.EventName},
		{LinkProvenance, "github.job_workflow_sha", s.BuildSignerDigest, g.JobWorkflowSHA},
		{LinkProvenance, "invocationId", s.RunInvocation, p.InvocationID},
	} {
		if c.want == "" || c.got != c.want {
			errs = append(errs, refuse(c.link, refusal.Identity, fmt.Sprintf("%s %.300q, as the signer's certificate says", c.name, c.want),
				fmt.Sprintf("%.300q", c.got), nextRelease))
		}
	}
	return errors.Join(errs...)
}
