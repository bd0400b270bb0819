// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package job

import (
	"errors"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// survivors are checks that no attack of these tests needs, with the reason. They stay: a second lock costs nothing.
func survivors() map[string]string {
	return map[string]string{
		"attempt in the job message": "the hook's claim of the attempt is held against the message, too",
		"run in the job message":     "the hook's claim of the run is held against the message, too",

		"repository in the job message": "the hook's claim of the repository is held against the message, too",
		"required keys":                 "what takes a key away leaves a mask, which is refused first",
	}
}

// TestMutants cuts one check after the other out of the story that a job has to tell.
func TestMutants(t *testing.T) {
	t.Parallel()
	const (
		identifier, compare, facts = "runner/job/identifier.go", "runner/job/compare.go", "runner/job/facts.go"
		await, announced, verify   = "runner/job/await.go", "runner/job/announced.go", "runner/job/verify.go"
		message, masked, container = "runner/job/message.go", "runner/job/masked.go", "runner/job/container.go"
		actions, put, step, cache  = "runner/job/actions.go", "runner/job/put.go", "runner/job/step.go", "runner/job/dependencies.go"
	)
	for _, row := range []struct {
		mutant.Mutant
		attack string
	}{
		{mutant.Mutant{Check: "the debugger", File: identifier, Old: "if s.message.Debugger {", New: "if false {"}, "Debugger"},
		{mutant.Mutant{Check: "the debugger's tunnel", File: message, Old: "w.EnableDebugger || present(w.DebuggerTunnel)", New: "w.EnableDebugger"}, "Debugger"},
		{mutant.Mutant{Check: "the debugger's flag", File: message, Old: "w.EnableDebugger || present(w.DebuggerTunnel)", New: "present(w.DebuggerTunnel)"}, "Debugger"},
		{mutant.Mutant{Check: "masks", File: message, Old: "if err := w.unmasked(raw); err != nil {", New: "if err := w.unmasked(raw); err != nil && false {"}, "SecretsRewrite"},
		{mutant.Mutant{Check: "masks in keys", File: masked, Old: "strings.Contains(key, mask)", New: "key == \"\\x00\""}, "SecretsRewrite"},
		{mutant.Mutant{Check: "required keys", File: message, Old: "if err := w.complete(raw); err != nil {", New: "if err := w.complete(raw); err != nil && false {"}, "SecretsRewrite"},
		{mutant.Mutant{Check: "containers where there are none", File: container, Old: "if allowed || m.Container", New: "if true || allowed || m.Container"}, "Story"},
		{mutant.Mutant{Check: "parts without a field", File: identifier, Old: "if len(s.message.Features) > 0 {", New: "if len(s.message.Features) > 100 {"}, "Story"},
		{mutant.Mutant{Check: "where the runner is registered", File: identifier, Old: "places := i.places(); !slices", New: "places := i.places(); places == nil && !slices"}, "Story"},
		{mutant.Mutant{Check: "numbers in one form", File: identifier, Old: " || values[name] != strconv.FormatInt(n, 10)", New: ""}, "Story"},
		{mutant.Mutant{Check: "the server", File: identifier, Old: `if url := s.context("server_url"); url != i.config.Server {`, New: `if url := s.context("server_url"); url == "" {`}, "Story"},
		{mutant.Mutant{Check: "the runner of the job", File: await, Old: "if j.RunnerID > 0 && ours != named {", New: "if false {"}, "KnownRunner"},
		{mutant.Mutant{Check: "a job in progress", File: await, Old: `if ours && j.Status == "in_progress" {`, New: `if ours {`}, "(Story|KnownRunner)"},
		{mutant.Mutant{Check: "one job of the runner", File: await, Old: "; len(claim) > 1 {", New: "; len(claim) > 9 {"}, "TwoClaims"},
		{mutant.Mutant{Check: "an announcement compared", File: announced, Old: "if err := differ(pairs); err != nil {", New: "if err := differ(nil); err != nil {"}, "Announcement"},
		{mutant.Mutant{Check: "the announced repository", File: announced, Old: "!strings.EqualFold(full, a.Repository)", New: "false"}, "Announcement"},
		{mutant.Mutant{Check: "the announced workflow", File: announced, Old: "if s.signed == nil && !s.defines(a.WorkflowRef) {", New: "if false {"}, "Announcement"},
		{mutant.Mutant{Check: "the called workflow's ref", File: announced, Old: `if ref == w.Path || w.Ref != "" && ref == file+"@"+w.Ref {`, New: `if strings.HasPrefix(ref, file) {`}, "AnnouncedCalled"},
		{mutant.Mutant{Check: "the token's times", File: verify, Old: "if _, err := token.Verify(raw, keys, want, at); err != nil {", New: "if _, err := token.Verify(raw, keys, want, at); err != nil && !errors.Is(err, refusal.ErrExpired) {"}, "TokenTimes"},
		{mutant.Mutant{Check: "claims", File: compare, Old: "if err := s.compareClaims(); err != nil {", New: "if err := s.compareClaims(); err != nil && false {"}, "Story"},
		{mutant.Mutant{Check: "run", File: compare, Old: `{"run", decimal(s.runID), decimal(r.ID)},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "run of the job", File: compare, Old: `{"run of the job", decimal(s.runID), decimal(j.RunID)},`, New: ""}, "(Story|KnownRunner)"},
		{mutant.Mutant{Check: "attempt", File: compare, Old: `{"attempt", decimal(s.attempt), decimal(r.Attempt)},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "attempt of the job", File: compare, Old: `{"attempt of the job", decimal(s.attempt), decimal(j.RunAttempt)},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "repository", File: compare, Old: `{"repository", s.repo, r.Repository.FullName},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "head commit of the job", File: compare, Old: `{"head commit of the job", r.HeadSHA, j.HeadSHA},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "repository in the job message", File: compare, Old: `{"repository in the job message", s.repo, s.context("repository")},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "run in the job message", File: compare, Old: `{"run in the job message", decimal(s.runID), s.context("run_id")},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "attempt in the job message", File: compare, Old: `{"attempt in the job message", decimal(s.attempt), s.context("run_attempt")},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "event in the job message", File: compare, Old: `{"event in the job message", r.Event, s.context("event_name")},`, New: ""}, "Story"},
		{mutant.Mutant{Check: "job in the job message", File: compare, Old: `if s.message.CheckRunID != "" {`, New: `if s.message.CheckRunID == "\x00" {`}, "Story"},
		{mutant.Mutant{Check: "repository id", File: compare, Old: `if id := s.context("repository_id"); id != "" {`, New: `if id := s.context("repository_id"); id == "\x00" {`}, "Story"},
		{mutant.Mutant{Check: "owner id", File: compare, Old: `if id := s.context("repository_owner_id"); id != "" {`, New: `if id := s.context("repository_owner_id"); id == "\x00" {`}, "Story"},
		{mutant.Mutant{Check: "name of the runner", File: compare, Old: `pairs = append(pairs, pair{"RUNNER_NAME", s.question.Runner.Name, values["RUNNER_NAME"]})`, New: ""}, "Story"},
		{mutant.Mutant{Check: "the workflow's path", File: compare, Old: `"a workflow path": s.workflowPath() != "",`, New: ""}, "Story"},
		{mutant.Mutant{Check: "the job's key", File: compare, Old: `"the job's key": s.message.Job != "", `, New: ""}, "Story"},
		{mutant.Mutant{Check: "the token's workflow", File: compare, Old: "if c.JobWorkflowRef == \"\" || !isCommit(c.JobWorkflowSHA) {", New: "if false {"}, "Story"},
		{mutant.Mutant{Check: "the token's URL", File: identifier, Old: "if claims.IDTokenURL != offered {", New: "if false {"}, "Story"},
		{mutant.Mutant{Check: "the token", File: "runner/job/verify.go", Old: "if _, err := token.Verify(raw, keys, want, at); err != nil {", New: "if _, err := token.Verify(raw, keys, want, at); err != nil && false {"}, "Story"},
		{mutant.Mutant{Check: "the workspace", File: put, Old: "if !path.IsAbs(workspace) || path.Clean(workspace) != workspace {", New: "if !path.IsAbs(workspace) {"}, "Story"},
		{mutant.Mutant{Check: "images by tag", File: actions, Old: "if dep.digest == nil && !tags {", New: "if false {"}, "Story"},
		{mutant.Mutant{Check: "commits of actions", File: actions, Old: "if !isCommit(sha) {", New: "if false {"}, "Story"},
		{mutant.Mutant{Check: "a foreign head of the run", File: facts, Old: "case run != 0 && run != own:", New: "case run != 0 && run != own && s.pullRequest():"}, "Fork"},
		{mutant.Mutant{Check: "a foreign head of the event", File: facts, Old: "case event != 0 && event != own:", New: "case event == -1:"}, "Fork"},
		{mutant.Mutant{Check: "no head of a run after another", File: facts, Old: `case run == 0, s.run.Event == "workflow_run" && event == 0:`, New: "case run == 0:"}, "Fork"},
		{mutant.Mutant{Check: "no head of a pull request", File: facts, Old: `case run == 0, s.run.Event`, New: `case s.run.Event`}, "Fork"},
		{mutant.Mutant{Check: "caches", File: step, Old: "s.Cache = s.Action.restores(w.Inputs)", New: ""}, "PoisonedCache"},
		{mutant.Mutant{Check: "the origin of caches", File: cache, Old: `annotations("cache", statement.FromJob)`, New: `annotations("cache", statement.FromGitHub)`}, "PoisonedCache"},
		{mutant.Mutant{Check: "facts of the signed token alone", File: facts, Old: "if s.signed != nil {\n\t\tf.IdentitySource", New: "if len(s.run.Referenced) > 0 {\n\t\tf.JobWorkflowRef, f.JobWorkflowSHA = s.run.Referenced[0].Path, s.run.Referenced[0].SHA\n\t} else if s.signed != nil {\n\t\tf.IdentitySource"}, "ReusableWorkflow"},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			err := mutant.Try(t, row.Mutant, "runner/job", "^TestAttack"+row.attack+"$")
			switch reason := survivors()[row.Check]; {
			case reason == "" && err != nil:
				t.Error(err)
			case reason != "" && !errors.Is(err, mutant.ErrSurvived):
				t.Errorf("got %v, though %s", err, reason)
			}
		})
	}
}
