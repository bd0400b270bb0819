// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
	"github.com/kettle/attest/internal/fakegithub/workflow"
)

// message builds what acquirejob answers with. The caller holds mu.
func (s *Server) message(j *job) *jobmessage.Message {
	r := j.run
	m := &jobmessage.Message{
		MessageType:          jobmessage.TypeJobRequest,
		Plan:                 jobmessage.Plan{PlanID: r.plan, PlanType: "actions"},
		Timeline:             jobmessage.Timeline{ID: r.plan},
		JobID:                j.guid,
		JobDisplayName:       j.def.Name,
		JobName:              "__default",
		LockedUntil:          "0001-01-01T00:00:00",
		BillingOwnerID:       billing(r.repo),
		FileTable:            []string{r.def.Path},
		Dependencies:         []string{},
		JobContainer:         j.def.Container,
		JobServiceContainers: j.def.Services,
		JobOutputs:           j.def.Outputs,
		EnvironmentVariables: slices.Concat([]*jobmessage.Token{}, j.def.Env),
		Defaults:             slices.Concat([]*jobmessage.Token{}, j.def.Defaults),
		Steps:                slices.Clone(j.def.Steps),
		Variables:            s.variables(j),
		ContextData:          s.contexts(j),
	}
	for i := range m.Steps {
		m.Steps[i].ID = newID()
	}
	m.Resources.Endpoints = []jobmessage.Endpoint{s.connection(j)}
	secrets := []string{j.token, j.system}
	for _, v := range r.repo.Secrets {
		secrets = append(secrets, v.Reveal())
	}
	for _, v := range secrets {
		m.Mask = append(m.Mask, jobmessage.Mask{Type: "regex", Value: regexp.QuoteMeta(v)})
	}
	slices.SortFunc(m.Mask[2:], func(a, b jobmessage.Mask) int { return strings.Compare(a.Value, b.Value) })
	return m
}

// connection is SystemVssConnection; the id token endpoint is in it only when the job may have one.
func (s *Server) connection(j *job) jobmessage.Endpoint {
	e := jobmessage.Endpoint{
		Name:          jobmessage.EndpointName,
		URL:           s.urls[serviceRun] + runTenant,
		Authorization: jobmessage.Authorization{Scheme: "OAuth", Parameters: map[string]string{"AccessToken": j.system}},
		IsReady:       true,
		Data: map[string]string{
			"CacheServerUrl": "", "PipelinesServiceUrl": s.urls[servicePipelines] + "/", "ResultsServiceUrl": s.urls[serviceResults] + "/",
			"ServerId": "", "ServerName": "",
		},
	}
	if j.permissions.Allows("id-token", "write") {
		e.Data["GenerateIdTokenUrl"] = s.urls[serviceRun] + runTenant + "/idtoken/" + j.run.plan + "/" + j.guid + "?api-version=2.0"
	}
	return e
}

func (s *Server) variables(j *job) map[string]jobmessage.Variable {
	plain := map[string]string{
		"system.from_run_service":             "true",
		"system.github.job":                   j.def.Key,
		"system.github.launch_endpoint":       s.urls[serviceLaunch],
		"system.github.results_endpoint":      s.urls[serviceResults] + "/",
		"system.github.token.permissions":     tokenPermissions(j.permissions),
		"system.orchestrationId":              j.run.plan + "." + j.def.Key + ".__default",
		"system.phaseDisplayName":             j.def.Name,
		"system.runner.lowdiskspacethreshold": "100",
		"system.runnerEnvironment":            "self-hosted",
		"system.runnerGroupName":              "Default",
		"system.workflowFilePath":             j.run.def.Path,
	}
	out := map[string]jobmessage.Variable{}
	for k, v := range plain {
		out[k] = jobmessage.Variable{Value: v}
	}
	for _, name := range []string{"github_token", "system.github.token"} {
		out[name] = jobmessage.Variable{Value: j.token, IsSecret: true}
	}
	for k, v := range j.run.repo.Secrets {
		out[k] = jobmessage.Variable{Value: v.Reveal(), IsSecret: true}
	}
	return out
}

// tokenPermissions writes permissions as the service does: {"Contents":"read","PullRequests":"write"}.
func tokenPermissions(p workflow.Permissions) string {
	out := map[string]string{}
	for scope, access := range p {
		if scope == "id-token" {
			continue
		}
		name := ""
		for _, word := range strings.Split(scope, "-") {
			name += strings.ToUpper(word[:1]) + word[1:]
		}
		out[name] = access
	}
	raw, err := json.Marshal(out)
	if err != nil { // strings only: cannot happen
		return "{}"
	}
	return string(raw)
}

