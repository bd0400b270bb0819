// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"fmt"

	"github.com/kettle/attest/internal/stubrunner/action"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
)

// composite is a composite action about to run.
type composite struct {
	manifest *action.Manifest
	dir      string
	inputs   inputs
}

// runComposite runs the steps of a composite action and evaluates its outputs.
func (f *frame) runComposite(ctx context.Context, c composite) error {
	scope := f.fullName()
	f.job.scopes[scope] = expr.NewObject() // each run of the action starts afresh
	for i := range c.manifest.Steps {
		step := &c.manifest.Steps[i]
		child := f.embed(*step, c.inputs)
		child.github.Set("action_path", c.dir)
		child.github.Set("action", step.Name)
		stop := child.runEmbedded(ctx, step)
		if child.result == message.Failed || child.result == message.Canceled {
			f.result = f.result.Merge(child.result)
		}
		child.publish()
		if stop {
			break
		}
	}
	return f.compositeOutputs(c, scope)
}

// runEmbedded runs one step of a composite action; true ends the action.
func (f *frame) runEmbedded(ctx context.Context, step *message.Step) (stop bool) {
	j := f.job
	f.started = j.now()
	if err := f.applyEnv(step); err != nil {
		f.fail(err)
	}
	if fired(j.cancelled) && !j.noted {
		j.noteStop()
	}
	if fired(j.shutdown) {
		f.result = message.Skipped
		return false
	}
	due, err := expr.Condition(f.condition, f.expressions())
	switch {
	case err != nil:
		f.fail(err)
		return true
	case !due:
		f.result = message.Skipped
		return false
	}
	if f.result == message.None {
		f.settle(f.runStep(ctx, step))
	}
	f.continueOnError(step)
	return false
}

func (f *frame) compositeOutputs(c composite, scope string) error {
	contexts := f.expressions()
	contexts.Allowed = action.Contexts()
	contexts.Contexts["inputs"] = c.inputs
	contexts.Contexts["steps"] = f.job.stepsContext(scope)
	for _, out := range c.manifest.Outputs {
		text, err := out.Value.Text(contexts)
		if err != nil {
			return fmt.Errorf("output '%s': %w", out.Name, err)
		}
		f.setOutput(out.Name, text)
	}
	return nil
}
