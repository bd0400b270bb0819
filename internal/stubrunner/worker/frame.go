// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/kettle/attest/internal/stubrunner/action"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
)

// frame is one step in execution: its contexts, its result and the place its output goes. A step within a composite
// action has a frame of its own that shares the log of the outermost step.
type frame struct {
	job         *Job
	id          string // identifier for the services
	number      int
	name        string // title
	scope       string // the steps context it lies in: "" or the composite's full name
	contextName string // its name there
	embedded    bool   // within a composite action
	condition   string

	github    *expr.Object
	env       *expr.Object
	inputs    any             // inside a composite action; else the job's inputs
	overrides map[string]bool // env names set by this step or an outer one
	own       expr.Status     // state of the composite action it lies in
	state     map[string]string

	result   message.Result
	outcome  message.Result // before continue-on-error
	command  message.Result // what workflow and file commands make of it
	started  time.Time
	deadline time.Time
	log      *stepLog
	commands *commandReader
}

func (j *Job) newFrame(name, contextName string) *frame {
	j.number++
	env := j.env.Clone()
	return &frame{
		job: j, id: uuid.NewString(), number: j.number, name: name, contextName: contextName,
		github: j.github(), env: env, overrides: map[string]bool{}, state: map[string]string{},
		result: message.None, outcome: message.None, command: message.None,
		log: &stepLog{parent: j.log, mask: j.config.Masker.Mask, number: j.number},
	}
}

// embed makes the frame of a step within the composite action that f runs.
func (f *frame) embed(step message.Step, inputs any) *frame {
	child := &frame{
		job: f.job, id: step.ID, number: f.number, name: title(&step), scope: f.fullName(),
		contextName: step.ContextName, embedded: true, condition: step.Condition,
		github: f.github.Clone(), env: f.job.env.Clone(), inputs: inputs, overrides: map[string]bool{},
		own: f.result.Status(), state: map[string]string{}, deadline: f.deadline, log: f.log,
		result: message.None, outcome: message.None, command: message.None,
	}
	for name := range f.overrides {
		child.overrides[name] = true
		child.env.Set(name, f.env.Text(name))
	}
	child.github.Set("action_status", string(child.own))
	return child
}

// fullName is the name of the steps context of the composite action that f runs.
func (f *frame) fullName() string {
	if f.contextName == "" {
		f.contextName = "__" + uuid.NewString()
	}
	if f.scope == "" {
		return f.contextName
	}
	return f.scope + "." + f.contextName
}

// expressions is what the step's expressions can see.
func (f *frame) expressions() expr.Scope {
	contexts := make(map[string]any, len(f.job.contexts)+4)
	for k, v := range f.job.contexts {
		contexts[k] = v
	}
	contexts["github"] = f.github
	contexts["env"] = f.env
	contexts["steps"] = f.job.stepsContext(f.scope)
	s := expr.Scope{
		Contexts: contexts, Own: f.job.result.Status(), Job: f.job.result.Status(), HashFiles: f.job.hashFiles,
	}
	if f.embedded {
		contexts["inputs"] = f.inputs
		s.Own, s.Allowed = f.own, action.Contexts()
	}
	return s
}

func (j *Job) stepsContext(scope string) *expr.Object {
	ctx, ok := j.scopes[scope]
	if !ok {
		ctx = expr.NewObject()
		j.scopes[scope] = ctx
	}
	return ctx
}

// entry is the step's own part of the steps context; nil for steps without an id.
func (f *frame) entry() *expr.Object {
	if f.contextName == "" || strings.HasPrefix(f.contextName, "__") {
		return nil
	}
	steps := f.job.stepsContext(f.scope)
	if v, ok := steps.Get(f.contextName); ok {
		if entry, ok := v.(*expr.Object); ok {
			return entry
		}
	}
	entry := expr.NewObject()
	entry.Set("outputs", expr.NewObject())
	steps.Set(f.contextName, entry)
	return entry
}

func (f *frame) setOutput(name, value string) {
	entry := f.entry()
	if entry == nil {
		return
	}
	outputs, _ := entry.Get("outputs")
	if o, ok := outputs.(*expr.Object); ok {
		o.Set(name, value)
	}
}

// publish writes outcome and conclusion to the steps context.
func (f *frame) publish() {
	entry := f.entry()
	if entry == nil {
		return
	}
	outcome := f.outcome
	if outcome == message.None {
		outcome = f.result
	}
	entry.Set("outcome", string(outcome.Status()))
	entry.Set("conclusion", string(f.result.Status()))
}

func (f *frame) output(line string) { f.log.write(line) }

func (f *frame) debug(line string) {
	if f.job.debug() {
		f.log.write("##[debug]" + line)
	}
}

// fail records an error as the step's failure.
func (f *frame) fail(err error) {
	f.error(err.Error())
	f.result = message.Failed
}

func (f *frame) error(text string) {
	f.log.issue(service.Annotation{Level: "failure", Message: text}, "##[error]")
}

func (f *frame) warning(text string) {
	f.log.issue(service.Annotation{Level: "warning", Message: text}, "##[warning]")
}
