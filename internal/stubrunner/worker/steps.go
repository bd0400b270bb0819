// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
)

// task is one entry of the job's queue: a step of the workflow or a hook; with neither, the start of the job's containers.
type task struct {
	name      string
	condition string
	step      *message.Step
	hook      *hook
}

// stepKind describes a step to the run service.
type stepKind struct{ kind, action, ref string }

var (
	errCancelled = errors.New("The operation was canceled.") //nolint:revive,staticcheck // The real runner's words.
	errTimeout   = errors.New("the step has timed out")
)

// runQueue runs the steps, then what was registered to come after them.
func (j *Job) runQueue(ctx context.Context) {
	j.publishStatus()
	for _, t := range j.queue {
		j.runTask(ctx, t)
	}
	for i := len(j.post) - 1; i >= 0; i-- { // last registered, first run
		j.runTask(ctx, j.post[i])
	}
}

func (j *Job) runTask(ctx context.Context, t *task) {
	contextName := ""
	if t.step != nil {
		contextName = t.step.ContextName
	}
	f := j.newFrame(t.name, contextName)
	f.condition = t.condition
	if t.step != nil && t.step.ID != "" {
		f.id = t.step.ID
	}
	j.start(ctx, f)
	j.config.Trace.Info("StepsRunner", fmt.Sprintf("Processing step: DisplayName='%s'", f.name))
	j.decide(ctx, f, t)
	j.config.Trace.Info("StepsRunner", "Step result: "+f.result.String())
	j.end(ctx, f, t.describe())
	if f.result == message.Failed {
		j.result = j.result.Merge(message.Failed)
		j.publishStatus()
	}
}

// decide evaluates env and condition and runs the step when it is due.
func (j *Job) decide(ctx context.Context, f *frame, t *task) {
	if t.step != nil {
		f.github.Set("action", t.step.Name)
		if err := f.applyEnv(t.step); err != nil {
			f.fail(err)
			return
		}
	}
	if fired(j.cancelled) && !j.noted {
		j.noteStop()
	}
	if fired(j.shutdown) {
		f.result = message.Skipped
		return
	}
	f.retitle(t)
	due, err := expr.Condition(t.condition, f.expressions())
	switch {
	case err != nil:
		f.fail(err)
	case !due:
		f.result = message.Skipped
	default:
		f.execute(ctx, t)
	}
}

// applyEnv evaluates the step's env onto the frame.
func (f *frame) applyEnv(step *message.Step) error {
	entries, err := step.Environment.Entries(f.expressions())
	if err != nil {
		return err
	}
	for _, e := range entries {
		f.env.Set(e.Name, e.Value)
		f.overrides[e.Name] = true
	}
	return nil
}

// retitle evaluates the title; a failure leaves it as it was.
func (f *frame) retitle(t *task) {
	if t.step == nil || t.step.DisplayNameToken == nil {
		return
	}
	if text, err := t.step.DisplayNameToken.Text(f.expressions()); err == nil {
		f.name = f.log.mask(firstLine(text))
	}
}

// execute runs what the step is made of and settles its result.
func (f *frame) execute(ctx context.Context, t *task) {
	if t.step != nil {
		if err := f.setDeadline(t.step); err != nil {
			f.error("An error occurred when attempting to determine the step timeout.")
			f.error(err.Error())
		}
	}
	f.settle(f.runBody(ctx, t))
	if t.step != nil {
		f.continueOnError(t.step)
	}
}

func (f *frame) runBody(ctx context.Context, t *task) error {
	if t.hook != nil {
		return t.hook.run(ctx, f)
	}
	if t.step == nil {
		return ErrContainer
	}
	return f.runStep(ctx, t.step)
}

// settle turns how the step ended into its result.
func (f *frame) settle(err error) {
	switch {
	case errors.Is(err, errTimeout):
		if f.embedded {
			f.error("The action has timed out.")
		} else {
			f.error(fmt.Sprintf("The action '%s' has timed out after %d minutes.", f.name, f.minutes()))
		}
		f.result = message.Failed
	case errors.Is(err, errCancelled):
		f.error(err.Error())
		f.result = message.Canceled
	case err != nil:
		f.fail(err)
	}
	if f.command != message.None {
		f.result = f.result.Merge(f.command)
	}
	f.result = max(f.result, message.Succeeded)
}

