// SPDX-License-Identifier: Apache-2.0

package strict_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/kettle/attest/internal/strict"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	type inner struct {
		S string `json:"s"`
	}
	type outer struct {
		N int     `json:"n"`
		L []inner `json:"l"`
	}
	for name, tc := range map[string]struct {
		in   string
		want error // nil: accepted; errAny: refused by encoding/json
	}{
		"good":                 {in: `{"n":1,"l":[{"s":"a"},{"s":"b"}]}`},
		"blank around":         {in: " \n{\"n\":1}\n "},
		"unknown":              {in: `{"n":1,"x":2}`, want: errAny},
		"unknown inside":       {in: `{"l":[{"s":"a","t":1}]}`, want: errAny},
		"duplicate":            {in: `{"n":1,"n":2}`, want: strict.ErrDuplicate},
		"duplicate inside":     {in: `{"l":[{"s":"a","s":"b"}]}`, want: strict.ErrDuplicate},
		"duplicate after list": {in: `{"l":[{"s":"a"}],"n":1,"l":[]}`, want: strict.ErrDuplicate},
		"duplicate by case":    {in: `{"n":1,"N":2}`, want: strict.ErrDuplicate},
		"duplicate by long s":  {in: `{"l":[{"s":"a","ſ":"b"}]}`, want: strict.ErrDuplicate},
		"duplicate by Kelvin":  {in: `{"l":[{"s":"a"}],"k":1,"\u212a":2}`, want: strict.ErrDuplicate},
		"duplicate by escape":  {in: `{"n":1,"\u006e":2}`, want: strict.ErrDuplicate},
		"trailing":             {in: `{"n":1}{}`, want: strict.ErrTrailing},
		"trailing junk":        {in: `{"n":1} x`, want: strict.ErrTrailing},
		"truncated":            {in: `{"n":1`, want: errAny},
		"empty":                {in: ``, want: errAny},
		"not UTF-8":            {in: "{\"n\":1,\"\xff\":2}", want: strict.ErrUTF8},
		"deep":                 {in: strings.Repeat("[", 101) + strings.Repeat("]", 101), want: strict.ErrDepth},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var v outer
			err := strict.Decode([]byte(tc.in), &v)
			switch {
			case tc.want == nil && err != nil:
				t.Fatalf("refused: %v", err)
			case tc.want != nil && err == nil:
				t.Fatal("accepted")
			case tc.want != nil && !errors.Is(tc.want, errAny) && !errors.Is(err, tc.want):
				t.Fatalf("got %v, want %v", err, tc.want)
			}
		})
	}
}

var errAny = errors.New("any error")

// TestFolding holds the folding against encoding/json's own, rune by rune: whatever it takes for a field's key is refused
// beside that key, and nothing else is.
func TestFolding(t *testing.T) {
	t.Parallel()
	for _, field := range []struct {
		key  string
		into any
	}{
		{"s", new(struct {
			F int `json:"s"`
		})},
		{"k", new(struct {
			F int `json:"k"`
		})},
		{"ä", new(struct {
			F int `json:"ä"`
		})},
		{"σ", new(struct {
			F int `json:"σ"`
		})},
	} {
		for r := rune(0x20); r <= unicode.MaxRune; r++ {
			if r > 0x250 && unicode.SimpleFold(r) == r { // stands for itself alone
				continue
			}
			if r == '"' || r == '\\' || r >= 0xd800 && r < 0xe000 || r == 0x7f || string(r) == field.key {
				continue
			}
			dec := json.NewDecoder(strings.NewReader(`{"` + string(r) + `":1}`))
			dec.DisallowUnknownFields()
			same := dec.Decode(field.into) == nil
			err := strict.Unique([]byte(`{"` + field.key + `":1,"` + string(r) + `":1}`))
			if same != errors.Is(err, strict.ErrDuplicate) {
				t.Fatalf("%q beside %q: encoding/json takes it for the same: %v, strict says %v", r, field.key, same, err)
			}
		}
	}
}

func FuzzUnique(f *testing.F) {
	for _, s := range []string{`{}`, `[]`, `1`, `"a"`, `{"a":{"b":[1,{"c":null}]}}`, `{"a":1,"A":2}`, `{"a":1}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if strict.Unique(data) == nil && !json.Valid(data) {
			t.Fatalf("accepted invalid JSON %q", data)
		}
	})
}
