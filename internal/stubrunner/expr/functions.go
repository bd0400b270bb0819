// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rhysd/actionlint"
)

// function is one entry of the language's library: its number of arguments and its body.
type function struct {
	min, max int
	body     func(args []any, scope Scope) (any, error)
}

func lookup(name string) (function, bool) {
	switch strings.ToLower(name) {
	case "contains":
		return function{2, 2, contains}, true
	case "startswith":
		return function{2, 2, startsWith}, true
	case "endswith":
		return function{2, 2, endsWith}, true
	case "format":
		return function{1, 255, format}, true
	case "join":
		return function{1, 2, join}, true
	case "tojson":
		return function{1, 1, func(a []any, _ Scope) (any, error) { return ToJSON(a[0]), nil }}, true
	case "fromjson":
		return function{1, 1, func(a []any, _ Scope) (any, error) { return FromJSON([]byte(ToString(a[0]))) }}, true
	case "hashfiles":
		return function{1, 255, hashFiles}, true
	case "case":
		return function{3, 255, caseOf}, true
	default:
		return lookupStatus(name)
	}
}

func lookupStatus(name string) (function, bool) {
	switch strings.ToLower(name) {
	case "always":
		return function{0, 0, func([]any, Scope) (any, error) { return true, nil }}, true
	case "success":
		return function{0, 0, func(_ []any, s Scope) (any, error) { return s.Own == Success || s.Own == "", nil }}, true
	case "failure":
		return function{0, 0, func(_ []any, s Scope) (any, error) { return s.Own == Failure, nil }}, true
	case "cancelled":
		return function{0, 0, func(_ []any, s Scope) (any, error) { return s.Job == Cancelled, nil }}, true
	default:
		return function{}, false
	}
}

func (e *Expr) call(n *actionlint.FuncCallNode, scope Scope) (any, error) {
	f, ok := lookup(n.Callee)
	if !ok {
		return nil, fmt.Errorf("unrecognized function: '%s'", n.Callee)
	}
	if len(n.Args) < f.min || len(n.Args) > f.max {
		return nil, fmt.Errorf("function '%s' does not take %d arguments", n.Callee, len(n.Args))
	}
	args := make([]any, len(n.Args))
	for i, a := range n.Args {
		v, err := e.eval(a, scope)
		if err != nil {
			return nil, err
		}
		args[i] = v
	}
	return f.body(args, scope)
}

func contains(args []any, _ Scope) (any, error) {
	if primitive(args[0]) {
		if !primitive(args[1]) {
			return false, nil
		}
		return strings.Contains(strings.ToUpper(ToString(args[0])), strings.ToUpper(ToString(args[1]))), nil
	}
	if arr, ok := args[0].(*Array); ok {
		for _, it := range arr.Items {
			if Equal(args[1], it) {
				return true, nil
			}
		}
	}
	return false, nil
}

func startsWith(args []any, _ Scope) (any, error) {
	return primitive(args[0]) && primitive(args[1]) &&
		strings.HasPrefix(strings.ToUpper(ToString(args[0])), strings.ToUpper(ToString(args[1]))), nil
}

func endsWith(args []any, _ Scope) (any, error) {
	return primitive(args[0]) && primitive(args[1]) &&
		strings.HasSuffix(strings.ToUpper(ToString(args[0])), strings.ToUpper(ToString(args[1]))), nil
}

func join(args []any, _ Scope) (any, error) {
	sep := ","
	if len(args) > 1 && primitive(args[1]) {
		sep = ToString(args[1])
	}
	arr, ok := args[0].(*Array)
	if !ok {
		if primitive(args[0]) {
			return ToString(args[0]), nil
		}
		return "", nil
	}
	parts := make([]string, len(arr.Items))
	for i, it := range arr.Items {
		parts[i] = ToString(it)
	}
	return strings.Join(parts, sep), nil
}

func caseOf(args []any, _ Scope) (any, error) {
	if len(args)%2 == 0 {
		return nil, errors.New("function 'case' needs pairs and a default")
	}
	for i := 0; i+1 < len(args); i += 2 {
		if Truthy(args[i]) {
			return args[i+1], nil
		}
	}
	return args[len(args)-1], nil
}

func hashFiles(args []any, scope Scope) (any, error) {
	if scope.HashFiles == nil {
		return nil, errors.New("unrecognized function: 'hashFiles'")
	}
	patterns := make([]string, len(args))
	for i, a := range args {
		patterns[i] = ToString(a)
	}
	return scope.HashFiles(patterns)
}

// format replaces {0}, {1} … in the first argument; {{ and }} are the braces themselves.
func format(args []any, _ Scope) (any, error) {
	text := ToString(args[0])
	var out strings.Builder
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c != '{' && c != '}':
			out.WriteByte(c)
			i++
		case i+1 < len(text) && text[i+1] == c:
			out.WriteByte(c)
			i += 2
		case c == '}':
			return nil, fmt.Errorf("the format string is not valid: %s", text)
		default:
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return nil, fmt.Errorf("the format string is not valid: %s", text)
			}
			n, err := strconv.ParseUint(text[i+1:i+end], 10, 8)
			if err != nil {
				return nil, fmt.Errorf("the format string is not valid: %s", text)
			}
			if int(n) > len(args)-2 {
				return nil, fmt.Errorf("the format string names more arguments than there are: %s", text)
			}
			out.WriteString(ToString(args[n+1]))
			i += end + 1
		}
	}
	return out.String(), nil
}
