// SPDX-License-Identifier: Apache-2.0

package message_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
)

func TestJob(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../fakegithub/testdata/jobmessage.json")
	if err != nil {
		t.Fatal(err)
	}
	var job message.Job
	if err := json.Unmarshal(raw, &job); err != nil {
		t.Fatal(err)
	}
	system, err := job.System()
	if err != nil || system.Token() == "" || system.Setting("generateidtokenurl") == "" {
		t.Errorf("system connection: %v %v", system, err)
	}
	github, ok := job.ContextData["github"].Value.(*expr.Object)
	if !ok || github.Text("repository") != "acme/widget" {
		t.Errorf("github context: %v", job.ContextData["github"])
	}
	if v, _ := github.Get("ref_protected"); v != false {
		t.Errorf("ref_protected: %v", v)
	}
	if len(job.Steps) != 4 || job.Steps[0].Reference.String() != "actions/checkout@v4" ||
		job.Steps[1].Reference.Type != message.SourceScript || !job.Steps[0].ContinueOnError.Absent() {
		t.Errorf("steps: %+v", job.Steps)
	}
	if job.ResultsURL() == "" || job.LaunchURL() == "" || !job.Flag("system.from_run_service") {
		t.Error("variables are not found")
	}
	if s, ok := job.ContextData["strategy"].Value.(*expr.Object); !ok || expr.ToJSON(s) !=
		"{\n  \"fail-fast\": true,\n  \"job-index\": 0,\n  \"job-total\": 1,\n  \"max-parallel\": 1\n}" {
		t.Errorf("strategy: %s", expr.ToJSON(s))
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		`{"t":0,"s":"x"}`: `"x"`, `{"t":0}`: `null`, `{"s":"y"}`: `"y"`, `"z"`: `"z"`, `1`: `1`, `null`: `null`, `true`: `true`,
		`{"t":1,"a":[{"t":3,"b":true},{"t":4,"n":2}]}`: "[\n  true,\n  2\n]", `{"t":1}`: `[]`, `{"t":2}`: `{}`,
		`{"t":5,"d":[{"k":"A","v":1},{"k":"a","v":2}]}`: "{\n  \"A\": 1,\n  \"a\": 2\n}",
		`{"t":2,"d":[{"k":"A","v":1},{"k":"a","v":2}]}`: "{\n  \"A\": 2\n}",
	}
	for wire, want := range tests {
		var d message.Data
		if err := json.Unmarshal([]byte(wire), &d); err != nil || expr.ToJSON(d.Value) != want {
			t.Errorf("%s: got %s, %v, want %s", wire, expr.ToJSON(d.Value), err, want)
		}
	}
	for _, wire := range []string{`{"t":9}`, `[1]`, `{"t":"x"}`} {
		var d message.Data
		if err := json.Unmarshal([]byte(wire), &d); err == nil {
			t.Errorf("%s was read", wire)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	tests := map[string]time.Duration{"00:05:00": 5 * time.Minute, "1.02:00:01": 26*time.Hour + time.Second, "00:00:01.5": time.Second}
	for text, want := range tests {
		if got, err := (message.JobCancellation{Timeout: text}).Duration(); got != want || err != nil {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "a:b:c", "1:2", "-1:00:00"} {
		if got, err := (message.JobCancellation{Timeout: text}).Duration(); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
	}
}

func TestResult(t *testing.T) {
	t.Parallel()
	for r, want := range map[message.Result][2]string{
		message.None: {"Succeeded", "succeeded"}, message.Succeeded: {"Succeeded", "succeeded"},
		message.Canceled: {"Canceled", "canceled"}, message.SucceededWithIssues: {"SucceededWithIssues", "succeededWithIssues"},
	} {
		if r.String() != want[0] || r.Wire() != want[1] {
			t.Errorf("%d: %s %s", r, r, r.Wire())
		}
	}
	if message.Failed != 2 || message.Abandoned != 5 || message.None.ExitCode() != 100 || message.Canceled.ExitCode() != 103 {
		t.Error("the numbers are wrong")
	}
	if r, ok := message.FromExitCode(104); r != message.Skipped || !ok {
		t.Errorf("104: %v %v", r, ok)
	}
	if r, ok := message.FromExitCode(1); r != message.Failed || ok {
		t.Errorf("1: %v %v", r, ok)
	}
	merges := [][3]message.Result{
		{message.None, message.Failed, message.Failed}, {message.Succeeded, message.Canceled, message.Canceled},
		{message.Failed, message.Succeeded, message.Failed}, {message.Canceled, message.Failed, message.Canceled},
		{message.Failed, message.Canceled, message.Canceled}, {message.None, message.Succeeded, message.Succeeded},
	}
	for _, m := range merges {
		if got := m[0].Merge(m[1]); got != m[2] {
			t.Errorf("%v and %v: got %v", m[0], m[1], got)
		}
	}
}

func FuzzJob(f *testing.F) {
	f.Add([]byte(`{"jobId":"x","steps":[{"reference":{"type":"script"}}],"contextData":{"github":{"t":2,"d":[]}}}`))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		var job message.Job
		if json.Unmarshal(raw, &job) == nil {
			_, _ = job.System()
		}
	})
}
