// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

const helloText = `{"schema":"kettle.admission-hello/v1","environmentKey":"` +
	`ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","fresh":"` +
	`ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}`

func TestHello(t *testing.T) {
	t.Parallel()
	d := binding.Sum([]byte("abc"))
	text, err := Hello{d, d}.Encode()
	must(t, err)
	if string(text) != helloText {
		t.Errorf("%s", text)
	}
	got, err := ParseHello(text)
	if err != nil || got != (Hello{d, d}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := (Hello{EnvironmentKey: d}).Encode(); err == nil {
		t.Error("encoded without fresh bytes")
	}
	for name, text := range map[string]string{
		"empty": "", "other schema": strings.Replace(helloText, "/v1", "/v2", 1), "unknown key": strings.Replace(helloText, `{`, `{"x":1,`, 1),
		"key twice": strings.Replace(helloText, `{`, `{"schema":"kettle.admission-hello/v1",`, 1), "trailing": helloText + "{}",
		"zero": strings.ReplaceAll(helloText, d.String(), strings.Repeat("0", 64)), "upper case": strings.ReplaceAll(helloText, "ba78", "BA78"),
		"other case of a key": strings.Replace(helloText, "fresh", "Fresh", 1) + " ", "long": helloText + strings.Repeat(" ", MaxHello),
	} {
		if _, err := ParseHello([]byte(text)); name != "other case of a key" && !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	r := Request{Statement: []byte(`{"a":1}`), Evidence: []byte(`{"b":2}`), Boot: []byte(`{}`), BootEvidence: []byte(`{ }`), Image: [][]byte{[]byte(`{"i":1}`)}}
	text, err := r.Encode()
	must(t, err)
	got, err := ParseRequest(text)
	if err != nil || !bytes.Equal(got.BootEvidence, r.BootEvidence) || len(got.Image) != 1 || !bytes.Equal(got.Image[0], r.Image[0]) {
		t.Errorf("%s, %v", got, err)
	}
	r.Image = nil
	text, err = r.Encode()
	must(t, err)
	for name, b := range map[string][]byte{
		"empty": nil, "three lines": text[:len(text)-4], "no last newline": text[:len(text)-1], "empty line": append([]byte("\n"), text...),
		"no object": bytes.Replace(text, []byte(`{"a":1}`), []byte(`["a",1]`), 1), "carriage return": bytes.Replace(text, []byte("\n"), []byte("\r\n"), 1),
		"too many lines": bytes.Repeat([]byte("{}\n"), fixed+maxImage+1), "too long": append(bytes.Repeat([]byte("{}\n"), fixed-1), append(bytes.Repeat([]byte("{}"), MaxRequest), '\n')...),
	} {
		if _, err := ParseRequest(b); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, bad := range map[string]Request{
		"missing line": {Statement: []byte(`{}`)}, "two lines in one": {[]byte("{}\n{}"), []byte(`{}`), []byte(`{}`), []byte(`{}`), nil},
		"too many": {[]byte(`{}`), []byte(`{}`), []byte(`{}`), []byte(`{}`), make([][]byte, maxImage+1)},
	} {
		if _, err := bad.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	answer, err := Answer{[]byte(`{"s":1}`), []byte(`{"r":1}`)}.Encode()
	must(t, err)
	if a, err := ParseAnswer(answer); err != nil || string(a.Release) != `{"r":1}` {
		t.Errorf("%s, %v", a, err)
	}
	if _, err := ParseAnswer(append(answer, "{}\n"...)); !errors.Is(err, refusal.ErrMalformed) {
		t.Error("three lines")
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	in := Refusal{Final: true, Refusals: []*refusal.Refusal{
		{Link: "quote", Code: refusal.TCB, Want: "new\x1b[31m", Got: strings.Repeat("é", 2000), Next: "update", Cause: errors.New("secret")},
		{Link: "chip", Code: refusal.Revoked, Want: "another"},
	}}
	text, err := in.Encode()
	must(t, err)
	if bytes.Contains(text, []byte("secret")) || bytes.Contains(text, []byte{0x1b}) || bytes.Contains(text, []byte(`\u001b`)) {
		t.Errorf("%s", text)
	}
	out, err := ParseRefusal(text)
	must(t, err)
	if !out.Final || len(out.Refusals) != 2 || !errors.Is(out.Err(), refusal.ErrTCB) || !errors.Is(out.Err(), refusal.ErrRevoked) || len(out.Refusals[0].Got) > maxText {
		t.Errorf("%+v", out)
	}
	many := Refusal{}
	for range 500 {
		many.Refusals = append(many.Refusals, in.Refusals[0])
	}
	text, err = many.Encode()
	if _, parseErr := ParseRefusal(text); err != nil || parseErr != nil || len(text) > MaxRefusal {
		t.Errorf("%d bytes, %v, %v", len(text), err, parseErr)
	}
	for name, text := range map[string]string{
		"none": `{"schema":"kettle.admission-refusal/v1","final":true,"refusals":[]}`,
		"code": `{"schema":"kettle.admission-refusal/v1","final":true,"refusals":[{"link":"a","code":"no","want":"b"}]}`,
		"want": `{"schema":"kettle.admission-refusal/v1","final":true,"refusals":[{"link":"a","code":"tcb","want":""}]}`,
		"more": `{"schema":"kettle.admission-refusal/v1","final":true,"more":1,"refusals":[{"link":"a","code":"tcb","want":"b"}]}`,
		"html": `<html>`,
	} {
		if _, err := ParseRefusal([]byte(text)); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzMessages(f *testing.F) {
	f.Add([]byte(helloText))
	f.Add([]byte("{}\n{}\n{}\n{}\n"))
	f.Add([]byte(`{"schema":"kettle.admission-refusal/v1","final":true,"refusals":[{"link":"a","code":"tcb","want":"b"}]}`))
	f.Add([]byte(`{"schema":"kettle.credential/v1","kind":"token","token":"x","expires":"2026-11-21T13:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHello(b); err == nil {
			if _, err := h.Encode(); err != nil {
				t.Error(err)
			}
		}
		if r, err := ParseRequest(b); err == nil {
			text, err := r.Encode()
			if err == nil && !bytes.Equal(text, b) {
				t.Errorf("%q became %q", b, text)
			}
		}
		if a, err := ParseAnswer(b); err == nil {
			text, err := a.Encode()
			if err == nil && !bytes.Equal(text, b) {
				t.Errorf("%q became %q", b, text)
			}
		}
		if r, err := ParseRefusal(b); err == nil && !errors.Is(r.Err(), refusal.ErrNotVerified) {
			t.Error("no refusal")
		}
		if c, err := ParseCredential(b); err == nil && c.Validate() != nil {
			t.Error("not valid")
		}
	})
}
