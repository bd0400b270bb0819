// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/internal/stubrunner/mask"
	"github.com/kettle/attest/internal/stubrunner/message"
)

// runJob runs a job message against a run service that fails the first completions.
func runJob(t *testing.T, extra string, failures int) (message.Result, []string, error) {
	t.Helper()
	var completions []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "Bearer sys" || r.URL.Path != "/run/completejob" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		completions = append(completions, string(body))
		if len(completions) <= failures {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	text := `{"plan":{"planId":"p"},"jobId":"j","contextData":{"github":{"t":2,"d":[{"k":"repository","v":"acme/widget"}]}},
		"resources":{"endpoints":[{"name":"SystemVssConnection","url":"` + server.URL + `/run/","authorization":{"parameters":{"AccessToken":"sys"}}}]}` + extra + `}`
	var msg message.Job
	if err := json.Unmarshal([]byte(text), &msg); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	job, err := New(Config{
		Work: t.TempDir(), AgentName: "r", Environ: []string{"PATH=" + os.Getenv("PATH")}, Client: client, Masker: &mask.Masker{},
		Timing: Timing{Retry: time.Millisecond},
	}, &msg)
	if err != nil {
		t.Fatal(err)
	}
	result, err := job.Run(t.Context(), Signals{})
	return result, completions, err
}

const oneStep = `,"steps":[{"id":"1","name":"a","contextName":"a","condition":"success()","reference":{"type":"script"},
	"inputs":{"type":2,"map":[{"Key":"script","Value":"echo \"x=1\" >> $GITHUB_OUTPUT"}]}}],
	"jobOutputs":{"type":2,"map":[{"Key":"o","Value":{"type":3,"expr":"steps.a.outputs.x"}}]}`

func TestJob(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		extra    string
		failures int
		want     message.Result
		fails    bool
		says     []string
	}{
		"one step": {extra: oneStep, want: message.Succeeded, says: []string{
			`"planId":"p","jobId":"j","conclusion":"succeeded"`, `"outputs":{"o":{"value":"1"}}`, `"name":"Set up job"`, `"name":"Complete job"`}},
		"second attempt": {extra: oneStep, failures: 4, want: message.Succeeded},
		"never":          {extra: oneStep, failures: 5, want: message.Succeeded, fails: true},
		"container":      {extra: `,"jobContainer":{"type":0,"lit":"debian"}`, want: message.Failed, says: []string{`"conclusion":"failed"`, "runs no containers"}},
		"outputs":        {extra: `,"jobOutputs":{"type":3,"expr":"nosuch.x"}`, want: message.Failed, says: []string{"Fail to evaluate job outputs"}},
		"env":            {extra: `,"environmentVariables":["text"]`, want: message.Failed, says: []string{"evaluating env"}},
		"step env":       {extra: strings.Replace(oneStep, `"inputs"`, `"environment":"text","inputs"`, 1), want: message.Failed},
		"condition":      {extra: strings.Replace(oneStep, `success()`, `nosuch()`, 1), want: message.Failed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, completions, err := runJob(t, tt.extra, tt.failures)
			if got != tt.want || (err != nil) != tt.fails || len(completions) != min(tt.failures+1, 5) {
				t.Errorf("got %v, %v after %d completions", got, err, len(completions))
			}
			for _, want := range tt.says {
				if !strings.Contains(completions[len(completions)-1], want) {
					t.Errorf("%s is missing in %s", want, completions[len(completions)-1])
				}
			}
		})
	}
}
