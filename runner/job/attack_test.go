// SPDX-License-Identifier: Apache-2.0

package job

import (
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// TestAttackDebugger has a person sit in the job through the runner's remote debugger, which stops before the started hook
// and runs what the person types. The job is refused in a sentence, however the message says it and whatever the hook does.
func TestAttackDebugger(t *testing.T) {
	t.Parallel()
	const tunnel = `{"tunnelId":"tun-1","clusterId":"use2","hostToken":"***","port":4711}`
	for name, fields := range map[string]string{
		"as the service writes it": `"enableDebugger": true, "debuggerTunnel": ` + strings.ReplaceAll(tunnel, "***", "t"),
		"without a tunnel":         `"enableDebugger": true`,
		"with a tunnel alone":      `"debuggerTunnel": ` + strings.ReplaceAll(tunnel, "***", "t"),
		"denied, with a tunnel":    `"enableDebugger": false, "debuggerTunnel": {}`,
		"in capitals":              `"ENABLEDEBUGGER": true`,
		"with a greeting":          `"debuggerWelcomeMessage": "come in", "enableDebugger": true`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.edit(`"messageType"`, fields+`, "messageType"`)
			got, err := w.identifier(t).Identify(t.Context(), w.question)
			if got != nil || !errors.Is(err, refusal.ErrDebug) {
				t.Fatalf("got %v", err)
			}
			if text := err.Error(); !strings.Contains(text, "remote debugger") || !strings.Contains(text, "re-run the job without") {
				t.Errorf("no sentence for a person: %s", text)
			}
		})
	}
	t.Run("with a masked token", func(t *testing.T) { // a mask where no secret stands is refused by itself
		t.Parallel()
		w := newWorld(t)
		w.edit(`"messageType"`, `"enableDebugger": true, "debuggerTunnel": `+tunnel+`, "messageType"`)
		if got, err := w.identifier(t).Identify(t.Context(), w.question); got != nil || !errors.Is(err, refusal.ErrNotVerified) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestAttackReusableWorkflow names reusable workflows wherever GitHub does not sign: in the run's list, in the job context
// of the message, in the hook's claims. Which workflow file defines the job is said by the signed token alone.
func TestAttackReusableWorkflow(t *testing.T) {
	t.Parallel()
	const trusted = "acme/ci/.github/workflows/trusted.yml@refs/tags/v9"
	lie := func(w *world) {
		w.run.Referenced = []ReferencedWorkflow{{Path: trusted, SHA: actionSHA, Ref: "refs/tags/v9"}}
		w.edit(`"k": "workflow_sha",`, `"k": "job_workflow_ref", "v": "`+trusted+`"}, {"k": "job_workflow_sha", "v": "`+actionSHA+`"}, {"k": "workflow_sha",`)
		w.question.Claims.Values["GITHUB_JOB_WORKFLOW_REF"] = trusted
	}
	t.Run("without a token", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.withoutToken()
		lie(w)
		got, err := w.identifier(t).Identify(t.Context(), w.question)
		if err != nil {
			t.Fatal(err)
		}
		f, g := got.Facts, got.GitHub
		if f.JobWorkflowRef+f.JobWorkflowSHA+g.JobWorkflowRef+g.JobWorkflowSHA != "" || f.Origins["jobWorkflowRef"] != "" {
			t.Errorf("an unsigned claim became a fact: %+v", f)
		}
		if f.IdentitySource != statement.IdentityJobsAPI {
			t.Errorf("identity source %s", f.IdentitySource)
		}
		for _, d := range got.Dependencies {
			if strings.Contains(d.Name, "trusted.yml") && (d.Annotations["kettle_kind"] != "reusable-workflow" || d.Annotations["kettle_origin"] != "github") {
				t.Errorf("a dependency without its origin: %+v", d)
			}
		}
	})
	t.Run("with a token", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		lie(w)
		got, err := w.identifier(t).Identify(t.Context(), w.question)
		if err != nil {
			t.Fatal(err)
		}
		if f := got.Facts; f.JobWorkflowRef != w.claims["job_workflow_ref"] || f.IdentitySource != statement.IdentityToken {
			t.Errorf("got %s from %s", f.JobWorkflowRef, f.IdentitySource)
		}
	})
}

// TestAttackKnownRunner has somebody use the runner's own credential, which the job can read: to take a second job under
// this registration, to finish the job early, or to make one of another run look like ours. Only GitHub's answers to
// kettled's own credential count, and they show each.
func TestAttackKnownRunner(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*world){
		"second job of the run":   func(w *world) { w.jobs[0][0].RunnerID, w.jobs[0][0].RunnerName = 42, "host-1-2" },
		"finished early":          func(w *world) { w.jobs[0][1].Status = "completed" },
		"runner of the same id":   func(w *world) { w.jobs[0][1].RunnerName = "host-1-3" },
		"runner of the same name": func(w *world) { w.jobs[0][1].RunnerID = 43 },
		"job of another run":      func(w *world) { w.jobs[0][1].RunID++ },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			change(w)
			if got, err := w.identifier(t).Identify(t.Context(), w.question); got != nil || !errors.Is(err, refusal.ErrIdentity) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestAttackEnterprise brings a job of another account to a runner of an enterprise, whose own accounts are written down.
func TestAttackEnterprise(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		owners []string
		ok     bool
	}{
		"its own": {[]string{"other", "ACME"}, true}, "another's": {[]string{"other"}, false}, "named like the enterprise": {nil, false},
		"a beginning": {[]string{"acm"}, false}, "the repository": {[]string{"acme/widget"}, true},
	} {
		w := newWorld(t)
		w.target = "big"
		i := w.identifier(t)
		i.config.Owners = tc.owners
		_, err := i.Identify(t.Context(), w.question)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, refusal.ErrIdentity) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
