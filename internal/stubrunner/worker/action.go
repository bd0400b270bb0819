// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/internal/stubrunner/action"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
)

// ErrUnsupportedAction says that a step is neither a script nor a composite action.
var ErrUnsupportedAction = errors.New("this stand-in runs composite actions only")

// inputs are a step's inputs as text, in order; names ignore case.
type inputs = *expr.Object

// runStep runs a script or an action.
func (f *frame) runStep(ctx context.Context, step *message.Step) error {
	if err := f.writeEvent(); err != nil {
		return err
	}
	ref := step.Reference
	f.github.Set("action_repository", nil)
	f.github.Set("action_ref", nil)
	if ref.Type == message.SourceRepository && !ref.Local() {
		f.github.Set("action_repository", ref.Name)
		f.github.Set("action_ref", ref.Ref)
	}
	files, err := f.openFiles()
	if err != nil {
		return err
	}
	defer files.process(ctx)
	given, err := f.evaluateInputs(step)
	if err != nil {
		return err
	}
	switch ref.Type {
	case message.SourceScript:
		return f.runScript(ctx, given)
	case message.SourceContainer:
		return fmt.Errorf("%w: docker://%s", ErrUnsupportedAction, ref.Image)
	default:
		return f.runAction(ctx, ref, given)
	}
}

func (f *frame) evaluateInputs(step *message.Step) (inputs, error) {
	entries, err := step.Inputs.Entries(f.expressions())
	if err != nil {
		return nil, err
	}
	given := expr.NewObject()
	for _, e := range entries {
		given.Set(e.Name, e.Value)
	}
	return given, nil
}

func (f *frame) runAction(ctx context.Context, ref message.Reference, given inputs) error {
	dir := f.job.fetcher.Path(ref)
	if ref.Local() {
		dir = filepath.Join(f.github.Text("workspace"), ref.Path)
	}
	manifest, err := action.Load(dir)
	if err != nil {
		return err
	}
	if manifest.Using != "composite" {
		return fmt.Errorf("%w: '%s' uses '%s'", ErrUnsupportedAction, ref, manifest.Using)
	}
	if ref.Local() {
		if err := f.job.fetcher.Prepare(ctx, manifest.Steps); err != nil {
			return err
		}
	}
	if err := f.completeInputs(manifest, given); err != nil {
		return err
	}
	f.printAction(ref, given)
	return f.runComposite(ctx, composite{manifest: manifest, dir: dir, inputs: given})
}

// completeInputs adds the defaults and warns of inputs the action does not know.
func (f *frame) completeInputs(m *action.Manifest, given inputs) error {
	known := map[string]bool{}
	var names []string
	for _, in := range m.Inputs {
		known[strings.ToLower(in.Name)] = true
		names = append(names, in.Name)
		if _, set := given.Get(in.Name); set {
			if in.Deprecated != "" {
				f.warning(fmt.Sprintf("Input '%s' has been deprecated with message: %s", in.Name, in.Deprecated))
			}
			continue
		}
		scope := f.expressions()
		scope.Allowed = action.DefaultContexts()
		text, err := in.Default.Text(scope)
		if err != nil {
			return fmt.Errorf("input '%s': %w", in.Name, err)
		}
		given.Set(in.Name, text)
	}
	var unexpected []string
	for _, k := range given.Keys() {
		if !known[strings.ToLower(k)] {
			unexpected = append(unexpected, k)
		}
	}
	if len(unexpected) > 0 {
		f.warning(fmt.Sprintf("Unexpected input(s) '%s', valid inputs are ['%s']",
			strings.Join(unexpected, "', '"), strings.Join(names, "', '")))
	}
	return nil
}

func (f *frame) printAction(ref message.Reference, given inputs) {
	f.output("##[group]Run " + ref.String())
	if given.Len() > 0 {
		f.output("with:")
		for _, k := range given.Keys() {
			if v := given.Text(k); v != "" {
				f.output("  " + k + ": " + v)
			}
		}
	}
	f.printEnv()
	f.output("##[endgroup]")
}

func (f *frame) printEnv() {
	if f.env.Len() == 0 {
		return
	}
	f.output("env:")
	for _, k := range f.env.Keys() {
		f.output("  " + k + ": " + f.env.Text(k))
	}
}

// writeEvent writes the event that started the run to GITHUB_EVENT_PATH.
func (f *frame) writeEvent() error {
	event, ok := f.github.Get("event")
	if !ok {
		return nil
	}
	dir := filepath.Join(f.job.config.temp(), "_github_workflow")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // As the real runner's folder.
		return fmt.Errorf("creating event folder: %w", err)
	}
	text := expr.ToString(event)
	if _, isObject := event.(*expr.Object); isObject {
		text = expr.ToJSON(event)
	}
	path := filepath.Join(dir, "event.json")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // As the real runner's file.
		return fmt.Errorf("writing event: %w", err)
	}
	f.github.Set("event_path", path)
	return nil
}
