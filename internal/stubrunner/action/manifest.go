// SPDX-License-Identifier: Apache-2.0

package action

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kettle/attest/internal/stubrunner/message"
	"github.com/kettle/attest/internal/stubrunner/token"
	"go.yaml.in/yaml/v3"
)

// Contexts are the contexts that a composite action's files may use in steps.
func Contexts() []string {
	return []string{"github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"}
}

// DefaultContexts are the contexts that the default of an input may use.
func DefaultContexts() []string { return []string{"github", "strategy", "matrix", "job", "runner"} }

// Manifest is an action.yml.
type Manifest struct {
	// Name is the action's title.
	Name string
	// Using is "composite", "docker" or "node…".
	Using string
	// Inputs are the declared inputs in order.
	Inputs []Input
	// Outputs are the declared outputs of a composite action.
	Outputs []Output
	// Steps are the steps of a composite action.
	Steps []message.Step
}

// Input is one declared input.
type Input struct {
	// Name is the input's name.
	Name string
	// Default is the value when the user gives none; empty text when the file has none.
	Default token.Token
	// Deprecated is the message for users who set it.
	Deprecated string
}

// Output is one declared output.
type Output struct {
	// Name is the output's name.
	Name string
	// Value is its expression.
	Value token.Token
}

// ErrNoManifest says that a folder holds no action.
var ErrNoManifest = errors.New("can't find 'action.yml', 'action.yaml' or 'Dockerfile'")

const maxManifest = 1 << 20

// Load reads the action in a folder.
func Load(dir string) (*Manifest, error) {
	for _, name := range []string{"action.yml", "action.yaml"} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if info.Size() > maxManifest {
			return nil, fmt.Errorf("reading %s: larger than %d bytes", path, maxManifest)
		}
		text, err := os.ReadFile(path) //nolint:gosec // The workflow chooses its actions.
		if err != nil {
			return nil, fmt.Errorf("reading action file: %w", err)
		}
		m, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("failed to load %s: %w", path, err)
		}
		return m, nil
	}
	for _, name := range []string{"Dockerfile", "dockerfile"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return &Manifest{Using: "docker"}, nil
		}
	}
	return nil, fmt.Errorf("%w under '%s'. Did you forget to run actions/checkout before running your local action?",
		ErrNoManifest, dir)
}

// Parse reads the text of an action.yml.
func Parse(text []byte) (*Manifest, error) {
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		return nil, fmt.Errorf("reading yaml: %w", err)
	}
	if node.Kind != yaml.DocumentNode || len(node.Content) == 0 || node.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("the file is not a mapping")
	}
	root := node.Content[0]
	m := &Manifest{}
	if n := child(root, "name"); n != nil {
		m.Name = n.Value
	}
	runs := child(root, "runs")
	if runs == nil {
		return nil, errors.New("top level 'runs:' section is required")
	}
	using := child(runs, "using")
	if using == nil {
		return nil, errors.New("missing 'using' value")
	}
	m.Using = strings.ToLower(using.Value)
	if err := m.readInputs(child(root, "inputs")); err != nil {
		return nil, err
	}
	if m.Using != "composite" {
		return m, nil
	}
	if err := m.readOutputs(child(root, "outputs")); err != nil {
		return nil, err
	}
	return m, m.readSteps(child(runs, "steps"))
}

// child returns the value of a mapping's key.
func child(node *yaml.Node, key string) *yaml.Node {
	if node == nil || node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i+1]
		}
	}
	return nil
}

func (m *Manifest) readInputs(node *yaml.Node) error {
	if node == nil {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		in := Input{Name: node.Content[i].Value, Default: token.String("")}
		if n := child(node.Content[i+1], "default"); n != nil {
			t, err := token.FromYAML(n)
			if err != nil {
				return fmt.Errorf("input '%s': %w", in.Name, err)
			}
			if t.Kind == token.Boolean || t.Kind == token.Number {
				t = token.String(n.Value) // the schema wants text: as written
			}
			in.Default = t
		}
		if n := child(node.Content[i+1], "deprecationMessage"); n != nil {
			in.Deprecated = n.Value
		}
		m.Inputs = append(m.Inputs, in)
	}
	return nil
}

func (m *Manifest) readOutputs(node *yaml.Node) error {
	if node == nil {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		n := child(node.Content[i+1], "value")
		if n == nil {
			continue
		}
		t, err := token.FromYAML(n)
		if err != nil {
			return fmt.Errorf("output '%s': %w", node.Content[i].Value, err)
		}
		m.Outputs = append(m.Outputs, Output{Name: node.Content[i].Value, Value: t})
	}
	return nil
}

func (m *Manifest) readSteps(node *yaml.Node) error {
	if node == nil || node.Kind != yaml.SequenceNode {
		return errors.New("you are using a composite action but there are no steps provided")
	}
	var names []string
	for _, n := range node.Content {
		step, err := readStep(n)
		if err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		step.ContextName = uniqueName(step.ContextName, names)
		step.Name = step.ContextName
		names = append(names, step.ContextName)
		m.Steps = append(m.Steps, step)
	}
	return nil
}

func uniqueName(name string, taken []string) string {
	candidate := name
	for i := 2; slices.Contains(taken, candidate); i++ {
		candidate = fmt.Sprintf("%s_%d", name, i)
	}
	return candidate
}
