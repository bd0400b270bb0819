// SPDX-License-Identifier: Apache-2.0

package jobmessage

import "encoding/json"

// Kind is the type number of a template token.
type Kind int

// The kinds of template token (TokenType.cs).
const (
	KindString     Kind = 0
	KindSequence   Kind = 1
	KindMapping    Kind = 2
	KindExpression Kind = 3
	KindBoolean    Kind = 5
	KindNumber     Kind = 6
	KindNull       Kind = 7
)

// Position is where a token stands in a file of the message's file table. The zero Position is left out.
type Position struct {
	File, Line, Col int
}

// Token is one template token. Only the field that belongs to Kind is read: Lit, Seq, Map, Expr, Bool or Num.
type Token struct {
	Kind Kind
	Pos  Position
	Lit  string
	Expr string
	Bool bool
	Num  float64
	Seq  []*Token
	Map  []Pair
}

// Pair is one entry of a mapping token.
type Pair struct {
	Key   *Token
	Value *Token
}

// String makes a string token without a position.
func String(s string) *Token { return &Token{Kind: KindString, Lit: s} }

// Lookup finds the value of a literal key of a mapping token, or nil.
func (t *Token) Lookup(key string) *Token {
	if t == nil || t.Kind != KindMapping {
		return nil
	}
	for _, p := range t.Map {
		if p.Key.Kind == KindString && p.Key.Lit == key {
			return p.Value
		}
	}
	return nil
}

type tokenJSON struct {
	Type Kind       `json:"type"`
	File int        `json:"file,omitempty"`
	Line int        `json:"line,omitempty"`
	Col  int        `json:"col,omitempty"`
	Lit  *string    `json:"lit,omitempty"`
	Expr *string    `json:"expr,omitempty"`
	Bool *bool      `json:"bool,omitempty"`
	Num  *float64   `json:"num,omitempty"`
	Seq  []*Token   `json:"seq,omitempty"`
	Map  []pairJSON `json:"map,omitempty"`
}

type pairJSON struct {
	Key   *Token
	Value *Token
}

// MarshalJSON writes the object form of the token, the one that carries a type number.
func (t *Token) MarshalJSON() ([]byte, error) {
	out := tokenJSON{Type: t.Kind, File: t.Pos.File, Line: t.Pos.Line, Col: t.Pos.Col}
	switch t.Kind {
	case KindString:
		out.Lit = &t.Lit
	case KindExpression:
		out.Expr = &t.Expr
	case KindBoolean:
		out.Bool = &t.Bool
	case KindNumber:
		out.Num = &t.Num
	case KindSequence:
		out.Seq = t.Seq
	case KindMapping:
		for _, p := range t.Map {
			out.Map = append(out.Map, pairJSON(p))
		}
	case KindNull:
	}
	return json.Marshal(out)
}
