// SPDX-License-Identifier: Apache-2.0

package token_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/token"
	"go.yaml.in/yaml/v3"
)

func testScope() expr.Scope {
	inputs := expr.NewObject()
	inputs.Set("who", "it's {me}")
	inputs.Set("more", func() any { o := expr.NewObject(); o.Set("X", 1.0); return o }())
	return expr.Scope{Contexts: map[string]any{"inputs": inputs}}
}

func TestWireForms(t *testing.T) {
	t.Parallel()
	const wire = `{"type":2,"map":[{"key":{"type":0,"lit":"A"},"Value":{"type":3,"expr":"inputs.who"}},
		{"Key":"B","value":5},{"Key":"C","Value":{"type":5,"bool":true,"line":3}},{"key":"D","value":{"type":7}},
		{"key":"E","value":{"type":6,"num":1.5}},{"key":{"type":4,"directive":"insert"},"value":{"type":3,"expr":"inputs.more"}}]}`
	var tok token.Token
	if err := json.Unmarshal([]byte(wire), &tok); err != nil {
		t.Fatal(err)
	}
	got, err := tok.Entries(testScope())
	want := []token.Entry{{"A", "it's {me}"}, {"B", "5"}, {"C", "true"}, {"D", ""}, {"E", "1.5"}, {"X", "1"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if v, ok := tok.Get("b"); !ok || v.Num != 5 {
		t.Error("Get does not find a literal key")
	}
}

func TestWireRefuses(t *testing.T) {
	t.Parallel()
	for _, wire := range []string{`{"type":9}`, `[1]`, `{"type":"x"}`, `{"type":1,"seq":[[]]}`} {
		var tok token.Token
		if err := json.Unmarshal([]byte(wire), &tok); err == nil {
			t.Errorf("%s was read", wire)
		}
	}
}

func TestYAML(t *testing.T) {
	t.Parallel()
	const file = "a: plain\nb: '${{ inputs.who }}'\nc: \"x '{y}' ${{ inputs.who }} ${{ 1 }}\"\nd: [1, true, null, '2']\ne: 0.5\n"
	var node yaml.Node
	if err := yaml.Unmarshal([]byte(file), &node); err != nil {
		t.Fatal(err)
	}
	tok, err := token.FromYAML(&node)
	if err != nil {
		t.Fatal(err)
	}
	v, err := tok.Evaluate(testScope())
	if err != nil {
		t.Fatal(err)
	}
	want := "{\n  \"a\": \"plain\",\n  \"b\": \"it's {me}\",\n  \"c\": \"x '{y}' it's {me} 1\",\n" +
		"  \"d\": [\n    1,\n    true,\n    null,\n    \"2\"\n  ],\n  \"e\": 0.5\n}"
	if diff := cmp.Diff(want, expr.ToJSON(v)); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	if _, err := token.Parse("${{ a b }}"); err == nil {
		t.Error("a wrong expression was read")
	}
	var node yaml.Node
	if err := yaml.Unmarshal([]byte("a: &x 1\nb: *x\n"), &node); err != nil {
		t.Fatal(err)
	}
	if _, err := token.FromYAML(&node); err == nil {
		t.Error("an alias was read")
	}
	seq := token.Token{Kind: token.Sequence}
	if _, err := seq.Text(testScope()); err == nil {
		t.Error("a sequence became text")
	}
	if _, err := seq.Entries(testScope()); err == nil {
		t.Error("a sequence became entries")
	}
	insert := token.Token{Kind: token.Insertion}
	if _, err := insert.Evaluate(testScope()); err == nil {
		t.Error("an insertion was evaluated alone")
	}
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"type":2,"map":[{"Key":"a","Value":{"type":3,"expr":"inputs.a"}}]}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		var tok token.Token
		if json.Unmarshal(data, &tok) == nil {
			_, _ = tok.Entries(testScope())
		}
		_, _ = token.Parse(string(data))
	})
}
