// SPDX-License-Identifier: Apache-2.0

package expr_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/kettle/attest/internal/stubrunner/expr"
)

func scope(t testing.TB) expr.Scope {
	t.Helper()
	env := expr.NewCaseSensitive()
	env.Set("FOO", "upper")
	env.Set("foo", "lower")
	github, err := expr.FromJSON([]byte(`{"ref":"refs/heads/main","event":{"pull":{"labels":[{"name":"a"},{"name":"B"}]},
		"n":7,"yes":true,"nothing":null,"list":[1,2,3]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return expr.Scope{
		Contexts: map[string]any{"env": env, "github": github},
		Own:      expr.Success, Job: expr.Success,
		HashFiles: func(p []string) (string, error) { return strings.Join(p, "+"), nil },
	}
}

func TestEval(t *testing.T) {
	t.Parallel()
	tests := map[string]any{
		// literals and names
		"1": 1.0, "0xff": 255.0, "-2.5": -2.5, "1e3": 1000.0, "'it''s'": "it's", "true": true, "null": nil,
		"github.ref": "refs/heads/main", "GitHub.REF": "refs/heads/main", "github['ref']": "refs/heads/main",
		"env.FOO": "upper", "env.foo": "lower", "env.Foo": nil, "github.nope.deeper": nil, "vars.absent": nil,
		"github.event.list[1]": 2.0, "github.event.list['2']": 3.0, "github.event.list[9]": nil,
		"github[env.foo]": nil, "join(github.event.pull.labels.*.name, '/')": "a/B",
		"github.event[format('{0}', 'n')]": 7.0,
		// comparison and coercion
		"'ABC' == 'abc'": true, "'a' < 'B'": true, "1 == '1'": true, "1 == ' 1.0 '": true, "'0x10' == 16": true,
		"true == 1": true, "true == '1'": true, "false == ''": true, "null == 0": true, "null == ''": true,
		"'' == 0": true, "'abc' == 0": false, "NaN == NaN": false, "null == false": true, "'true' == true": false,
		"github == github": true, "github.event == github.event.pull": false, "github == 'Object'": false,
		"1 >= 1": true, "2 > '10'": false, "'2' > '10'": true, "'x' > 1": false, "true > false": true,
		"github >= 1": false, "Infinity > 1": true,
		// logic
		"github.ref && 'yes' || 'no'": "yes", "'' || 'default'": "default", "0 && 1": 0.0, "!''": true, "!github": false,
		// functions
		"contains('Hello', 'ELL')": true, "contains(github.event.list, '2')": true,
		"contains(github.event.pull.labels.*.name, 'b')": true, "contains(github, 'ref')": false,
		"startsWith('Hello', 'he')": true, "endsWith('Hello', 'LO')": true, "startsWith(123, 12)": true,
		"format('{{{0}}} {1} {0}', 'a', 1.5)": "{a} 1.5 a", "join('solo')": "solo", "join(github.event.list)": "1,2,3",
		"format('{0}', github)": "Object", "format('{0}|{1}', null, true)": "|true",
		"fromJSON('{\"a\":[1,{\"b\":\"c\"}]}').a[1].B": "c", "hashFiles('a', 'b')": "a+b",
		"toJSON(fromJSON('{\"b\":1,\"a\":[],\"c\":{\"d\":\"<\"}}'))": "{\n  \"b\": 1,\n  \"a\": [],\n  \"c\": {\n    \"d\": \"<\"\n  }\n}",
		"success()": true, "failure()": false, "cancelled()": false, "always()": true, "case(false, 1, true, 2, 3)": 2.0,
		"case(false, 1, 9)": 9.0, "toJSON(null)": "null", "toJSON('a\"b')": `"a\"b"`,
	}
	for source, want := range tests {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			got, err := expr.Eval(source, scope(t))
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("got %#v, want %#v", got, want)
			}
		})
	}
}

func TestEvalRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]error{
		"": expr.ErrSyntax, "a b": expr.ErrSyntax, "github.": expr.ErrSyntax, "'open": expr.ErrSyntax,
		"github }} x": expr.ErrSyntax, "(1": expr.ErrSyntax,
		"nosuch.x": expr.ErrEvaluate, "nosuch()": expr.ErrEvaluate, "contains('a')": expr.ErrEvaluate,
		"success(1)": expr.ErrEvaluate, "format('{1}', 'a')": expr.ErrEvaluate, "format('{')": expr.ErrEvaluate,
		"format('}')": expr.ErrEvaluate, "format('{x}')": expr.ErrEvaluate, "fromJSON('{')": expr.ErrEvaluate,
		"fromJSON('1 2')": expr.ErrEvaluate, "case(1, 2, 3, 4)": expr.ErrEvaluate,
	}
	for source, want := range tests {
		t.Run(source, func(t *testing.T) {
			t.Parallel()
			if got, err := expr.Eval(source, scope(t)); !errors.Is(err, want) {
				t.Errorf("got %v, %v, want error %v", got, err, want)
			}
		})
	}
	s := scope(t)
	s.Allowed = []string{"github"}
	if _, err := expr.Eval("env.FOO", s); !errors.Is(err, expr.ErrEvaluate) {
		t.Errorf("a context that is not allowed: %v", err)
	}
	s.HashFiles = nil
	if _, err := expr.Eval("hashFiles('a')", s); !errors.Is(err, expr.ErrEvaluate) {
		t.Errorf("hashFiles without files: %v", err)
	}
}

func TestCondition(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		source   string
		own, job expr.Status
		want     bool
	}{
		"empty after success":    {"", expr.Success, expr.Success, true},
		"empty after failure":    {"", expr.Failure, expr.Failure, false},
		"failure":                {"failure()", expr.Failure, expr.Failure, true},
		"always after cancel":    {"always()", expr.Cancelled, expr.Cancelled, true},
		"cancelled":              {"cancelled()", expr.Success, expr.Cancelled, true},
		"success in a composite": {"success()", expr.Success, expr.Failure, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := expr.Condition(tt.source, expr.Scope{Own: tt.own, Job: tt.job})
			if err != nil || got != tt.want {
				t.Errorf("got %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestCallsStatus(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]bool{"github.ref == 'always()'": false, "1 && !Always()": true, "contains('a', failure())": true} {
		e, err := expr.Parse(source)
		if err != nil || e.CallsStatus() != want {
			t.Errorf("%s: got %v, want %v", source, err, want)
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	got, err := expr.Split("a ${{ 'x}}' }} b${{env.FOO}}")
	want := []expr.Segment{{Text: "a "}, {Text: "'x}}'", Expression: true}, {Text: " b"}, {Text: "env.FOO", Expression: true}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("segment %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if _, err := expr.Split("${{ open"); !errors.Is(err, expr.ErrSyntax) {
		t.Errorf("open expression: %v", err)
	}
}

func TestNumberText(t *testing.T) {
	t.Parallel()
	tests := map[string]float64{
		"100": 100, "0.1": 0.1, "1E+15": 1e15, "123456789012345": 123456789012345, "1E-05": 1e-5, "0.0001": 1e-4,
		"0.333333333333333": 1.0 / 3, "NaN": math.NaN(), "-Infinity": math.Inf(-1), "-1": -1,
	}
	for want, f := range tests {
		if got := expr.ToString(f); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzEval(f *testing.F) {
	for _, s := range []string{"github.ref == 'a'", "contains(github.*.x, 1)", "format('{0}{{', env.a)", "a[b[c].d].e", "!(!1 && 2)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, source string) {
		v, err := expr.Eval(source, scope(t))
		if err == nil {
			_ = expr.ToJSON(v)
		}
		_, _ = expr.Split(source)
	})
}
