// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"path"
	"strings"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

// shortScript is the longest script that stands in provenance itself; a longer one is named by its digest.
const shortScript = 256

// put builds the job out of sources that agree.
func (s *sources) put(server string) (*runner.Job, error) {
	workspace := s.question.Claims.Values["GITHUB_WORKSPACE"]
	if !path.IsAbs(workspace) || path.Clean(workspace) != workspace {
		return nil, refuse(refusal.Malformed, "GITHUB_WORKSPACE as an absolute path", fmt.Sprintf("%.128q", workspace))
	}
	facts := s.facts(server)
	return &runner.Job{
		Facts: facts, Token: s.jwt, External: s.external(facts), GitHub: s.github(facts), Dependencies: s.dependencies(facts),
		Steps: s.steps(), Origins: s.origins(facts), Workspace: workspace,
	}, nil
}

// facts are what policy decides on and DISPATCH records.
func (s *sources) facts(server string) statement.Facts {
	r := s.run.Repository
	f := statement.Facts{
		Server: server, Repository: r.FullName, RepositoryID: decimal(r.ID), RepositoryOwnerID: decimal(r.OwnerID),
		RunID: decimal(s.runID), RunAttempt: decimal(s.attempt), JobID: decimal(s.job.ID), Job: s.message.Job,
		WorkflowPath: s.workflowPath(), Ref: s.context("ref"), SHA: s.context("sha"), Event: s.run.Event,
		RunnerID: decimal(s.job.RunnerID), RunnerName: s.job.RunnerName, ActorID: decimal(s.run.ActorID),
		IdentitySource: statement.IdentityJobsAPI, JobMessage: s.message.Digest,
	}
	f.Origins = s.factOrigins()
	if head := s.run.HeadRepository; head != nil && s.proposed() {
		f.HeadRepositoryID, f.Origins["headRepositoryId"] = decimal(head.ID), statement.FromGitHub
	}
	if s.signed != nil {
		f.IdentitySource = statement.IdentityToken
		f.JobWorkflowRef, f.JobWorkflowSHA = s.signed.JobWorkflowRef, s.signed.JobWorkflowSHA
	}
	return f
}

// proposed reports whether the code of the job may come from another repository, so that policy must see which. A head
// repository that GitHub does not name stays empty, and is no one's.
func (s *sources) proposed() bool {
	return s.pullRequest() || s.run.Event == "workflow_run"
}

// factOrigins says who vouches for each fact. Ref and commit have GitHub's signature when there is a token. Without one
// they were compared with GitHub's run, but for a pull request, where that can only tell the commit, and rarely does.
func (s *sources) factOrigins() map[string]statement.Origin {
	o := map[string]statement.Origin{"server": statement.FromMeasured, "job": statement.FromMeasured, "jobMessage": statement.FromMeasured}
	for _, name := range []string{
		"repository", "repositoryId", "repositoryOwnerId", "runId", "runAttempt", "jobId", "workflowPath", "event",
		"runnerId", "runnerName", "actorId",
	} {
		o[name] = statement.FromGitHub
	}
	o["ref"], o["sha"] = statement.FromMeasured, statement.FromMeasured
	if !s.pullRequest() {
		o["sha"] = statement.FromGitHub // of the ref, GitHub's run does not tell whether it is a branch or a tag
	} else if s.context("sha") == s.run.HeadSHA {
		o["sha"] = statement.FromGitHub
	}
	if s.signed != nil {
		for _, name := range []string{"ref", "sha", "jobWorkflowRef", "jobWorkflowSha"} {
			o[name] = statement.FromGitHub
		}
	}
	return o
}

// external is everything that a tenant set.
func (s *sources) external(f statement.Facts) statement.ExternalParameters {
	p := statement.ExternalParameters{
		Workflow: statement.Workflow{Ref: f.Ref, Repository: f.Server + "/" + f.Repository, Path: f.WorkflowPath},
		Job:      f.Job, Event: f.Event, Inputs: s.message.Inputs, Vars: s.message.Vars, Matrix: s.message.Matrix,
		RunsOn: s.job.Labels, SecretsOf: s.message.Secrets,
	}
	if s.message.Event != nil {
		p.Payload = &statement.EventPayload{Digest: statement.SHA256(binding.Sum(s.message.Event))}
	}
	return p
}

