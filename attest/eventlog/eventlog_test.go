// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

func digest(n byte) (d binding.Digest) {
	for i := range d {
		d[i] = n
	}
	return d
}

const golden = `{"seq":0,"type":"configuration","digest":"0101010101010101010101010101010101010101010101010101010101010101"}
{"seq":1,"type":"environment-key","digest":"0202020202020202020202020202020202020202020202020202020202020202"}
{"seq":2,"type":"dispatch","digest":"0303030303030303030303030303030303030303030303030303030303030303"}
{"seq":3,"type":"response","digest":"0404040404040404040404040404040404040404040404040404040404040404"}
{"seq":4,"type":"response","digest":"0505050505050505050505050505050505050505050505050505050505050505"}
`

// TestGolden holds the bytes, heads and registers of version 1. It may never change: quotes of the past carry them.
// They were computed by another program, in another language.
func TestGolden(t *testing.T) {
	t.Parallel()
	steps := []struct {
		t              Type
		head, register string
	}{
		{Configuration, "0ddc4228742126ba1c3773d09575b21fde9e195a92b3dd14143988bc18cef134", "5c85955f709283ecce2b74f1b1552918819f390911816e7bb466805a38ab87f3"},
		{EnvironmentKey, "f37e3e6391e5204627acd4a0cc2a3e4780a5752a38f858eee814ef63c0152e54", "a7f2fad943905535b10ccf63c832802ed84eaffb15e4fb6bee86a817c35eb833"},
		{Dispatch, "f71822a6f33c0ef1f6562ae5ddf70489bf27e96d878636170e226db0dae2ffd8", "d8da1ea11d13fe49d0ead0b83273a3935c4b542ef6b84a94ab4c02763f8194cf"},
		{Response, "5ada7a8bab818511a8f76de7ddb94e803378f4295760e0cdfcd9712843e4a459", "d8da1ea11d13fe49d0ead0b83273a3935c4b542ef6b84a94ab4c02763f8194cf"},
		{Response, "eac427ff5b9ed028a3abed3280816f56f6f9245fef910ea4bb063d24fc9c0e80", "d8da1ea11d13fe49d0ead0b83273a3935c4b542ef6b84a94ab4c02763f8194cf"},
	}
	var l Log
	if !l.Head().IsZero() || !l.Register().IsZero() {
		t.Error("an empty log does not start with zeros")
	}
	for i, s := range steps {
		if err := l.Append(s.t, digest(byte(i+1))); err != nil {
			t.Fatal(err)
		}
		if l.Head().String() != s.head || l.Register().String() != s.register {
			t.Errorf("event %d: head %s, register %s", i, l.Head(), l.Register())
		}
	}
	// Computed by another program, as the lines above. Responses extend nothing.
	const rtmr = "e3c35fef97b41a12d673f3d486b030f62a03e38e28c042e8f160eb62530e7d937d3b9d6410048b2aada17c4921210125"
	if got := l.RTMR(); hex.EncodeToString(got[:]) != rtmr {
		t.Errorf("RTMR3 %x", got)
	}
	if string(l.Bytes()) != golden {
		t.Errorf("bytes\n%s", l.Bytes())
	}
	back, err := Parse([]byte(golden))
	if err != nil || back.Head() != l.Head() || back.Register() != l.Register() || len(back.Events()) != 5 {
		t.Fatalf("parsed %+v, %v", back, err)
	}
	if e := back.Events()[3]; e.Seq != 3 || e.Type != Response || e.Digest != digest(4) {
		t.Errorf("event %+v", e)
	}
}

