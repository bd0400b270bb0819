// SPDX-License-Identifier: Apache-2.0

package token

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/kettle/attest/internal/stubrunner/expr"
	"go.yaml.in/yaml/v3"
)

// Kind is what a token is.
type Kind int

// The kinds, numbered as on the wire.
const (
	Text Kind = iota
	Sequence
	Mapping
	Expression
	Insertion
	Boolean
	Number
	Null
)

// Pair is one entry of a mapping.
type Pair struct {
	// Key is text or an expression.
	Key Token `json:"key"`
	// Value is any token.
	Value Token `json:"value"`
}

// Token is one piece of a file. The zero value is empty text; use the pointer nil or [Null] for "not there".
type Token struct {
	// Kind says which of the other fields holds the value.
	Kind Kind
	// Value is the text of a text token, the source of an expression.
	Value string
	// Bool is the value of a boolean token.
	Bool bool
	// Num is the value of a number token.
	Num float64
	// Items are the items of a sequence.
	Items []Token
	// Pairs are the entries of a mapping, in order.
	Pairs []Pair
}

// wire is the object form of a token; members are found without regard to case.
type wire struct {
	Type  Kind    `json:"type"`
	Lit   string  `json:"lit"`
	Expr  string  `json:"expr"`
	Bool  bool    `json:"bool"`
	Num   float64 `json:"num"`
	Seq   []Token `json:"seq"`
	Pairs []Pair  `json:"map"`
}

// UnmarshalJSON reads the wire form.
func (t *Token) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	if len(data) > 0 && data[0] == '{' {
		var w wire
		if err := json.Unmarshal(data, &w); err != nil {
			return fmt.Errorf("reading template token: %w", err)
		}
		if w.Type < Text || w.Type > Null {
			return fmt.Errorf("reading template token: type %d is not known", w.Type)
		}
		*t = Token{Kind: w.Type, Value: w.Lit, Bool: w.Bool, Num: w.Num, Items: w.Seq, Pairs: w.Pairs}
		if w.Type == Expression {
			t.Value = w.Expr
		}
		return nil
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("reading template token: %w", err)
	}
	switch v := v.(type) {
	case nil:
		*t = Token{Kind: Null}
	case bool:
		*t = Token{Kind: Boolean, Bool: v}
	case float64:
		*t = Token{Kind: Number, Num: v}
	case string:
		*t = Token{Kind: Text, Value: v}
	default:
		return fmt.Errorf("reading template token: a token can't be an array")
	}
	return nil
}

// String makes a text token, which holds no expressions.
func String(s string) Token { return Token{Kind: Text, Value: s} }

// Parse turns text as written in a file into a token: an expression when the text has "${{ }}".
func Parse(text string) (Token, error) {
	segments, err := expr.Split(text)
	if err != nil {
		return Token{}, fmt.Errorf("parsing template text: %w", err)
	}
	if len(segments) == 1 && !segments[0].Expression {
		return String(text), nil
	}
	for _, s := range segments {
		if s.Expression && s.Text == "insert" && len(segments) == 1 {
			return Token{Kind: Insertion}, nil
		}
		if s.Expression {
			if _, err := expr.Parse(s.Text); err != nil {
				return Token{}, fmt.Errorf("parsing template text: %w", err)
			}
		}
	}
	if len(segments) == 1 {
		return Token{Kind: Expression, Value: segments[0].Text}, nil
	}
	return Token{Kind: Expression, Value: formatCall(segments)}, nil
}

// formatCall writes mixed text as one call of format, as GitHub's services do before they send it.
func formatCall(segments []expr.Segment) string {
	var pattern strings.Builder
	var args []string
	for _, s := range segments {
		if s.Expression {
			pattern.WriteString("{" + strconv.Itoa(len(args)) + "}")
			args = append(args, s.Text)
			continue
		}
		pattern.WriteString(strings.NewReplacer("'", "''", "{", "{{", "}", "}}").Replace(s.Text))
	}
	return "format('" + pattern.String() + "', " + strings.Join(args, ", ") + ")"
}

// maxDepth bounds the nesting of a YAML file, aliases included.
const maxDepth = 100

// FromYAML turns a YAML node into a token.
func FromYAML(node *yaml.Node) (Token, error) { return fromYAML(node, 0) }

func fromYAML(node *yaml.Node, depth int) (Token, error) {
	if depth > maxDepth {
		return Token{}, fmt.Errorf("reading yaml: more than %d levels", maxDepth)
	}
	switch node.Kind {
	case yaml.DocumentNode:
		return fromYAML(node.Content[0], depth+1)
	case yaml.AliasNode:
		return Token{}, fmt.Errorf("reading yaml: line %d: anchors are not supported", node.Line)
	case yaml.SequenceNode:
		t := Token{Kind: Sequence}
		for _, n := range node.Content {
			item, err := fromYAML(n, depth+1)
			if err != nil {
				return Token{}, err
			}
			t.Items = append(t.Items, item)
		}
		return t, nil
	case yaml.MappingNode:
		t := Token{Kind: Mapping}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, err := fromYAML(node.Content[i], depth+1)
			if err != nil {
				return Token{}, err
			}
			value, err := fromYAML(node.Content[i+1], depth+1)
			if err != nil {
				return Token{}, err
			}
			t.Pairs = append(t.Pairs, Pair{Key: key, Value: value})
		}
		return t, nil
	default:
		return scalar(node)
	}
}

func scalar(node *yaml.Node) (Token, error) {
	switch node.ShortTag() {
	case "!!null":
		return Token{Kind: Null}, nil
	case "!!bool":
		var b bool
		if err := node.Decode(&b); err != nil {
			return Token{}, fmt.Errorf("reading yaml: %w", err)
		}
		return Token{Kind: Boolean, Bool: b}, nil
	case "!!int", "!!float":
		var f float64
		if err := node.Decode(&f); err != nil {
			return Token{}, fmt.Errorf("reading yaml: %w", err)
		}
		return Token{Kind: Number, Num: f}, nil
	default:
		t, err := Parse(node.Value)
		if err != nil {
			return Token{}, fmt.Errorf("line %d: %w", node.Line, err)
		}
		return t, nil
	}
}

// Get returns the value under a literal key of a mapping, and whether there is one.
func (t *Token) Get(name string) (*Token, bool) {
	if t == nil {
		return nil, false
	}
	for i := range t.Pairs {
		if t.Pairs[i].Key.Kind == Text && strings.EqualFold(t.Pairs[i].Key.Value, name) {
			return &t.Pairs[i].Value, true
		}
	}
	return nil, false
}

// Absent reports whether there is no token, or a null one.
func (t *Token) Absent() bool { return t == nil || t.Kind == Null }