func (s *sources) github(f statement.Facts) statement.GitHubParameters {
	return statement.GitHubParameters{
		EventName: f.Event, RepositoryID: f.RepositoryID, RepositoryOwnerID: f.RepositoryOwnerID, RunnerEnvironment: "self-hosted",
		ActorID: f.ActorID, RunID: f.RunID, RunAttempt: f.RunAttempt, JobID: f.JobID, JobWorkflowRef: f.JobWorkflowRef,
		JobWorkflowSHA: f.JobWorkflowSHA, RunnerName: f.RunnerName,
	}
}

// dependencies lists what went into the job as far as it is known at dispatch, the source first.
func (s *sources) dependencies(f statement.Facts) []statement.ResourceDescriptor {
	deps := []statement.ResourceDescriptor{{
		URI: "git+" + f.Server + "/" + f.Repository + "@" + f.Ref, Digest: statement.DigestSet{"gitCommit": f.SHA},
		Annotations: annotations("source", f.Origins["sha"]),
	}}
	for _, w := range s.run.Referenced {
		name, _, _ := strings.Cut(w.Path, "/.github/")
		if !isCommit(w.SHA) || !ValidRepository(name) {
			continue
		}
		deps = append(deps, statement.ResourceDescriptor{
			Name: w.Path, URI: "git+" + f.Server + "/" + name + "@" + w.Ref, Digest: statement.DigestSet{"gitCommit": w.SHA},
			Annotations: annotations("reusable-workflow", statement.FromGitHub),
		})
	}
	for _, a := range s.actions {
		uri, what := "git+"+f.Server+"/"+a.repository+"@"+a.ref, "action"
		if a.image != "" {
			uri, what = "docker://"+a.image, "image"
		}
		deps = append(deps, statement.ResourceDescriptor{URI: uri, Digest: a.digest, Annotations: annotations(what, a.origin)})
	}
	deps = append(deps, statement.ResourceDescriptor{
		Name: "job-message", Digest: statement.SHA256(f.JobMessage), MediaType: "application/json",
		Annotations: annotations("job-message", statement.FromMeasured),
	})
	if s.message.Needs != nil {
		deps = append(deps, statement.ResourceDescriptor{
			Name: "needs", Digest: statement.SHA256(binding.Sum(s.message.Needs)), MediaType: "application/json",
			Annotations: annotations("needs", statement.FromMeasured),
		})
	}
	return deps
}

func annotations(what string, origin statement.Origin) map[string]string {
	return map[string]string{"kettle_kind": what, "kettle_origin": string(origin)}
}

// steps are the steps as the workflow says them. What they ran, the job decided.
func (s *sources) steps() []statement.Step {
	steps := make([]statement.Step, 0, len(s.message.Steps))
	for _, m := range s.message.Steps {
		step := statement.Step{Name: m.Name}
		switch {
		case m.Action != nil:
			step.Uses = m.Action.Uses()
		case m.Image != "":
			step.Uses = "docker://" + m.Image
		case m.Script != "":
			if step.Run = m.Script; len(m.Script) > shortScript {
				step.Run, step.Script = "", statement.SHA256(binding.Sum([]byte(m.Script)))
			}
		}
		steps = append(steps, step)
	}
	return steps
}

// origins says who vouches for the parameters of the provenance.
func (s *sources) origins(f statement.Facts) map[string]statement.Origin {
	return map[string]statement.Origin{
		"externalParameters.workflow.ref":        f.Origins["ref"],
		"externalParameters.workflow.repository": statement.FromGitHub,
		"externalParameters.workflow.path":       statement.FromGitHub,
		"externalParameters.job":                 statement.FromMeasured,
		"externalParameters.event":               statement.FromGitHub,
		"externalParameters.eventPayload":        statement.FromMeasured,
		"externalParameters.inputs":              statement.FromMeasured,
		"externalParameters.vars":                statement.FromMeasured,
		"externalParameters.matrix":              statement.FromMeasured,
		"externalParameters.runsOn":              statement.FromGitHub,
		"externalParameters.secretNames":         statement.FromMeasured,
		"internalParameters.github":              statement.FromGitHub,
		"internalParameters.kettle":              statement.FromMeasured,
		"internalParameters.kettle.steps":        statement.FromJob,
		"subject.name":                           statement.FromJob,
		"subject.digest":                         statement.FromMeasured,
	}
}
