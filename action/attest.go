// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/sethvargo/go-githubactions"

	"github.com/kettle/attest/runner/door"
)

// attest asks for the inputs' files to be attested and reports the reply.
func (p *Program) attest(ctx context.Context, d door.Client) error {
	in, err := p.inputs()
	if err != nil {
		return err
	}
	request, cleanUp, err := in.request()
	if err != nil {
		return err
	}
	defer cleanUp()
	if request, err = outside(ctx, d, request); err != nil {
		return err
	}
	reply, err := d.Attest(ctx, request)
	if err != nil {
		return err
	}
	if err := checkReply(reply); err != nil {
		return err
	}
	p.say("Attested %d subject(s) on platform %s: %s", reply.SubjectCount, reply.Platform, reply.Bundle)
	stored := p.store(ctx, in, reply)
	return p.report(in, reply, stored)
}

// checkReply refuses to pass on what is not there.
func checkReply(r *door.Attested) error {
	for name, path := range map[string]string{"bundle": r.Bundle, "statement": r.Statement, "checksums": r.Checksums} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("reading the reply of kettled: no path of the %s", name)
		}
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("reading the %s: %w", name, err)
		}
	}
	return nil
}

// report sets the outputs and writes the summary.
func (p *Program) report(in inputs, r *door.Attested, stored storage) error {
	outputs := [][2]string{{"bundle-path", r.Bundle}, {"statement-path", r.Statement}, {"checksums", r.Checksums}}
	if stored.id != "" {
		outputs = append(outputs, [2]string{"attestation-id", stored.id})
	}
	return p.files(func(w *githubactions.Action) {
		if p.Getenv("GITHUB_OUTPUT") != "" {
			for _, o := range outputs {
				w.SetOutput(o[0], o[1])
			}
		}
		if in.summary && p.Getenv("GITHUB_STEP_SUMMARY") != "" {
			w.AddStepSummary(summary(r, stored))
		}
	})
}

// files runs something that writes the runner's command files; go-githubactions panics where it cannot.
func (p *Program) files(write func(*githubactions.Action)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			cause, ok := r.(error)
			if !ok {
				cause = errors.New("writing the runner's command file")
			}
			err = fmt.Errorf("reporting to the workflow: %w", cause)
		}
	}()
	write(p.workflow())
	return nil
}

// say prints one line of progress, which cannot be taken for a workflow command.
func (p *Program) say(format string, args ...any) {
	line := oneLine(fmt.Sprintf(format, args...))
	_, _ = fmt.Fprintln(p.Out, line) // progress only
}
