// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"maps"
	"slices"
	"strings"

	"github.com/kettle/attest/internal/stubrunner/expr"
)

// githubNames are the properties of the github context that become GITHUB_… variables.
func githubNames() []string {
	return []string{
		"action", "action_path", "action_ref", "action_repository", "actor", "actor_id", "api_url", "artifacts",
		"artifacts_list", "base_ref", "env", "event_name", "event_path", "graphql_url", "head_ref", "job", "output", "path",
		"ref", "ref_name", "ref_protected", "ref_type", "repository", "repository_id", "repository_owner",
		"repository_owner_id", "retention_days", "run_attempt", "run_id", "run_number", "server_url", "sha", "state",
		"step_summary", "triggering_actor", "workflow", "workflow_ref", "workflow_sha", "workspace",
	}
}

// environment is the whole environment of a step's process: the Worker's, the step's env, the contexts, the token
// request, in this order of weight.
func (f *frame) environment() []string {
	env := maps.Clone(f.job.environ)
	for _, k := range f.env.Keys() {
		env[k] = f.env.Text(k)
	}
	return f.finishEnvironment(env)
}

// hookEnvironment is the environment of a hook: as a step's, without env.
func (f *frame) hookEnvironment() []string { return f.finishEnvironment(maps.Clone(f.job.environ)) }

func (f *frame) finishEnvironment(env map[string]string) []string {
	for k, v := range f.state {
		env["STATE_"+k] = v
	}
	if len(f.job.paths) > 0 {
		dirs := slices.Clone(f.job.paths)
		slices.Reverse(dirs)
		if env["PATH"] != "" {
			dirs = append(dirs, env["PATH"])
		}
		env["PATH"] = strings.Join(dirs, ":")
	}
	for _, name := range githubNames() {
		switch v, _ := f.github.Get(name); v := v.(type) {
		case string:
			env["GITHUB_"+strings.ToUpper(name)] = v
		case bool:
			env["GITHUB_"+strings.ToUpper(name)] = expr.ToString(v)
		}
	}
	if runner, ok := f.job.contexts["runner"].(*expr.Object); ok {
		for _, k := range runner.Keys() {
			env["RUNNER_"+strings.ToUpper(k)] = runner.Text(k)
		}
	}
	if url := f.job.system.Setting("GenerateIdTokenUrl"); url != "" {
		env["ACTIONS_ID_TOKEN_REQUEST_URL"] = url
		env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = f.job.system.Token()
	}
	if id := f.job.message.Variable("system.orchestrationId"); id != "" &&
		f.job.message.Flag("actions_set_orchestration_id_env_for_actions") {
		env["ACTIONS_ORCHESTRATION_ID"] = id
	}
	env["RUNNER_TRACKING_ID"] = f.job.tracking
	env["GITHUB_ACTIONS"] = "true"
	if _, set := env["CI"]; !set {
		env["CI"] = "true"
	}
	out := make([]string, 0, len(env))
	for k, v := range env {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}
