// SPDX-License-Identifier: Apache-2.0

package workflow

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rhysd/actionlint"
	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
)

const (
	open = "${{"
	shut = "}}"
)

// token converts a YAML node to template tokens; every scalar is a string or an expression, as in env and with.
func token(node *yaml.Node) (*jobmessage.Token, error) {
	switch node.Kind {
	case yaml.AliasNode:
		return token(node.Alias)
	case yaml.ScalarNode:
		return scalar(node)
	case yaml.SequenceNode:
		out := &jobmessage.Token{Kind: jobmessage.KindSequence, Pos: position(node)}
		for _, n := range node.Content {
			t, err := token(n)
			if err != nil {
				return nil, err
			}
			out.Seq = append(out.Seq, t)
		}
		return out, nil
	case yaml.MappingNode:
		out := &jobmessage.Token{Kind: jobmessage.KindMapping, Pos: position(node)}
		for i := 0; i+1 < len(node.Content); i += 2 {
			k, v := node.Content[i], node.Content[i+1]
			if strings.Contains(k.Value, open) {
				return nil, &UnsupportedError{"an expression as a key", k.Line}
			}
			value, err := token(v)
			if err != nil {
				return nil, err
			}
			key := &jobmessage.Token{Kind: jobmessage.KindString, Pos: position(k), Lit: k.Value}
			out.Map = append(out.Map, jobmessage.Pair{Key: key, Value: value})
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: line %d: unexpected YAML", ErrInvalid, node.Line)
}

// scalar converts one string: without ${{ }} it is a literal, with exactly one it is that expression, mixed it is a call of
// format with the literal parts in the format string (TemplateReader.ParseScalar).
func scalar(node *yaml.Node) (*jobmessage.Token, error) {
	pos := position(node)
	parts, err := split(node.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: line %d: %w", ErrInvalid, node.Line, err)
	}
	if len(parts) == 0 || len(parts) == 1 && !parts[0].expression {
		return &jobmessage.Token{Kind: jobmessage.KindString, Pos: pos, Lit: node.Value}, nil
	}
	if len(parts) == 1 {
		return &jobmessage.Token{Kind: jobmessage.KindExpression, Pos: pos, Expr: parts[0].text}, nil
	}
	var text strings.Builder
	var args []string
	for _, p := range parts {
		if p.expression {
			fmt.Fprintf(&text, "{%d}", len(args))
			args = append(args, p.text)
			continue
		}
		text.WriteString(strings.NewReplacer("'", "''", "{", "{{", "}", "}}").Replace(p.text))
	}
	expr := "format('" + text.String() + "', " + strings.Join(args, ", ") + ")"
	return &jobmessage.Token{Kind: jobmessage.KindExpression, Pos: pos, Expr: expr}, nil
}

// typed converts a scalar that may also be a boolean or a number (continue-on-error, timeout-minutes).
func typed(node *yaml.Node) (*jobmessage.Token, error) {
	switch node.Tag {
	case "!!bool":
		b, err := strconv.ParseBool(strings.ToLower(node.Value))
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrInvalid, node.Line, err)
		}
		return &jobmessage.Token{Kind: jobmessage.KindBoolean, Pos: position(node), Bool: b}, nil
	case "!!int", "!!float":
		f, err := strconv.ParseFloat(node.Value, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrInvalid, node.Line, err)
		}
		return &jobmessage.Token{Kind: jobmessage.KindNumber, Pos: position(node), Num: f}, nil
	}
	return scalar(node)
}

func position(node *yaml.Node) jobmessage.Position {
	return jobmessage.Position{File: 1, Line: node.Line, Col: node.Column}
}

type part struct {
	text       string
	expression bool
}

// split cuts a string at its ${{ }} and parses each expression. Quoted text inside an expression may contain }}.
func split(s string) ([]part, error) {
	var out []part
	for s != "" {
		i := strings.Index(s, open)
		if i < 0 {
			return append(out, part{text: s}), nil
		}
		if i > 0 {
			out = append(out, part{text: s[:i]})
		}
		s = s[i+len(open):]
		end := closing(s)
		if end < 0 {
			return nil, fmt.Errorf("an expression is not closed by }}")
		}
		expr := strings.TrimSpace(s[:end])
		if _, err := parse(expr); err != nil {
			return nil, err
		}
		out = append(out, part{text: expr, expression: true})
		s = s[end+len(shut):]
	}
	return out, nil
}

func closing(s string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case !quoted && strings.HasPrefix(s[i:], shut):
			return i
		}
	}
	return -1
}

// parse checks an expression's syntax and returns its tree.
func parse(expr string) (actionlint.ExprNode, error) {
	node, fault := actionlint.NewExprParser().Parse(actionlint.NewExprLexer(expr + shut))
	if fault != nil {
		return nil, fmt.Errorf("expression %q: %s", expr, fault.Message)
	}
	return node, nil
}

// condition converts the if of a step: without a status function, success() is demanded as well.
func condition(node *yaml.Node) (string, error) {
	if node == nil {
		return "success()", nil
	}
	expr := strings.TrimSpace(node.Value)
	if strings.Contains(expr, open) {
		t, err := scalar(node)
		if err != nil {
			return "", err
		}
		expr = t.Expr
	}
	if expr == "" {
		return "success()", nil
	}
	tree, err := parse(expr)
	if err != nil {
		return "", fmt.Errorf("%w: line %d: %w", ErrInvalid, node.Line, err)
	}
	status := false
	actionlint.VisitExprNode(tree, func(n, _ actionlint.ExprNode, _ bool) {
		if call, ok := n.(*actionlint.FuncCallNode); ok {
			switch strings.ToLower(call.Callee) {
			case "success", "failure", "cancelled", "always":
				status = true
			}
		}
	})
	if status {
		return expr, nil
	}
	return "success() && (" + expr + ")", nil
}
