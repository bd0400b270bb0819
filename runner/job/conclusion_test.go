// SPDX-License-Identifier: Apache-2.0

package job

import (
	"testing"

	"github.com/kettle/attest/attest/statement"
)

func TestConclusion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	done := []WorkflowJob{{ID: 41000000002, Status: "completed", Conclusion: "success"}, {ID: 41000000001, Status: "completed", Conclusion: "failure"}}
	w.jobs = append(w.jobs, done)
	f := statement.Facts{Repository: "acme/widget", RunID: "7000000001", RunAttempt: "1", JobID: "41000000001"}
	if got, err := w.identifier(t).Conclusion(t.Context(), f); err != nil || got != "failure" {
		t.Fatalf("got %q, %v", got, err)
	}
	w = newWorld(t)
	if got, err := w.identifier(t).Conclusion(t.Context(), f); err == nil {
		t.Fatalf("got %q of a job in progress", got)
	}
	f.RunID = "x"
	if _, err := w.identifier(t).Conclusion(t.Context(), f); err == nil {
		t.Fatal("accepted a bad run id")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Fatal("accepted an empty configuration")
	}
}
