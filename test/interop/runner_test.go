// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ChristopherHX/github-act-runner/actionsrunner"
	"github.com/ChristopherHX/github-act-runner/protocol"
	"github.com/ChristopherHX/github-act-runner/runnerconfiguration"
	"github.com/ChristopherHX/github-act-runner/runnerconfiguration/compat"

	"github.com/kettle/attest/internal/fakegithub"
)

// environment is what the independent runner asks of the program that embeds it: nothing is stored, scripts run with bash.
type environment struct {
	actionsrunner.WorkerRunnerEnvironment
	t   *testing.T
	run func(ctx context.Context, script string) error

	mu   sync.Mutex
	said strings.Builder
}

// ReadJSON implements actionsrunner.RunnerEnvironment: there is nothing.
func (*environment) ReadJSON(string, any) error { return os.ErrNotExist }

// WriteJSON implements actionsrunner.RunnerEnvironment: nothing is kept.
func (*environment) WriteJSON(string, any) error { return nil }

// Remove implements actionsrunner.RunnerEnvironment.
func (*environment) Remove(string) error { return nil }

// Printf implements actionsrunner.RunnerEnvironment.
func (e *environment) Printf(format string, a ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintf(&e.said, format, a...)
}

func (e *environment) console() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.said.String()
}

// ExecWorker implements actionsrunner.RunnerEnvironment: it runs the job's scripts as steps.
func (e *environment) ExecWorker(_ *actionsrunner.RunRunner, wc actionsrunner.WorkerContext, job *protocol.AgentJobRequestMessage, _ []byte) error {
	log := wc.Logger()
	log.Current().Complete("Succeeded")
	result := "Succeeded"
	for i := range job.Steps {
		record := protocol.CreateTimelineEntry(job.JobID, job.Steps[i].ContextName, job.Steps[i].ContextName)
		record.ID = job.Steps[i].ID
		entry := log.Append(&record)
		log.MoveNext()
		script, err := script(job.Steps[i].Inputs.ToRawObject())
		if err != nil {
			return err
		}
		log.Log("ran: " + script)
		err = e.run(wc.JobExecCtx(), script)
		entry.Complete("Succeeded")
		if err != nil {
			entry.Complete("Failed")
			result = "Failed"
		}
		if wc.JobExecCtx().Err() != nil {
			result = "Canceled"
			break
		}
	}
	log.MoveNext()
	log.TimelineRecords.Value[0].Complete(result)
	log.Finish()
	outputs := map[string]protocol.VariableValue{"greeting": {Value: "hello"}}
	wc.FinishJob(result, &outputs)
	return nil
}

// script finds the script among a step's inputs, whose form differs with the way they were written.
func script(inputs any) (string, error) {
	switch m := inputs.(type) {
	case map[string]any:
		return fmt.Sprint(m["script"]), nil
	case map[any]any:
		return fmt.Sprint(m["script"]), nil
	}
	return "", fmt.Errorf("the step's inputs are %T", inputs)
}

// register gets a JIT configuration and reads it as the independent runner does.
func (w *world) register(name string) (*runnerconfiguration.RunnerInstance, int64) {
	w.t.Helper()
	status, body := w.send(http.MethodPost, "/repos/acme/widget/actions/runners/generate-jitconfig", token,
		`{"name":"`+name+`","runner_group_id":1,"labels":["self-hosted","tee"]}`)
	var answer struct {
		Runner struct{ ID int64 }
		Config string `json:"encoded_jit_config"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || status != http.StatusCreated {
		w.t.Fatalf("%d %s %v", status, body, err)
	}
	raw, err := base64.StdEncoding.DecodeString(answer.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	files := compat.JITConfigFileAccess{}
	if err := json.Unmarshal(raw, &files); err != nil {
		w.t.Fatal(err)
	}
	instance, err := compat.ToRunnerInstance(files)
	if err != nil {
		w.t.Fatal(err)
	}
	// It stores its own kind of boolean and then asks for Go's: without this it would take protocol version 1.
	for k, v := range instance.Agent.Properties {
		if b, ok := v.Value.(compat.DotnetBoolean); ok {
			v.Value = bool(b)
			instance.Agent.Properties[k] = v
		}
	}
	return instance, answer.Runner.ID
}

// start runs the independent runner. The function it returns ends it and reports how it ended: left alone, it would wait a while
// after a job, because GitHub then knows it no more.
func (w *world) start(e *environment, instance *runnerconfiguration.RunnerInstance) func() error {
	w.t.Helper()
	r := &actionsrunner.RunRunner{
		Once: true, Version: "2.336.0", Settings: &runnerconfiguration.RunnerSettings{Instances: []*runnerconfiguration.RunnerInstance{instance}},
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(e, ctx, ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func (w *world) dispatch() *fakegithub.Run {
	w.t.Helper()
	run, err := w.github.Dispatch(w.t.Context(), fakegithub.Dispatch{Owner: "acme", Repo: "widget", Workflow: "build.yml", Ref: "main"})
	if err != nil {
		w.t.Fatal(err)
	}
	return run
}

func bash(t *testing.T) func(context.Context, string) error {
	return func(ctx context.Context, script string) error {
		cmd := exec.CommandContext(ctx, "bash", "-e", "-c", script)
		cmd.Env, cmd.WaitDelay = append(os.Environ(), "GITHUB_REPOSITORY=acme/widget"), time.Second
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %s", script, out)
		return err
	}
}

func TestIndependentRunner(t *testing.T) {
	w := newWorld(t)
	instance, id := w.register("independent-1")
	e := &environment{t: t, run: bash(t)}
	run := w.dispatch()
	done := w.start(e, instance)
	now, err := w.github.Wait(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Errorf("%v\n%s", err, e.console())
	}
	job := now.Jobs[0]
	if job.Conclusion != "success" || job.RunnerID != id || job.RunnerName != "independent-1" || job.Outputs["greeting"] != "hello" {
		t.Errorf("%+v\n%s", job, e.console())
	}
	if log, ok := w.github.JobLog(job.ID); !ok || !strings.Contains(string(log), `ran: echo "hello from $GITHUB_REPOSITORY"`) {
		t.Errorf("log %v: %s", ok, log)
	}
	var steps []string
	for _, s := range job.Steps {
		steps = append(steps, s.Conclusion)
	}
	if got := strings.Join(steps, " "); strings.Count(got, "success") < 3 {
		t.Errorf("steps: %s", got)
	}
	if book := w.github.Ledger(); len(book.Registered)+len(book.Unfinished)+len(book.TakenTwice)+len(book.Greedy) != 0 || book.Completed != 1 {
		t.Errorf("%+v", book)
	}
}

func TestIndependentRunnerIsCancelled(t *testing.T) {
	w := newWorld(t)
	instance, _ := w.register("independent-2")
	started := make(chan struct{})
	var once sync.Once
	e := &environment{t: t, run: func(ctx context.Context, _ string) error {
		once.Do(func() { close(started) })
		<-ctx.Done()
		return ctx.Err()
	}}
	run := w.dispatch()
	done := w.start(e, instance)
	<-started
	w.github.Cancel(run)
	now, err := w.github.Wait(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if err := done(); err != nil {
		t.Errorf("%v\n%s", err, e.console())
	}
	if now.Conclusion != "cancelled" {
		t.Errorf("%+v\n%s", now, e.console())
	}
}
