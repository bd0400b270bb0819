// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kettle/attest/internal/stubrunner/action"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
	"github.com/kettle/attest/internal/stubrunner/token"
)

// downloadTime bounds the download of one action.
const downloadTime = 20 * time.Minute

// setUp is the step "Set up job": folders, contexts, env, defaults, downloads, queue. No code of the job runs here.
func (j *Job) setUp(ctx context.Context) error {
	f := j.newFrame("Set up job", "")
	j.start(ctx, f)
	err := j.prepare(ctx, f)
	if err != nil {
		f.fail(err)
	}
	j.end(context.WithoutCancel(ctx), f, stepKind{kind: "runner", action: "setup_job"})
	return err
}

func (j *Job) prepare(ctx context.Context, f *frame) error {
	f.output("Current runner version: '" + service.Version + "'")
	f.output("Runner name: '" + j.config.AgentName + "'")
	if group := j.message.Variable("system.runnerGroupName"); group != "" {
		f.output("Runner group name: '" + group + "'")
	}
	if host, err := os.Hostname(); err == nil {
		f.output("Machine name: '" + host + "'")
	}
	j.printPermissions(f)
	f.output("Prepare workflow directory")
	if err := j.prepareFolders(); err != nil {
		return err
	}
	j.buildContexts()
	f.github = j.github()
	if err := j.evaluateEnv(f); err != nil {
		return fmt.Errorf("evaluating env: %w", err)
	}
	if err := j.evaluateDefaults(f); err != nil {
		return fmt.Errorf("evaluating defaults: %w", err)
	}
	if err := j.download(ctx, f); err != nil {
		return err
	}
	j.fillQueue()
	if j.message.DisplayName != "" {
		f.output("Complete job name: " + j.message.DisplayName)
	}
	return ctx.Err()
}

func (j *Job) printPermissions(f *frame) {
	text := j.message.Variable("system.github.token.permissions")
	value, err := expr.FromJSON([]byte(text))
	permissions, ok := value.(*expr.Object)
	if text == "" || err != nil || !ok {
		return
	}
	f.output("##[group]GITHUB_TOKEN Permissions")
	for _, k := range permissions.Keys() {
		f.output(k + ": " + permissions.Text(k))
	}
	f.output("##[endgroup]")
}

// prepareFolders makes <work>/{_temp,_tool,_actions,<repo>/<repo>}; _temp and _actions start empty.
func (j *Job) prepareFolders() error {
	for _, dir := range []string{j.config.temp(), j.config.actions()} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("clearing work folder: %w", err)
		}
	}
	for _, dir := range []string{j.config.temp(), j.config.actions(), j.tools(), j.workspace()} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // As the real runner's folders.
			return fmt.Errorf("creating work folder: %w", err)
		}
	}
	return nil
}

func (j *Job) tools() string {
	if dir := j.environ["RUNNER_TOOL_CACHE"]; dir != "" {
		return dir
	}
	return filepath.Join(j.config.Work, "_tool")
}

func (j *Job) pipeline() string {
	github, _ := j.message.ContextData["github"].Value.(*expr.Object)
	repository := github.Text("repository")
	return filepath.Join(j.config.Work, filepath.Base(repository))
}

func (j *Job) workspace() string { return filepath.Join(j.pipeline(), filepath.Base(j.pipeline())) }

func (j *Job) github() *expr.Object {
	github, ok := j.contexts["github"].(*expr.Object)
	if !ok {
		return expr.NewObject()
	}
	return github
}

func (j *Job) buildContexts() {
	j.contexts = map[string]any{}
	for name, data := range j.message.ContextData {
		j.contexts[strings.ToLower(name)] = data.Value
	}
	github := expr.NewObject()
	secret := j.message.Variable("system.github.token")
	github.Set("token", secret)
	if secret != "" {
		j.config.Masker.Add(base64.StdEncoding.EncodeToString([]byte("x-access-token:" + secret)))
	}
	if name := j.message.Variable("system.github.job"); name != "" {
		github.Set("job", name)
	}
	if sent, ok := j.contexts["github"].(*expr.Object); ok {
		for _, k := range sent.Keys() {
			v, _ := sent.Get(k)
			github.Set(k, v)
		}
	}
	github.Set("workspace", j.workspace())
	j.contexts["github"] = github
	j.contexts["runner"] = j.runnerContext()
	j.contexts["secrets"] = j.secretsContext()
	job, ok := j.contexts["job"].(*expr.Object)
	if !ok {
		job = expr.NewObject()
	}
	j.contexts["job"] = job
	j.publishStatus()
}