func (s *Server) contexts(j *job) map[string]jobmessage.Data {
	r := j.run
	var inputs jobmessage.Data
	if r.event == "workflow_dispatch" {
		d := jobmessage.Dictionary{}
		for _, v := range r.inputs {
			d = d.Set(v.Name, v.Typed)
		}
		inputs = d
	}
	vars := jobmessage.Dictionary{}
	for _, k := range sorted(r.repo.Vars) {
		vars = vars.Set(k, r.repo.Vars[k])
	}
	return map[string]jobmessage.Data{
		"github": s.githubContext(r), "inputs": inputs, "vars": vars, "needs": needsContext(j), "matrix": nil,
		"strategy": jobmessage.Dictionary{
			{Key: "fail-fast", Value: true}, {Key: "job-index", Value: 0}, {Key: "job-total", Value: 1}, {Key: "max-parallel", Value: 1},
		},
		"job": jobmessage.Dictionary{
			{Key: "check_run_id", Value: j.id}, {Key: "workflow_ref", Value: r.workflowRef()}, {Key: "workflow_sha", Value: r.sha},
			{Key: "workflow_repository", Value: r.repo.full()}, {Key: "workflow_file_path", Value: r.def.Path},
		},
	}
}

func needsContext(j *job) jobmessage.Dictionary {
	out := jobmessage.Dictionary{}
	for _, key := range j.def.Needs {
		for _, other := range j.run.jobs {
			if !strings.EqualFold(other.def.Key, key) {
				continue
			}
			outputs := jobmessage.Dictionary{}
			for _, k := range sorted(other.outputs) {
				outputs = outputs.Set(k, other.outputs[k])
			}
			out = out.Set(other.def.Key, jobmessage.Dictionary{{Key: "result", Value: other.conclusion}, {Key: "outputs", Value: outputs}})
		}
	}
	return out
}

func (s *Server) githubContext(r *run) jobmessage.Dictionary {
	kind, short := "branch", strings.TrimPrefix(r.ref, "refs/heads/")
	if tag, ok := strings.CutPrefix(r.ref, "refs/tags/"); ok {
		kind, short = "tag", tag
	}
	server, api := s.urls[serviceServer], s.urls[serviceAPI]
	_, host, _ := strings.Cut(server, "://")
	return jobmessage.Dictionary{
		{Key: "ref", Value: r.ref}, {Key: "sha", Value: r.sha}, {Key: "repository", Value: r.repo.full()},
		{Key: "repository_owner", Value: r.repo.Owner}, {Key: "repository_owner_id", Value: decimal(r.repo.OwnerID)},
		{Key: "repositoryUrl", Value: "git://" + host + "/" + r.repo.full() + ".git"},
		{Key: "run_id", Value: decimal(r.id)}, {Key: "run_number", Value: decimal(r.number)}, {Key: "retention_days", Value: "90"},
		{Key: "run_attempt", Value: decimal(int64(r.attempt))}, {Key: "repository_visibility", Value: r.repo.visibility()},
		{Key: "actor_id", Value: decimal(r.actor.ID)}, {Key: "actor", Value: r.actor.Login}, {Key: "triggering_actor", Value: r.actor.Login},
		{Key: "workflow", Value: r.def.Name}, {Key: "head_ref", Value: ""}, {Key: "base_ref", Value: ""},
		{Key: "event_name", Value: r.event}, {Key: "event", Value: r.payload},
		{Key: "server_url", Value: server}, {Key: "api_url", Value: api}, {Key: "graphql_url", Value: api + "/graphql"},
		{Key: "ref_name", Value: short}, {Key: "ref_protected", Value: false}, {Key: "ref_type", Value: kind},
		{Key: "secret_source", Value: "Actions"}, {Key: "workflow_ref", Value: r.workflowRef()}, {Key: "workflow_sha", Value: r.sha},
		{Key: "repository_id", Value: decimal(r.repo.ID)},
	}
}

// workflowRef is owner/repo/path@ref.
func (r *run) workflowRef() string { return r.repo.full() + "/" + r.def.Path + "@" + r.ref }

func billing(r *repository) string { return node("O", r.OwnerID) }

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