func (f *frame) minutes() int {
	return int(f.deadline.Sub(f.started).Round(time.Minute) / time.Minute)
}

func (f *frame) setDeadline(step *message.Step) error {
	if step.TimeoutInMinutes.Absent() {
		return nil
	}
	v, err := step.TimeoutInMinutes.Evaluate(f.expressions())
	if err != nil {
		return err
	}
	if n := expr.ToNumber(v); n > 0 {
		f.deadline = f.started.Add(time.Duration(n * float64(time.Minute)))
	}
	return nil
}

func (f *frame) continueOnError(step *message.Step) {
	if f.result != message.Failed || step.ContinueOnError.Absent() {
		return
	}
	v, err := step.ContinueOnError.Evaluate(f.expressions())
	if err != nil {
		f.error("The step failed and an error occurred when attempting to determine whether to continue on error.")
		f.error(err.Error())
		return
	}
	if v == true || v == "true" {
		f.outcome, f.result = message.Failed, message.Succeeded
	}
}

func (t *task) describe() stepKind {
	switch {
	case t.hook != nil && t.hook.started:
		return stepKind{kind: "runner", action: "Pre Job Hook"}
	case t.hook != nil:
		return stepKind{kind: "runner", action: "Post Job Hook"}
	case t.step == nil:
		return stepKind{kind: "runner", action: "initialize_containers"}
	case t.step.Reference.Type == message.SourceScript:
		return stepKind{kind: "run", action: "bash"}
	case t.step.Reference.Type == message.SourceContainer:
		return stepKind{kind: "docker", action: t.step.Reference.Image}
	default:
		r := t.step.Reference
		name := r.Name
		if r.Path != "" && !r.Local() {
			name += "/" + r.Path
		}
		if r.Local() {
			name = r.Path
		}
		return stepKind{kind: "repository", action: name, ref: r.Ref}
	}
}

const (
	stateInProgress = 3
	stateCompleted  = 6
)

// start tells the results service that a step has begun.
func (j *Job) start(ctx context.Context, f *frame) {
	f.started = time.Now()
	j.report(ctx, service.StepState{
		ExternalID: f.id, Number: f.number, Name: f.name, Status: stateInProgress, StartedAt: service.TwirpTime(f.started),
	})
}

// end uploads a step's log and records its result.
func (j *Job) end(ctx context.Context, f *frame, kind stepKind) {
	f.result = max(f.result, message.Succeeded)
	f.publish()
	now := time.Now()
	j.report(ctx, service.StepState{
		ExternalID: f.id, Number: f.number, Name: f.name, Status: stateCompleted, Conclusion: f.result.Conclusion(),
		StartedAt: service.TwirpTime(f.started), CompletedAt: service.TwirpTime(now),
	})
	if text, lines := f.log.content(); j.results != nil && lines > 0 {
		if err := j.results.UploadStepLog(ctx, f.id, text, lines); err != nil {
			j.config.Trace.Error("JobServerQueue", err)
		}
	}
	started, completed := f.started.UTC(), now.UTC()
	j.steps = append(j.steps, service.StepResult{
		ExternalID: f.id, Number: f.number, Name: f.name, ActionName: kind.action, Ref: kind.ref, Type: kind.kind,
		Status: "completed", Conclusion: f.result.Wire(), StartedAt: &started, CompletedAt: &completed,
		Annotations: append([]service.Annotation{}, f.log.annotations...),
	})
}

// report sends progress; the first failure ends it, as it must not hold up the job.
func (j *Job) report(ctx context.Context, state service.StepState) {
	if !j.reporting {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := j.results.UpdateSteps(ctx, []service.StepState{state}); err != nil {
		j.config.Trace.Error("JobServerQueue", err)
		j.reporting = false
	}
}
