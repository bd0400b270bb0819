// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/rhysd/actionlint"
)

// ErrInputs is matched by every refusal of a dispatch's inputs.
var ErrInputs = errors.New("inputs refused")

// Dispatch is the workflow_dispatch trigger.
type Dispatch struct{ Inputs []Input }

// Input is one declared input of workflow_dispatch. Type is string, boolean, number, choice or environment.
type Input struct {
	Name     string
	Type     string
	Required bool
	Default  string
	Options  []string
}

// Value is one input of a run: as text for github.event.inputs, and typed for the inputs context.
type Value struct {
	Name  string
	Text  string
	Typed any // string, bool or float64
}

// Push is the push trigger with its filters.
type Push struct {
	branches, branchesIgnore, tags, tagsIgnore []string
	branchFilter, tagFilter                    bool
}

func triggers(w *Workflow, ast *actionlint.Workflow) error {
	for _, e := range ast.On {
		switch e := e.(type) {
		case *actionlint.WorkflowDispatchEvent:
			w.Dispatch = &Dispatch{Inputs: inputs(e)}
		case *actionlint.WebhookEvent:
			if e.Hook.Value != "push" {
				continue
			}
			if !e.Paths.IsEmpty() || !e.PathsIgnore.IsEmpty() {
				return &UnsupportedError{"on.push.paths", e.Pos.Line}
			}
			w.Push = push(e)
		}
	}
	return nil
}

func inputs(e *actionlint.WorkflowDispatchEvent) []Input {
	declared := make([]*actionlint.DispatchInput, 0, len(e.Inputs))
	for _, in := range e.Inputs {
		declared = append(declared, in)
	}
	sort.Slice(declared, func(i, k int) bool { return declared[i].Name.Pos.IsBefore(declared[k].Name.Pos) })
	kinds := map[actionlint.WorkflowDispatchEventInputType]string{
		actionlint.WorkflowDispatchEventInputTypeBoolean:     "boolean",
		actionlint.WorkflowDispatchEventInputTypeNumber:      "number",
		actionlint.WorkflowDispatchEventInputTypeChoice:      "choice",
		actionlint.WorkflowDispatchEventInputTypeEnvironment: "environment",
	}
	out := make([]Input, 0, len(declared))
	for _, d := range declared {
		in := Input{Name: d.Name.Value, Type: "string"}
		if k, ok := kinds[d.Type]; ok {
			in.Type = k
		}
		in.Required = d.Required != nil && d.Required.Value
		if d.Default != nil {
			in.Default = d.Default.Value
		}
		for _, o := range d.Options {
			in.Options = append(in.Options, o.Value)
		}
		out = append(out, in)
	}
	return out
}

// Values applies the declared defaults to the inputs of a dispatch, in the order of the file. It refuses, as GitHub does,
// what is not declared, what is required and missing, and what does not fit its type; the error matches [ErrInputs].
func (d *Dispatch) Values(given map[string]string) ([]Value, error) {
	var unknown []string
	for name := range given {
		if !slices.ContainsFunc(d.Inputs, func(in Input) bool { return in.Name == name }) {
			unknown = append(unknown, strconv.Quote(name))
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return nil, fmt.Errorf("%w: Unexpected inputs provided: [%s]", ErrInputs, strings.Join(unknown, ", "))
	}
	out := make([]Value, 0, len(d.Inputs))
	for _, in := range d.Inputs {
		v, err := in.value(given)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func (in Input) value(given map[string]string) (Value, error) {
	text, ok := given[in.Name]
	if !ok {
		text = in.Default
	}
	if text == "" && in.Required {
		return Value{}, fmt.Errorf("%w: Required input '%s' not provided", ErrInputs, in.Name)
	}
	switch in.Type {
	case "boolean":
		if text == "" {
			text = "false"
		}
		if text != "true" && text != "false" {
			return Value{}, fmt.Errorf("%w: Provided value '%s' for input '%s' is not a boolean", ErrInputs, text, in.Name)
		}
		return Value{in.Name, text, text == "true"}, nil
	case "number":
		if text == "" {
			return Value{in.Name, "", ""}, nil
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return Value{}, fmt.Errorf("%w: Provided value '%s' for input '%s' is not a number", ErrInputs, text, in.Name)
		}
		return Value{in.Name, text, f}, nil
	case "choice":
		if text == "" && !ok && len(in.Options) > 0 {
			text = in.Options[0]
		}
		if !slices.Contains(in.Options, text) {
			return Value{}, fmt.Errorf("%w: Provided value '%s' for input '%s' not in the list of allowed values", ErrInputs, text, in.Name)
		}
	}
	return Value{in.Name, text, text}, nil
}

func push(e *actionlint.WebhookEvent) *Push {
	list := func(f *actionlint.WebhookEventFilter) []string {
		if f.IsEmpty() {
			return nil
		}
		var out []string
		for _, v := range f.Values {
			out = append(out, v.Value)
		}
		return out
	}
	p := &Push{branches: list(e.Branches), branchesIgnore: list(e.BranchesIgnore), tags: list(e.Tags), tagsIgnore: list(e.TagsIgnore)}
	p.branchFilter = p.branches != nil || p.branchesIgnore != nil
	p.tagFilter = p.tags != nil || p.tagsIgnore != nil
	return p
}

// Matches reports whether a push to a full ref (refs/heads/…, refs/tags/…) starts the workflow.
func (p *Push) Matches(ref string) bool {
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		return matches(branch, p.branches, p.branchesIgnore, p.branchFilter, p.tagFilter)
	}
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return matches(tag, p.tags, p.tagsIgnore, p.tagFilter, p.branchFilter)
	}
	return false
}

// matches applies the filters of one kind of ref. A workflow that filters only the other kind does not run for this one.
func matches(name string, only, ignore []string, filtered, otherFiltered bool) bool {
	if !filtered {
		return !otherFiltered
	}
	if only != nil {
		return lastMatch(only, name)
	}
	return !lastMatch(ignore, name)
}

// lastMatch applies patterns in order; one that begins with ! takes a match away.
func lastMatch(patterns []string, name string) bool {
	hit := false
	for _, p := range patterns {
		negative := strings.HasPrefix(p, "!")
		if ok, err := doublestar.Match(strings.TrimPrefix(p, "!"), name); err == nil && ok {
			hit = !negative
		}
	}
	return hit
}
