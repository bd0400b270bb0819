// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rhysd/actionlint"
)

// Status is the state that success, failure and cancelled ask for.
type Status string

// The states of a job or of a composite action.
const (
	Success   Status = "success"
	Failure   Status = "failure"
	Cancelled Status = "cancelled"
	Skipped   Status = "skipped"
)

// Scope is what an expression can see.
type Scope struct {
	// Contexts are the named values, for example github and env. A context that is allowed and absent is null.
	Contexts map[string]any
	// Allowed are the context names the place of the expression permits; nil permits every context of a job.
	Allowed []string
	// Own answers success and failure: the composite action's state inside one, else the job's.
	Own Status
	// Job answers cancelled.
	Job Status
	// HashFiles computes hashFiles; nil makes the function unknown.
	HashFiles func(patterns []string) (string, error)
}

// jobContexts are the contexts of a job's steps.
var jobContexts = []string{
	"github", "inputs", "vars", "env", "steps", "job", "runner", "secrets", "needs", "matrix", "strategy",
}

// ErrEvaluate is matched by every error of evaluation.
var ErrEvaluate = errors.New("the expression can't be evaluated")

// Eval computes the value.
func (e *Expr) Eval(scope Scope) (any, error) {
	v, err := e.eval(e.root, scope)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrEvaluate, e.source, err)
	}
	return v, nil
}

// Eval parses and computes an expression in one step.
func Eval(source string, scope Scope) (any, error) {
	e, err := Parse(source)
	if err != nil {
		return nil, err
	}
	return e.Eval(scope)
}

func (e *Expr) eval(node actionlint.ExprNode, scope Scope) (any, error) {
	switch n := node.(type) {
	case *actionlint.NullNode:
		return nil, nil //nolint:nilnil // null is a value of the language.
	case *actionlint.BoolNode:
		return n.Value, nil
	case *actionlint.IntNode:
		return float64(n.Value), nil
	case *actionlint.FloatNode:
		return n.Value, nil
	case *actionlint.StringNode:
		return n.Value, nil
	case *actionlint.VariableNode:
		return named(n, scope)
	case *actionlint.NotOpNode:
		v, err := e.eval(n.Operand, scope)
		return !Truthy(v), err
	case *actionlint.LogicalOpNode:
		return e.logical(n, scope)
	case *actionlint.CompareOpNode:
		return e.compare(n, scope)
	case *actionlint.FuncCallNode:
		return e.call(n, scope)
	default:
		return e.access(node, scope)
	}
}

func (e *Expr) access(node actionlint.ExprNode, scope Scope) (any, error) {
	switch n := node.(type) {
	case *actionlint.ObjectDerefNode:
		recv, err := e.eval(n.Receiver, scope)
		if err != nil {
			return nil, err
		}
		return property(recv, e.names[n]), nil
	case *actionlint.ArrayDerefNode:
		recv, err := e.eval(n.Receiver, scope)
		if err != nil {
			return nil, err
		}
		return wildcard(recv), nil
	case *actionlint.IndexAccessNode:
		recv, err := e.eval(n.Operand, scope)
		if err != nil {
			return nil, err
		}
		idx, err := e.eval(n.Index, scope)
		if err != nil {
			return nil, err
		}
		return property(recv, idx), nil
	default:
		return nil, fmt.Errorf("%T is not known", node)
	}
}

func named(n *actionlint.VariableNode, scope Scope) (any, error) {
	switch n.Token().Value {
	case "NaN":
		return math.NaN(), nil
	case "Infinity":
		return math.Inf(1), nil
	}
	allowed := scope.Allowed
	if allowed == nil {
		allowed = jobContexts
	}
	if !slices.Contains(allowed, n.Name) {
		return nil, fmt.Errorf("unrecognized named-value: '%s'", n.Token().Value)
	}
	return scope.Contexts[n.Name], nil
}

func (e *Expr) logical(n *actionlint.LogicalOpNode, scope Scope) (any, error) {
	left, err := e.eval(n.Left, scope)
	if err != nil {
		return nil, err
	}
	if Truthy(left) == (n.Kind == actionlint.LogicalOpNodeKindOr) {
		return left, nil
	}
	return e.eval(n.Right, scope)
}

func (e *Expr) compare(n *actionlint.CompareOpNode, scope Scope) (any, error) {
	left, err := e.eval(n.Left, scope)
	if err != nil {
		return nil, err
	}
	right, err := e.eval(n.Right, scope)
	if err != nil {
		return nil, err
	}
	c, ordered := order(left, right)
	switch n.Kind {
	case actionlint.CompareOpNodeKindEq:
		return Equal(left, right), nil
	case actionlint.CompareOpNodeKindNotEq:
		return !Equal(left, right), nil
	case actionlint.CompareOpNodeKindLess:
		return ordered && c < 0, nil
	case actionlint.CompareOpNodeKindGreater:
		return ordered && c > 0, nil
	case actionlint.CompareOpNodeKindLessEq:
		return ordered && c < 0 || Equal(left, right), nil
	case actionlint.CompareOpNodeKindGreaterEq:
		return ordered && c > 0 || Equal(left, right), nil
	default:
		return nil, errors.New("comparison is not known")
	}
}

// property reads recv[index]; what is not there is null. After ".*" it applies to each item.
func property(recv, index any) any {
	switch r := recv.(type) {
	case *Object:
		if !primitive(index) {
			return nil
		}
		v, _ := r.Get(ToString(index))
		return v
	case *Array:
		if !r.filtered {
			v, _ := item(r, index)
			return v
		}
		out := &Array{filtered: true}
		for _, it := range r.Items {
			switch it := it.(type) {
			case *Object:
				if v, ok := it.Get(ToString(index)); ok && primitive(index) {
					out.Items = append(out.Items, v)
				}
			case *Array:
				if v, ok := item(it, index); ok {
					out.Items = append(out.Items, v)
				}
			}
		}
		return out
	default:
		return nil
	}
}

func item(a *Array, index any) (any, bool) {
	f := math.Floor(ToNumber(index))
	if math.IsNaN(f) || f < 0 || f >= float64(len(a.Items)) {
		return nil, false
	}
	return a.Items[int(f)], true
}

func wildcard(recv any) *Array {
	out := &Array{filtered: true}
	switch r := recv.(type) {
	case *Object:
		out.Items = append(out.Items, r.vals...)
	case *Array:
		if !r.filtered {
			out.Items = append(out.Items, r.Items...)
			return out
		}
		for _, it := range r.Items {
			out.Items = append(out.Items, wildcard(it).Items...)
		}
	}
	return out
}

// Condition evaluates a step's condition to true or false. The empty condition is success().
func Condition(source string, scope Scope) (bool, error) {
	if strings.TrimSpace(source) == "" {
		source = "success()"
	}
	v, err := Eval(source, scope)
	return Truthy(v), err
}
