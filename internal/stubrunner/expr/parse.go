// SPDX-License-Identifier: Apache-2.0

package expr

import (
	"errors"
	"fmt"
	"strings"

	"github.com/rhysd/actionlint"
)

// Expr is a parsed expression.
type Expr struct {
	source string
	root   actionlint.ExprNode
	names  map[*actionlint.ObjectDerefNode]string // spelling of each ".name"; the grammar lower-cases it
}

// maxLength is GitHub's limit on the text of one expression.
const maxLength = 21000

// ErrSyntax is matched by every error of [Parse].
var ErrSyntax = errors.New("the expression is not valid")

// Parse reads an expression without its "${{" and "}}".
func Parse(source string) (*Expr, error) {
	if strings.TrimSpace(source) == "" {
		return nil, fmt.Errorf("%w: an expression was expected", ErrSyntax)
	}
	if len(source) > maxLength {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrSyntax, maxLength)
	}
	text := source + "}}"
	lexer := actionlint.NewExprLexer(text)
	root, exprErr := actionlint.NewExprParser().Parse(lexer)
	if exprErr != nil {
		return nil, fmt.Errorf("%w: %s: %s", ErrSyntax, exprErr.Message, source)
	}
	if lexer.Offset() != len(text) {
		return nil, fmt.Errorf("%w: text after the end: %s", ErrSyntax, source)
	}
	e := &Expr{source: source, root: root, names: map[*actionlint.ObjectDerefNode]string{}}
	if err := e.recoverNames(text); err != nil {
		return nil, err
	}
	return e, nil
}

// recoverNames pairs the properties of the tree, visited receiver first, with the identifiers that follow a dot in the
// text: both are in the order of the text.
func (e *Expr) recoverNames(text string) error {
	tokens, _, err := actionlint.LexExpression(text)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrSyntax, err.Message)
	}
	var spelled []string
	for i, t := range tokens {
		if i > 0 && t.Kind == actionlint.TokenKindIdent && tokens[i-1].Kind == actionlint.TokenKindDot {
			spelled = append(spelled, t.Value)
		}
	}
	var nodes []*actionlint.ObjectDerefNode
	walk(e.root, func(node actionlint.ExprNode) {
		if deref, ok := node.(*actionlint.ObjectDerefNode); ok {
			nodes = append(nodes, deref)
		}
	})
	if len(nodes) != len(spelled) {
		return fmt.Errorf("%w: properties are ambiguous: %s", ErrSyntax, e.source)
	}
	for i, n := range nodes {
		if !strings.EqualFold(n.Property, spelled[i]) {
			return fmt.Errorf("%w: properties are ambiguous: %s", ErrSyntax, e.source)
		}
		e.names[n] = spelled[i]
	}
	return nil
}

// walk visits a tree in the order of its text, parts before the whole.
func walk(node actionlint.ExprNode, visit func(actionlint.ExprNode)) {
	switch n := node.(type) {
	case *actionlint.ObjectDerefNode:
		walk(n.Receiver, visit)
	case *actionlint.ArrayDerefNode:
		walk(n.Receiver, visit)
	case *actionlint.IndexAccessNode:
		walk(n.Operand, visit)
		walk(n.Index, visit)
	case *actionlint.NotOpNode:
		walk(n.Operand, visit)
	case *actionlint.CompareOpNode:
		walk(n.Left, visit)
		walk(n.Right, visit)
	case *actionlint.LogicalOpNode:
		walk(n.Left, visit)
		walk(n.Right, visit)
	case *actionlint.FuncCallNode:
		for _, a := range n.Args {
			walk(a, visit)
		}
	}
	visit(node)
}

// CallsStatus reports whether the expression calls success, failure, cancelled or always. GitHub adds success() to a
// step's condition that calls none.
func (e *Expr) CallsStatus() bool {
	found := false
	walk(e.root, func(node actionlint.ExprNode) {
		if call, ok := node.(*actionlint.FuncCallNode); ok {
			switch strings.ToLower(call.Callee) {
			case "success", "failure", "cancelled", "always":
				found = true
			}
		}
	})
	return found
}

// Segment is a part of a text with expressions: literal text, or the source of one expression.
type Segment struct {
	// Text is the literal text or the source.
	Text string
	// Expression says that Text is the source of an expression.
	Expression bool
}

// Split cuts a text at its "${{ … }}".
func Split(text string) ([]Segment, error) {
	var out []Segment
	for {
		start := strings.Index(text, "${{")
		if start < 0 {
			break
		}
		if start > 0 {
			out = append(out, Segment{Text: text[:start]})
		}
		rest := text[start+3:]
		_, end, err := actionlint.LexExpression(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", ErrSyntax, err.Message)
		}
		if end < 2 || end > len(rest) {
			return nil, fmt.Errorf("%w: }} is missing", ErrSyntax)
		}
		out = append(out, Segment{Text: strings.TrimSpace(rest[:end-2]), Expression: true})
		text = rest[end:]
	}
	if text != "" || len(out) == 0 {
		out = append(out, Segment{Text: text})
	}
	return out, nil
}