// TestAliasing shows that what is handed out cannot change the log.
func TestAliasing(t *testing.T) {
	t.Parallel()
	l, err := Parse([]byte(golden))
	if err != nil {
		t.Fatal(err)
	}
	clear(l.Bytes())
	l.Events()[0] = Event{}
	if string(l.Bytes()) != golden || l.Events()[0].Type != Configuration {
		t.Error("the log was changed from outside")
	}
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before []Type
		add    Type
		digest binding.Digest
	}{
		"key first":           {nil, EnvironmentKey, digest(1)},
		"dispatch first":      {nil, Dispatch, digest(1)},
		"response first":      {nil, Response, digest(1)},
		"unknown":             {nil, "other", digest(1)},
		"empty type":          {nil, "", digest(1)},
		"zero digest":         {nil, Configuration, binding.Digest{}},
		"configuration twice": {[]Type{Configuration}, Configuration, digest(1)},
		"dispatch second":     {[]Type{Configuration}, Dispatch, digest(1)},
		"key twice":           {[]Type{Configuration, EnvironmentKey}, EnvironmentKey, digest(1)},
		"response third":      {[]Type{Configuration, EnvironmentKey}, Response, digest(1)},
		"dispatch twice":      {Once(), Dispatch, digest(1)},
		"key at last":         {append(Once(), Response), EnvironmentKey, digest(1)},
		"dispatch at last":    {append(Once(), Response), Dispatch, digest(1)},
		"zero key":            {[]Type{Configuration}, EnvironmentKey, binding.Digest{}},
		"zero dispatch":       {[]Type{Configuration, EnvironmentKey}, Dispatch, binding.Digest{}},
		"zero response":       {Once(), Response, binding.Digest{}},
		"unknown at the end":  {Once(), "final", digest(1)},
	}
	for name, tc := range tests {
		var l Log
		for _, b := range tc.before {
			if err := l.Append(b, digest(1)); err != nil {
				t.Fatal(err)
			}
		}
		head, raw := l.Head(), l.Bytes()
		if err := l.Append(tc.add, tc.digest); !errors.Is(err, refusal.ErrEventLogMismatch) {
			t.Errorf("%s: %v", name, err)
		}
		if l.Head() != head || !bytes.Equal(l.Bytes(), raw) || len(l.Events()) != len(tc.before) {
			t.Errorf("%s: a refused event changed the log", name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	change := func(old, with string) string { return strings.Replace(golden, old, with, 1) }
	lines := strings.SplitAfter(golden, "\n")
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"empty":           {"", refusal.ErrMalformed},
		"blank line":      {"\n" + golden, refusal.ErrMalformed},
		"no last newline": {strings.TrimSuffix(golden, "\n"), refusal.ErrMalformed},
		"two newlines":    {golden + "\n", refusal.ErrMalformed},
		"CRLF":            {strings.ReplaceAll(golden, "\n", "\r\n"), refusal.ErrMalformed},
		"not JSON":        {change(`{"seq":0`, `"seq":0`), refusal.ErrMalformed},
		"unknown key":     {change(`"seq":0`, `"seq":0,"x":1`), refusal.ErrMalformed},
		"repeated key":    {change(`"seq":0`, `"seq":0,"seq":0`), refusal.ErrMalformed},
		"white space":     {change(`"seq":0`, `"seq": 0`), refusal.ErrMalformed},
		"wrong sequence":  {change(`"seq":3`, `"seq":4`), refusal.ErrMalformed},
		"key order":       {change(`"seq":0,"type":"configuration"`, `"type":"configuration","seq":0`), refusal.ErrMalformed},
		"upper case":      {change("01010101", "0A0A0A0A"), refusal.ErrMalformed},
		"trailing":        {golden + "x", refusal.ErrMalformed},
		"line dropped":    {lines[0] + lines[2], refusal.ErrEventLogMismatch},
		"first dropped":   {strings.Join(lines[1:], ""), refusal.ErrEventLogMismatch},
		"order":           {lines[1] + lines[0], refusal.ErrEventLogMismatch},
		"line twice":      {lines[0] + lines[1] + lines[1], refusal.ErrEventLogMismatch},
		"response twice":  {strings.Join(lines[:4], "") + lines[3], refusal.ErrMalformed},
		"middle dropped":  {strings.Join(lines[:3], "") + lines[4], refusal.ErrMalformed},
		"unknown type":    {change("response", "other"), refusal.ErrEventLogMismatch},
	} {
		if l, err := Parse([]byte(tc.text)); !errors.Is(err, tc.want) || l != nil {
			t.Errorf("%s: %v, %v", name, l, err)
		}
	}
}

// TestLimit tries both sides of the limit.
func TestLimit(t *testing.T) {
	t.Parallel()
	var l Log
	for i := range MaxEvents {
		typ := Response
		if i < len(Once()) {
			typ = Once()[i]
		}
		if err := l.Append(typ, digest(1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Parse(l.Bytes()); err != nil {
		t.Errorf("%d events: %v", MaxEvents, err)
	}
	if err := l.Append(Response, digest(1)); !errors.Is(err, refusal.ErrEventLogMismatch) {
		t.Errorf("%d events: %v", MaxEvents+1, err)
	}
	more := append(l.Bytes(), fmt.Sprintf(`{"seq":%d,"type":"response","digest":%q}`+"\n", MaxEvents, digest(1))...)
	if _, err := Parse(more); !errors.Is(err, refusal.ErrEventLogMismatch) {
		t.Errorf("parsing %d events: %v", MaxEvents+1, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(golden[:strings.IndexByte(golden, '\n')+1]))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			if l != nil {
				t.Fatal("a log and an error")
			}
			return
		}
		if !bytes.Equal(l.Bytes(), b) || l.Head().IsZero() || l.Register().IsZero() || l.Events()[0].Type != Configuration {
			t.Fatalf("parsed %q as %q", b, l.Bytes())
		}
	})
}
