// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/veraison/cmw"

	"github.com/kettle/attest/attest/refusal"
)

func collection() *Collection {
	return &Collection{
		Evidence: Evidence{Kind: SNP, Report: []byte("report bytes"), Endorsements: Endorsements{Leaf: []byte("certificate")}},
		Binding:  []byte("{}"), PublicKey: []byte("spki"), EventLog: []byte("log\n"),
	}
}

const golden = `{"__cmwc_t":"tag:github.com,2026:kettle/attest/evidence/v1",` +
	`"report":["application/vnd.amd.sev-snp.attestation-report","cmVwb3J0IGJ5dGVz",4],` +
	`"endorsements":["application/pkix-cert","Y2VydGlmaWNhdGU",2],` +
	`"binding":["application/json","e30",4],` +
	`"public-key":["application/vnd.kettle.spki","c3BraQ",4],` +
	`"event-log":["application/vnd.kettle.event-log+jsonl","bG9nCg",4]}`

// TestGolden holds the bytes of version 1. It may never change: statements of the past name evidence by the digest of
// such a line. They were computed by another program, in another language.
func TestGolden(t *testing.T) {
	t.Parallel()
	line, err := collection().Line()
	if err != nil || string(line) != golden {
		t.Fatalf("line %s, %v", line, err)
	}
	if got := Digest(line).String(); got != "25b7c4b039e92d2b913862750e567d6aba5ecf0a035c68392f22b7c7464d9ba7" {
		t.Errorf("digest %s", got)
	}
	c, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.Line()
	if err != nil || !bytes.Equal(again, line) {
		t.Errorf("round trip: %s, %v", again, err)
	}
	if !Is(line) || Is([]byte(`{"mediaType":"x"}`)) || Is([]byte("x")) {
		t.Error("Is does not tell evidence from other lines")
	}
}

// TestOtherReader reads a line with the library of the format's authors.
func TestOtherReader(t *testing.T) {
	t.Parallel()
	var c cmw.CMW
	if err := c.UnmarshalJSON([]byte(golden)); err != nil {
		t.Fatal(err)
	}
	item, err := c.GetCollectionItem("event-log")
	if err != nil {
		t.Fatal(err)
	}
	value, err := item.GetMonadValue()
	if err != nil || string(value) != "log\n" {
		t.Errorf("event log %q, %v", value, err)
	}
}

// TestEndorsementsTravelOnce leaves them out, as all evidence of an environment but BOOT's does.
func TestEndorsementsTravelOnce(t *testing.T) {
	t.Parallel()
	c := collection()
	c.Endorsements = Endorsements{}
	line, err := c.Line()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(line)
	if err != nil || !got.Endorsements.Empty() {
		t.Errorf("endorsements %v, %v", got.Endorsements, err)
	}
}

func TestLineRefuses(t *testing.T) {
	t.Parallel()
	for name, blank := range map[string]func(*Collection){
		"report": func(c *Collection) { c.Report = nil }, "binding": func(c *Collection) { c.Binding = nil },
		"public key": func(c *Collection) { c.PublicKey = nil }, "event log": func(c *Collection) { c.EventLog = nil },
		"too large": func(c *Collection) { c.Report = make([]byte, MaxLine) },
	} {
		c := collection()
		blank(c)
		if line, err := c.Line(); !errors.Is(err, refusal.ErrNotVerified) || line != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	change := func(old, with string) string {
		if !strings.Contains(golden, old) {
			panic(old)
		}
		return strings.Replace(golden, old, with, 1)
	}
	for name, tc := range map[string]struct {
		line string
		want error
	}{
		"empty":              {"", refusal.ErrMalformed},
		"not an object":      {"[]", refusal.ErrMalformed},
		"cut":                {golden[:len(golden)-1], refusal.ErrMalformed},
		"trailing":           {golden + "{}", refusal.ErrMalformed},
		"type":               {change("evidence/v1", "evidence/v2"), refusal.ErrMalformed},
		"no type":            {change(`"__cmwc_t":"tag:github.com,2026:kettle/attest/evidence/v1",`, ""), refusal.ErrMalformed},
		"type as number":     {change(`"tag:github.com,2026:kettle/attest/evidence/v1"`, "1"), refusal.ErrMalformed},
		"unknown item":       {change(`"binding":`, `"other":["a","Yg",4],"binding":`), refusal.ErrMalformed},
		"item twice":         {change(`"binding":`, `"binding":["application/json","e30",4],"binding":`), refusal.ErrMalformed},
		"item in capitals":   {change(`"binding":`, `"Binding":`), refusal.ErrMissing},
		"no report":          {change(`"report":`, `"rep":`), refusal.ErrMissing},
		"endorsements blank": {change(`"Y2VydGlmaWNhdGU"`, `""`), refusal.ErrMissing},
		"no binding":         {change(`"binding":["application/json","e30",4],`, ""), refusal.ErrMissing},
		"no key":             {change(`"public-key":["application/vnd.kettle.spki","c3BraQ",4],`, ""), refusal.ErrMissing},
		"no event log":       {change(`,"event-log":["application/vnd.kettle.event-log+jsonl","bG9nCg",4]`, ""), refusal.ErrMissing},
		"empty value":        {change(`"e30"`, `""`), refusal.ErrMissing},
		"media type":         {change(`"application/json"`, `"application/cbor"`), refusal.ErrMalformed},
		"indicator":          {change(`"e30",4`, `"e30",2`), refusal.ErrMalformed},
		"indicator as text":  {change(`"e30",4`, `"e30","4"`), refusal.ErrMalformed},
		"indicator missing":  {change(`"e30",4`, `"e30"`), refusal.ErrMalformed},
		"more elements":      {change(`"e30",4`, `"e30",4,4`), refusal.ErrMalformed},
		"not a record":       {change(`["application/json","e30",4]`, `"e30"`), refusal.ErrMalformed},
		"null record":        {change(`["application/json","e30",4]`, `null`), refusal.ErrMalformed},
		"padding":            {change(`"e30"`, `"e30="`), refusal.ErrMalformed},
		"loose bits":         {change(`"c3BraQ"`, `"c3BraR"`), refusal.ErrMalformed},
		"standard base64":    {change(`"e30"`, `"+/+/"`), refusal.ErrMalformed},
		"line break":         {change(`"e30"`, `"e3\n0"`), refusal.ErrMalformed},
		"too long":           {golden + strings.Repeat(" ", MaxLine), refusal.ErrMalformed},
	} {
		if c, err := Parse([]byte(tc.line)); !errors.Is(err, tc.want) || c != nil {
			t.Errorf("%s: %v, %v; want %v", name, c, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(`{"__cmwc_t":"tag:github.com,2026:kettle/attest/evidence/v1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			if c != nil {
				t.Fatal("a collection and an error")
			}
			return
		}
		line, err := c.Line()
		if err != nil {
			t.Fatalf("parsed %q, which cannot be written: %v", b, err)
		}
		back, err := Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := back.Line(); err != nil || !bytes.Equal(again, line) {
			t.Fatalf("%q then %q, %v", line, again, err)
		}
	})
}
