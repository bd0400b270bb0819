// SPDX-License-Identifier: Apache-2.0

// Package workflow reads an unchanged workflow file into what GitHub's service would send to a runner.
//
// Syntax is judged by actionlint; every expression is parsed, none is evaluated: the runner evaluates them, as with the
// real service, so they leave here as expression tokens. What the service itself would have to evaluate or expand
// (matrix, reusable workflows, job conditions, environments, expressions in runs-on) is refused by name with an
// [UnsupportedError], never ignored; only concurrency and run-name have no effect. The package trusts nothing in the file.
package workflow

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
)

// ErrInvalid is matched by every error about a file that GitHub would refuse as well.
var ErrInvalid = errors.New("invalid workflow file")

// UnsupportedError names a feature that is right on GitHub and that this package does not carry out.
type UnsupportedError struct {
	Feature string
	Line    int
}

// Error says which feature, and where.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("line %d: %s is not supported by this stand-in", e.Line, e.Feature)
}

// Workflow is one workflow file.
type Workflow struct {
	Path     string // as in the repository, for example ".github/workflows/build.yml"
	Name     string // the name key, or the path
	Dispatch *Dispatch
	Push     *Push
	Jobs     []Job // in file order
}

// Job is one job of a workflow.
type Job struct {
	Key            string // the key under jobs
	Name           string // the name key, or the key
	Needs          []string
	Labels         []string    // runs-on
	Permissions    Permissions // meaningful only with HasPermissions
	HasPermissions bool        // permissions given for the job or for the workflow
	Env            []*jobmessage.Token
	Defaults       []*jobmessage.Token
	Outputs        *jobmessage.Token
	Container      *jobmessage.Token // as written; the runner evaluates it
	Services       *jobmessage.Token
	Steps          []jobmessage.Step // without identifiers
}

// Parse reads a workflow file. The error matches [ErrInvalid], or is an [*UnsupportedError].
func Parse(path string, content []byte) (*Workflow, error) {
	ast, faults := actionlint.Parse(content)
	if len(faults) > 0 {
		all := make([]error, 0, len(faults))
		for _, f := range faults {
			all = append(all, fmt.Errorf("%w: %s: line %d, column %d: %s", ErrInvalid, path, f.Line, f.Column, f.Message))
		}
		return nil, errors.Join(all...)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, path, err)
	}
	w, err := read(path, ast, doc.Content[0])
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return w, nil
}

func read(path string, ast *actionlint.Workflow, root *yaml.Node) (*Workflow, error) {
	w := &Workflow{Path: path, Name: path}
	if ast.Name != nil && ast.Name.Value != "" {
		w.Name = ast.Name.Value
	}
	if err := triggers(w, ast); err != nil {
		return nil, err
	}
	base, err := inherited(root)
	if err != nil {
		return nil, err
	}
	jobs := child(root, "jobs")
	for i := 0; i+1 < len(jobs.Content); i += 2 {
		key := jobs.Content[i].Value
		j, ok := ast.Jobs[strings.ToLower(key)]
		if !ok {
			return nil, fmt.Errorf("%w: job %q has no definition", ErrInvalid, key)
		}
		if j.Permissions == nil {
			j.Permissions = ast.Permissions
		}
		job, err := readJob(j, jobs.Content[i+1], base)
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", key, err)
		}
		w.Jobs = append(w.Jobs, job)
	}
	return w, checkNeeds(w.Jobs)
}

// layer is what a workflow gives to all its jobs.
type layer struct{ env, defaults []*jobmessage.Token }

func inherited(node *yaml.Node) (layer, error) {
	var l layer
	for name, into := range map[string]*[]*jobmessage.Token{"env": &l.env, "defaults": &l.defaults} {
		n := child(node, name)
		if n == nil {
			continue
		}
		t, err := token(n)
		if err != nil {
			return layer{}, fmt.Errorf("%s: %w", name, err)
		}
		*into = append(*into, t)
	}
	return l, nil
}

func readJob(j *actionlint.Job, node *yaml.Node, base layer) (Job, error) {
	if err := unsupported(node); err != nil {
		return Job{}, err
	}
	job := Job{Key: j.ID.Value, Name: j.ID.Value}
	if j.Name != nil {
		if strings.Contains(j.Name.Value, open) {
			return Job{}, &UnsupportedError{"an expression in a job's name", j.Name.Pos.Line}
		}
		job.Name = j.Name.Value
	}
	var err error
	if job.Labels, err = labels(j); err != nil {
		return Job{}, err
	}
	for _, n := range j.Needs {
		job.Needs = append(job.Needs, n.Value)
	}
	if j.Permissions != nil {
		job.HasPermissions = true
		if job.Permissions, err = permissions(j.Permissions); err != nil {
			return Job{}, err
		}
	}
	own, err := inherited(node)
	if err != nil {
		return Job{}, err
	}
	job.Env = append(append(job.Env, base.env...), own.env...)
	job.Defaults = append(append(job.Defaults, base.defaults...), own.defaults...)
	for name, into := range map[string]**jobmessage.Token{"outputs": &job.Outputs, "container": &job.Container, "services": &job.Services} {
		if n := child(node, name); n != nil {
			if *into, err = token(n); err != nil {
				return Job{}, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	job.Steps, err = steps(child(node, "steps"))
	return job, err
}

// unsupported refuses the job keys that GitHub's service evaluates or expands itself.
func unsupported(node *yaml.Node) error {
	for i := 0; i+1 < len(node.Content); i += 2 {
		switch k := node.Content[i]; k.Value {
		case "strategy", "uses", "if", "environment", "continue-on-error", "snapshot":
			return &UnsupportedError{"jobs.<job>." + k.Value, k.Line}
		}
	}
	return nil
}

func labels(j *actionlint.Job) ([]string, error) {
	if j.RunsOn == nil {
		return nil, fmt.Errorf("%w: line %d: runs-on is missing", ErrInvalid, j.Pos.Line)
	}
	if j.RunsOn.LabelsExpr != nil || j.RunsOn.Group != nil {
		return nil, &UnsupportedError{"an expression or a group in runs-on", j.Pos.Line}
	}
	var out []string
	for _, l := range j.RunsOn.Labels {
		if strings.Contains(l.Value, open) {
			return nil, &UnsupportedError{"an expression in runs-on", l.Pos.Line}
		}
		out = append(out, l.Value)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: line %d: runs-on names no label", ErrInvalid, j.Pos.Line)
	}
	return out, nil
}

// checkNeeds refuses unknown and circular needs.
func checkNeeds(jobs []Job) error {
	byKey := map[string]Job{}
	for _, j := range jobs {
		byKey[strings.ToLower(j.Key)] = j
	}
	state := map[string]int{} // 1 being visited, 2 done
	var visit func(key string) error
	visit = func(key string) error {
		switch state[key] {
		case 1:
			return fmt.Errorf("%w: job %q needs itself", ErrInvalid, key)
		case 2:
			return nil
		}
		state[key] = 1
		for _, n := range byKey[key].Needs {
			if _, ok := byKey[strings.ToLower(n)]; !ok {
				return fmt.Errorf("%w: job %q needs %q, which does not exist", ErrInvalid, key, n)
			}
			if err := visit(strings.ToLower(n)); err != nil {
				return err
			}
		}
		state[key] = 2
		return nil
	}
	keys := make([]string, 0, len(byKey))
	for k := range byKey {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		if err := visit(k); err != nil {
			return err
		}
	}
	return nil
}

// child returns the value of a key of a mapping node, or nil.
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
