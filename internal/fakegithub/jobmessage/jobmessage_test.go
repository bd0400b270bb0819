// SPDX-License-Identifier: Apache-2.0

package jobmessage_test

import (
	"encoding/json"
	"testing"

	"github.com/kettle/attest/internal/fakegithub/jobmessage"
)

// The forms that the golden job message does not hold. They may change only when the runner's converters do.
func TestWireForms(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value any
		want  string
	}{
		"empty string":     {jobmessage.String(""), `{"type":0,"lit":""}`},
		"sequence":         {&jobmessage.Token{Kind: jobmessage.KindSequence, Seq: []*jobmessage.Token{jobmessage.String("a")}}, `{"type":1,"seq":[{"type":0,"lit":"a"}]}`},
		"empty mapping":    {&jobmessage.Token{Kind: jobmessage.KindMapping}, `{"type":2}`},
		"false":            {&jobmessage.Token{Kind: jobmessage.KindBoolean}, `{"type":5,"bool":false}`},
		"zero":             {&jobmessage.Token{Kind: jobmessage.KindNumber}, `{"type":6,"num":0}`},
		"null":             {&jobmessage.Token{Kind: jobmessage.KindNull}, `{"type":7}`},
		"position":         {&jobmessage.Token{Lit: "a", Pos: jobmessage.Position{File: 1, Line: 2, Col: 3}}, `{"type":0,"file":1,"line":2,"col":3,"lit":"a"}`},
		"array":            {jobmessage.Array{"a", 1, nil}, `{"t":1,"a":["a",1,null]}`},
		"empty array":      {jobmessage.Array{}, `{"t":1}`},
		"dictionary":       {jobmessage.Dictionary{}.Set("b", true).Set("a", "x"), `{"t":2,"d":[{"k":"b","v":true},{"k":"a","v":"x"}]}`},
		"empty dictionary": {jobmessage.Dictionary{}, `{"t":2}`},
	} {
		got, err := json.Marshal(test.value)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, test.want)
		}
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	m := &jobmessage.Token{Kind: jobmessage.KindMapping, Map: []jobmessage.Pair{{Key: jobmessage.String("a"), Value: jobmessage.String("b")}}}
	if got := m.Lookup("a"); got == nil || got.Lit != "b" || m.Lookup("c") != nil || jobmessage.String("a").Lookup("a") != nil {
		t.Error("lookup")
	}
	d := jobmessage.Dictionary{}.Set("a", 1)
	if v, ok := d.Get("a"); !ok || v != 1 {
		t.Error("dictionary")
	}
	if _, ok := d.Get("b"); ok {
		t.Error("dictionary has what it has not")
	}
}
