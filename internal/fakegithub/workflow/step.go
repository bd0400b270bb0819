// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
)

// steps converts the steps of a job. Steps without an id get the names the service makes up: __run, __run_2,
// __owner_repo, __self.
func steps(node *yaml.Node) ([]jobmessage.Step, error) {
	if node == nil || node.Kind != yaml.SequenceNode || len(node.Content) == 0 {
		return nil, fmt.Errorf("%w: a job needs at least one step", ErrInvalid)
	}
	taken := map[string]bool{}
	for _, n := range node.Content {
		if id := child(n, "id"); id != nil {
			if taken[strings.ToLower(id.Value)] {
				return nil, fmt.Errorf("%w: line %d: step id %q is used twice", ErrInvalid, id.Line, id.Value)
			}
			taken[strings.ToLower(id.Value)] = true
		}
	}
	var out []jobmessage.Step
	for _, n := range node.Content {
		s, err := step(n)
		if err != nil {
			return nil, fmt.Errorf("step at line %d: %w", n.Line, err)
		}
		if id := child(n, "id"); id != nil {
			s.Name = id.Value
		} else {
			s.Name = unique(generated(s.Reference), taken)
		}
		s.ContextName = s.Name
		out = append(out, s)
	}
	return out, nil
}

func step(node *yaml.Node) (jobmessage.Step, error) {
	s := jobmessage.Step{Type: "action"}
	var err error
	if s.Condition, err = condition(child(node, "if")); err != nil {
		return s, err
	}
	for _, f := range []struct {
		key  string
		conv func(*yaml.Node) (*jobmessage.Token, error)
		into **jobmessage.Token
	}{
		{"name", scalar, &s.DisplayNameToken},
		{"env", token, &s.Environment},
		{"continue-on-error", typed, &s.ContinueOnError},
		{"timeout-minutes", typed, &s.TimeoutInMinutes},
	} {
		n := child(node, f.key)
		if n == nil {
			continue
		}
		if *f.into, err = f.conv(n); err != nil {
			return s, fmt.Errorf("%s: %w", f.key, err)
		}
	}
	if run := child(node, "run"); run != nil {
		s.Reference = jobmessage.Reference{Type: "script"}
		s.Inputs, err = script(node)
		return s, err
	}
	if s.Reference, err = reference(child(node, "uses")); err != nil {
		return s, err
	}
	if with := child(node, "with"); with != nil {
		s.Inputs, err = token(with)
	}
	return s, err
}

// script gathers the inputs of a run step under the names the runner knows.
func script(node *yaml.Node) (*jobmessage.Token, error) {
	out := &jobmessage.Token{Kind: jobmessage.KindMapping}
	for _, f := range []struct{ key, name string }{
		{"run", "script"}, {"working-directory", "workingDirectory"}, {"shell", "shell"},
	} {
		n := child(node, f.key)
		if n == nil {
			continue
		}
		t, err := scalar(n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.key, err)
		}
		out.Map = append(out.Map, jobmessage.Pair{Key: jobmessage.String(f.name), Value: t})
	}
	return out, nil
}

// reference reads uses: owner/repo[/path]@ref, ./path, or docker://image.
func reference(node *yaml.Node) (jobmessage.Reference, error) {
	if node == nil {
		return jobmessage.Reference{}, fmt.Errorf("%w: neither run nor uses", ErrInvalid)
	}
	uses := node.Value
	if image, ok := strings.CutPrefix(uses, "docker://"); ok {
		return jobmessage.Reference{Type: "containerRegistry", Image: image}, nil
	}
	if strings.HasPrefix(uses, "./") {
		return jobmessage.Reference{Type: "repository", RepositoryType: "self", Path: &uses}, nil
	}
	name, ref, ok := strings.Cut(uses, "@")
	parts := strings.SplitN(name, "/", 3)
	if !ok || ref == "" || len(parts) < 2 || parts[0] == "" || parts[1] == "" || strings.Contains(uses, open) {
		return jobmessage.Reference{}, fmt.Errorf("%w: line %d: %q is not owner/repo@ref", ErrInvalid, node.Line, uses)
	}
	path := ""
	if len(parts) == 3 {
		path = parts[2]
	}
	return jobmessage.Reference{Type: "repository", Name: parts[0] + "/" + parts[1], Ref: ref, RepositoryType: "GitHub", Path: &path}, nil
}

func generated(r jobmessage.Reference) string {
	switch {
	case r.Type == "script":
		return "__run"
	case r.RepositoryType == "self":
		return "__self"
	case r.Type == "repository":
		return "__" + strings.NewReplacer("/", "_", ".", "_").Replace(r.Name)
	}
	return "__" + strings.NewReplacer("/", "_", ".", "_", ":", "_").Replace(r.Image)
}

func unique(name string, taken map[string]bool) string {
	candidate := name
	for i := 2; taken[strings.ToLower(candidate)]; i++ {
		candidate = fmt.Sprintf("%s_%d", name, i)
	}
	taken[strings.ToLower(candidate)] = true
	return candidate
}
