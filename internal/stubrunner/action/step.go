// SPDX-License-Identifier: Apache-2.0

package action

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/token"
	"go.yaml.in/yaml/v3"
)

// readStep turns one step of a composite action into a job's step.
func readStep(node *yaml.Node) (message.Step, error) {
	step := message.Step{ID: uuid.NewString()}
	run, uses := child(node, "run"), child(node, "uses")
	switch {
	case run != nil && uses != nil:
		return step, errors.New("a step has both 'run' and 'uses'")
	case run != nil:
		step.Reference.Type = message.SourceScript
	case uses != nil:
		ref, err := ParseReference(uses.Value)
		if err != nil {
			return step, err
		}
		step.Reference = ref
	default:
		return step, errors.New("a step needs 'run' or 'uses'")
	}
	var err error
	if step.Condition, err = condition(child(node, "if")); err != nil {
		return step, err
	}
	targets := map[string]**token.Token{
		"name": &step.DisplayNameToken, "env": &step.Environment, "with": &step.Inputs,
		"continue-on-error": &step.ContinueOnError, "timeout-minutes": &step.TimeoutInMinutes,
	}
	for key, target := range targets {
		if err := readToken(child(node, key), target); err != nil {
			return step, fmt.Errorf("'%s': %w", key, err)
		}
	}
	if run != nil {
		if step.Inputs, err = scriptInputs(node); err != nil {
			return step, err
		}
	}
	step.ContextName = contextName(child(node, "id"), step.Reference)
	return step, nil
}

func readToken(node *yaml.Node, target **token.Token) error {
	if node == nil {
		return nil
	}
	t, err := token.FromYAML(node)
	if err != nil {
		return err
	}
	*target = &t
	return nil
}

func scriptInputs(node *yaml.Node) (*token.Token, error) {
	inputs := &token.Token{Kind: token.Mapping}
	for _, pair := range [][2]string{{"run", "script"}, {"shell", "shell"}, {"working-directory", "workingDirectory"}} {
		n := child(node, pair[0])
		if n == nil {
			if pair[0] == "shell" {
				return nil, errors.New("required property is missing: shell")
			}
			continue
		}
		t, err := token.FromYAML(n)
		if err != nil {
			return nil, err
		}
		inputs.Pairs = append(inputs.Pairs, token.Pair{Key: token.String(pair[1]), Value: t})
	}
	return inputs, nil
}

// condition reads "if": the expression with success() added when it asks for no status.
func condition(node *yaml.Node) (string, error) {
	if node == nil || strings.TrimSpace(node.Value) == "" {
		return "success()", nil
	}
	source := node.Value
	if strings.Contains(source, "${{") {
		t, err := token.Parse(strings.TrimSpace(source))
		if err != nil {
			return "", err
		}
		if t.Kind == token.Expression {
			source = t.Value
		}
	}
	parsed, err := expr.Parse(source)
	if err != nil {
		return "", err
	}
	if parsed.CallsStatus() {
		return source, nil
	}
	return "success() && (" + source + ")", nil
}

func contextName(id *yaml.Node, ref message.Reference) string {
	if id != nil && id.Value != "" {
		return id.Value
	}
	if ref.Type == message.SourceScript {
		return "__run"
	}
	name := ref.Name
	if ref.Local() {
		name = ref.Path
	}
	return "__" + strings.Trim(strings.Map(func(r rune) rune {
		if r == '/' || r == '.' {
			return '_'
		}
		return r
	}, name), "_")
}

// ParseReference reads the text of "uses".
func ParseReference(uses string) (message.Reference, error) {
	if image, ok := strings.CutPrefix(uses, "docker://"); ok {
		return message.Reference{Type: message.SourceContainer, Image: image}, nil
	}
	if strings.HasPrefix(uses, "./") || strings.HasPrefix(uses, ".\\") {
		return message.Reference{Type: message.SourceRepository, RepositoryType: "self", Path: uses}, nil
	}
	full, ref, ok := strings.Cut(uses, "@")
	parts := strings.SplitN(full, "/", 3)
	if !ok || ref == "" || len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return message.Reference{}, fmt.Errorf("expected format {org}/{repo}[/path]@ref. Actual '%s'", uses)
	}
	r := message.Reference{
		Type: message.SourceRepository, RepositoryType: "GitHub", Name: parts[0] + "/" + parts[1], Ref: ref,
	}
	if len(parts) == 3 {
		r.Path = parts[2]
	}
	return r, nil
}
