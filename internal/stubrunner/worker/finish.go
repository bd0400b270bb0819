// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"time"

	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/service"
)

func (j *Job) now() time.Time { return time.Now() }

// finish is the step "Complete job": the job's outputs and the processes left behind.
func (j *Job) finish(ctx context.Context) {
	f := j.newFrame("Complete job", "")
	j.start(ctx, f)
	if err := j.evaluateOutputs(f); err != nil {
		f.error("Fail to evaluate job outputs")
		f.fail(err)
		j.result = j.result.Merge(message.Failed)
	}
	j.killOrphans(f)
	j.end(ctx, f, stepKind{kind: "runner", action: "complete_job"})
}

func (j *Job) evaluateOutputs(f *frame) error {
	if j.message.Outputs.Absent() {
		return nil
	}
	f.output("Evaluate and set job outputs")
	entries, err := j.message.Outputs.Entries(f.expressions())
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case e.Value == "":
			f.debug("Skip output '" + e.Name + "' since it's empty")
		case j.config.Masker.Mask(e.Value) != e.Value:
			f.warning("Skip output '" + e.Name + "' since it may contain secret.")
		default:
			f.output("Set output '" + e.Name + "'")
			j.outputs[e.Name] = service.OutputValue{Value: e.Value}
		}
	}
	return nil
}
