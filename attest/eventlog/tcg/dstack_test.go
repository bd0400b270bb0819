// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
)

// joined is a runtime event of version 1 with its digest.
func joined(name string, payload []byte) (string, []byte) {
	d := digest(tcg.SHA384, append([]byte("\x01\x00\x00\x08:"+name+":"), payload...))
	return fmt.Sprintf(`{"imr":3,"event_type":134217729,"digest":"%x","event":%q,"event_payload":"%x"}`, d, name, payload), d
}

func rtmr3(digests ...[]byte) map[int][]byte {
	value := make([]byte, 48)
	for _, d := range digests {
		value = digest(tcg.SHA384, append(bytes.Clone(value), d...))
	}
	return map[int][]byte{3: value}
}

func TestDstack(t *testing.T) {
	t.Parallel()
	one, first := joined("app-id", []byte{1, 2, 3})
	two, second := joined("key-provider", []byte(`{"name":"kms"}`))
	list := "[" + one + ",\n" + two + "]"
	for name, text := range map[string]string{
		"list":   list,
		"report": `{"quote":"00","event_log":` + strconv.Quote(list) + `,"more":{"event_log":[]}}`,
		"object": ` {"event_log":` + list + `}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := match(t, parse(t, tcg.ParseDstack, []byte(text)), tcg.SHA384, rtmr3(first, second))
			f := a.Facts().Runtime
			if len(f) != 2 || f[0].Name != "app-id" || !bytes.Equal(f[0].Payload, []byte{1, 2, 3}) || !f[0].Exact || f[1].Exact {
				t.Errorf("%+v", f)
			}
			if a.Events()[0].Proof != tcg.RuntimeEvent {
				t.Errorf("proof %s", a.Events()[0].Proof)
			}
		})
	}
}

// TestDstackCanonical has events whose digest is of canonical JSON, one of which needs every kind of escape.
func TestDstackCanonical(t *testing.T) {
	t.Parallel()
	for name, escaped := range map[string]string{
		"compose-hash":                      `"compose-hash"`,
		"a:b":                               `"a:b"`,
		"\"\\\b\f\n\r\t\x01\x1f/<&>é\u2028": `"\"\\\b\f\n\r\t\u0001\u001f/<&>é` + "\u2028" + `"`,
	} {
		preimage := `{"name":` + escaped + `,"payload":"abcd","type":134217729}`
		d := digest(tcg.SHA384, []byte(preimage))
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		event := func(version, more string) string {
			return `[{"imr":3,"event_type":134217729,"event":` + string(quoted) + `,"event_payload":"ABCD","version":` + version + more + `}]`
		}
		for _, more := range []string{"", `,"digest":""`, `,"digest":"` + hex.EncodeToString(d) + `"`, `,"preimage":"` + hex.EncodeToString([]byte(preimage)) + `"`} {
			f := match(t, parse(t, tcg.ParseDstack, []byte(event("2", more))), tcg.SHA384, rtmr3(d)).Facts().Runtime
			if len(f) != 1 || f[0].Name != name || !f[0].Exact {
				t.Errorf("%q: %+v", name, f)
			}
		}
		_, err = tcg.ParseDstack([]byte(event("2", `,"preimage":"00"`)))
		refused(t, err, refusal.EventLogMismatch)
		_, err = tcg.ParseDstack([]byte(event("1", `,"digest":"`+hex.EncodeToString(d)+`"`)))
		refused(t, err, refusal.EventLogMismatch)
		_, err = tcg.ParseDstack([]byte(event("3", "")))
		refused(t, err, refusal.Malformed)
	}
}

func TestDstackRefuses(t *testing.T) {
	t.Parallel()
	good, _ := joined("app-id", []byte{1})
	change := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("no %s in %s", from, good)
		}
		return "[" + strings.Replace(good, from, to, 1) + "]"
	}
	boot := `{"imr":0,"event_type":4,"event":"","event_payload":"00000000"`
	for name, c := range map[string]struct {
		text string
		code refusal.Code
	}{
		"nothing":             {"", refusal.Missing},
		"empty list":          {"[]", refusal.Missing},
		"no list":             {`"x"`, refusal.Malformed},
		"object without":      {`{"quote":""}`, refusal.Malformed},
		"empty object":        {`{}`, refusal.Malformed},
		"two logs":            {`{"event_log":[],"event_log":[` + good + `]}`, refusal.Malformed},
		"null log":            {`{"event_log":null}`, refusal.Malformed},
		"log in a log":        {`{"event_log":{"event_log":[]}}`, refusal.Malformed},
		"more after":          {"[" + good + "][]", refusal.Malformed},
		"more after object":   {`{"event_log":[` + good + `]} 1`, refusal.Malformed},
		"cut":                 {"[" + good, refusal.Malformed},
		"cut in an event":     {"[" + good[:40], refusal.Malformed},
		"not UTF-8":           {change("app-id", "app-\xff"), refusal.Malformed},
		"an event of numbers": {"[1]", refusal.Malformed},
		"unknown key":         {change(`"imr":3`, `"imr":3,"x":1`), refusal.Malformed},
		"key in capitals":     {change(`"imr"`, `"IMR"`), refusal.Malformed},
		"key twice":           {change(`"imr":3`, `"imr":3,"imr":3`), refusal.Malformed},
		"text twice":          {change(`"event":"app-id"`, `"event":"app-id","event":"app-id"`), refusal.Malformed},
		"no imr":              {change(`"imr":3,`, ``), refusal.Malformed},
		"no type":             {change(`"event_type":134217729,`, ``), refusal.Malformed},
		"no name":             {change(`"event":"app-id",`, ``), refusal.Malformed},
		"no payload":          {change(`,"event_payload":"01"`, ``), refusal.Malformed},
		"imr 4":               {change(`"imr":3`, `"imr":4`), refusal.Malformed},
		"imr -1":              {change(`"imr":3`, `"imr":-1`), refusal.Malformed},
		"imr as text":         {change(`"imr":3`, `"imr":"3"`), refusal.Malformed},
		"imr null":            {change(`"imr":3`, `"imr":null`), refusal.Malformed},
		"imr with fraction":   {change(`"imr":3`, `"imr":3.0`), refusal.Malformed},
		"type too large":      {change(`134217729`, `4294967296`), refusal.Malformed},
		"name null":           {change(`"app-id"`, `null`), refusal.Malformed},
		"name nested":         {change(`"app-id"`, `{}`), refusal.Malformed},
		"payload not hex":     {change(`"01"`, `"0g"`), refusal.Malformed},
		"payload odd":         {change(`"01"`, `"1"`), refusal.Malformed},
		"digest short":        {change(`"digest":"`, `"digest":"00`), refusal.Malformed},
		"digest not hex":      {"[" + boot + `,"digest":"xy"}]`, refusal.Malformed},
		"boot without digest": {"[" + boot + `}]`, refusal.Malformed},
		"boot empty digest":   {"[" + boot + `,"digest":""}]`, refusal.Malformed},
		"other payload":       {change(`"01"`, `"02"`), refusal.EventLogMismatch},
		"other name":          {change(`app-id`, `app-ie`), refusal.EventLogMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := tcg.ParseDstack([]byte(c.text))
			refused(t, err, c.code)
		})
	}
	// A binary log is no JSON, and the reverse.
	_, err := tcg.ParseDstack(newCC().firmware(0).bytes())
	refused(t, err, refusal.Malformed)
	_, err = tcg.ParseCC([]byte("[" + good + "]"))
	refused(t, err, refusal.Malformed)
}

// TestDstackExact has payloads with a colon, of which one stands after bytes that no name can have.
func TestDstackExact(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]bool{"": true, "abc": true, "a:b": false, ":": false, "\xff:b": true, "a:\xff": false} {
		one, d := joined("app-id", []byte(payload))
		f := match(t, parse(t, tcg.ParseDstack, []byte("["+one+"]")), tcg.SHA384, rtmr3(d)).Facts().Runtime
		if len(f) != 1 || f[0].Exact != want {
			t.Errorf("%q: want %v, got %+v", payload, want, f)
		}
	}
}

// TestDstackNoAction has an event that extends nothing.
func TestDstackNoAction(t *testing.T) {
	t.Parallel()
	one, d := joined("app-id", []byte{1})
	l := parse(t, tcg.ParseDstack, []byte(`[{"imr":0,"event_type":3,"digest":"","event":"","event_payload":"00"},`+one+`]`))
	match(t, l, tcg.SHA384, rtmr3(d))
}
