// SPDX-License-Identifier: Apache-2.0

package job

import (
	"fmt"
	"path"

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

// external is everything that a tenant set.
func (s *sources) external(f statement.Facts) statement.ExternalParameters {
	p := statement.ExternalParameters{
		Workflow: statement.Workflow{Ref: f.Ref, Repository: f.Server + "/" + f.Repository, Path: f.WorkflowPath},
		Job:      f.Job, Event: f.Event, Inputs: s.message.Inputs, Vars: s.message.Vars, Matrix: s.message.Matrix,
		RunsOn: s.job.Labels, SecretsOf: s.message.Secrets, Debug: s.message.Debug,
		Container: s.message.Container, Services: s.message.Services,
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

// origins says who vouches for the parameters of the provenance. Those that few jobs have are named when a job has them.
func (s *sources) origins(f statement.Facts) map[string]statement.Origin {
	o := map[string]statement.Origin{
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
	for name, has := range map[string]bool{
		"debug": s.message.Debug, "container": s.message.Container != nil, "services": len(s.message.Services) > 0,
	} {
		if has {
			o["externalParameters."+name] = statement.FromMeasured
		}
	}
	return o
}