func (j *Job) runnerContext() *expr.Object {
	runner := expr.NewObject()
	if j.debug() {
		runner.Set("debug", "1")
	}
	runner.Set("os", service.OS)
	runner.Set("arch", service.Arch())
	runner.Set("name", j.config.AgentName)
	if e := j.message.Variable("system.runnerEnvironment"); e != "" {
		runner.Set("environment", e)
	}
	runner.Set("tool_cache", j.tools())
	runner.Set("temp", j.config.temp())
	runner.Set("workspace", j.pipeline())
	return runner
}

func (j *Job) debug() bool { return j.message.Flag("ACTIONS_STEP_DEBUG") }

func (j *Job) secretsContext() *expr.Object {
	secrets := expr.NewObject()
	for name, v := range j.message.Variables {
		if v.Secret && !strings.EqualFold(name, "system.github.token") && !strings.EqualFold(name, "system.accessToken") {
			secrets.Set(name, v.Value)
		}
	}
	return secrets
}

func (j *Job) evaluateEnv(f *frame) error {
	for i := range j.message.Environment {
		entries, err := j.message.Environment[i].Entries(f.expressions())
		if err != nil {
			return err
		}
		for _, e := range entries {
			j.env.Set(e.Name, e.Value)
			f.env.Set(e.Name, e.Value)
		}
	}
	return nil
}

func (j *Job) evaluateDefaults(f *frame) error {
	for i := range j.message.Defaults {
		run, ok := j.message.Defaults[i].Get("run")
		if !ok {
			continue
		}
		entries, err := run.Entries(f.expressions())
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Value != "" {
				j.defaults[strings.ToLower(e.Name)] = e.Value
			}
		}
	}
	return nil
}

func (j *Job) download(ctx context.Context, f *frame) error {
	client := *j.config.Client
	client.Timeout = downloadTime
	j.fetcher = &action.Fetcher{
		Client: &client, Dir: j.config.actions(), APIURL: strings.TrimSuffix(j.github().Text("api_url"), "/"),
		Token: j.github().Text("token"), Secret: j.config.Masker.Add, Output: f.output,
	}
	if base := j.message.LaunchURL(); base != "" {
		j.fetcher.Launch = service.NewLaunch(j.config.Client, service.ResultsConfig{
			Base: base, Token: j.system.Token(), Plan: j.message.Plan.ID, Job: j.message.ID,
		})
	}
	f.output("Prepare all required actions")
	return j.fetcher.Prepare(ctx, j.message.Steps)
}

// fillQueue puts the started hook first, then the containers and the steps; the completed hook comes last of all.
func (j *Job) fillQueue() {
	if path := j.environ["ACTIONS_RUNNER_HOOK_JOB_STARTED"]; path != "" {
		j.queue = append(j.queue, &task{name: "Set up runner", condition: "always()", hook: &hook{path: path, started: true}})
	}
	if !j.message.Container.Absent() || !j.message.Services.Absent() {
		j.queue = append(j.queue, &task{name: "Initialize containers", condition: "success()"})
	}
	for i := range j.message.Steps {
		step := &j.message.Steps[i]
		j.queue = append(j.queue, &task{step: step, condition: step.Condition, name: title(step)})
	}
	if path := j.environ["ACTIONS_RUNNER_HOOK_JOB_COMPLETED"]; path != "" {
		j.post = append(j.post, &task{name: "Complete runner", condition: "always()", hook: &hook{path: path}})
	}
}

// title is a step's title before its expressions can be evaluated.
func title(step *message.Step) string {
	switch {
	case step.DisplayName != "":
		return step.DisplayName
	case step.DisplayNameToken != nil && step.DisplayNameToken.Kind == token.Text:
		return step.DisplayNameToken.Value
	case step.Reference.Type == message.SourceScript:
		script, ok := step.Inputs.Get("script")
		if !ok {
			return "Run"
		}
		return "Run " + firstLine(script.Value)
	case step.Reference.Type == message.SourceContainer:
		return "Run docker://" + step.Reference.Image
	default:
		return "Run " + step.Reference.String()
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimLeft(text, " \t\r\n"), "\n")
	return strings.TrimRight(line, "\r")
}
