// SPDX-License-Identifier: Apache-2.0

package tcg

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/kettle/attest/attest/refusal"
)

// Runtime is an event that dstack's guest measured at run time.
type Runtime struct {
	Event    int
	Register int
	Name     string
	Payload  []byte
	// Exact is true if the digest allows no other division into name and payload. Version 1 joins them with a colon,
	// so a payload with a colon may have been part of the name.
	Exact bool
}

// runtime is what a runtime event says of itself, after its digest was computed from it.
type runtime struct {
	payload  []byte
	preimage []byte
	version  uint32
}

// The versions of dstack's runtime events: how the digest follows.
const (
	dstackJoined    = 1 // SHA-384 of type (little-endian) ":" name ":" payload
	dstackCanonical = 2 // SHA-384 of canonical JSON with name, payload in hex, type
)

// ParseDstack reads the event log of dstack: a JSON array of objects with imr, event_type, digest, event and
// event_payload, or an object that has such an array, or a string with one, as event_log. Digests of runtime events
// are computed, and refused if the log has others (event-log-mismatch). Boot events may come without their data and
// are then known by digest. Unknown and repeated keys are refused. Other errors are refusals with code malformed.
func ParseDstack(b []byte) (*Log, error) {
	if err := bounded(b); err != nil {
		return nil, err
	}
	if !utf8.Valid(b) {
		return nil, malformed("JSON in UTF-8", "other bytes")
	}
	list, err := unwrap(b)
	if err != nil {
		return nil, err
	}
	l := &Log{kind: Dstack, algs: []Algorithm{SHA384}, size: len(b)}
	if err := l.list(list); err != nil {
		return nil, err
	}
	return l.finish()
}

// unwrap finds the array in a quote's report.
func unwrap(b []byte) ([]byte, error) {
	if bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("[")) {
		return b, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	var found json.RawMessage
	err := object(d, func(key string) error {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return badJSON(err)
		}
		if key != "event_log" {
			return nil
		}
		if found != nil {
			return malformed("one event_log", "two")
		}
		found = value
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := ended(d); err != nil {
		return nil, err
	}
	if found == nil {
		return nil, malformed("a list of events, or an object with event_log", "an object without it")
	}
	if found[0] != '"' {
		return found, nil
	}
	var text string
	if err := json.Unmarshal(found, &text); err != nil {
		return nil, badJSON(err)
	}
	return []byte(text), nil
}

func (l *Log) list(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return malformed("a list of events", "something else").Because(err)
	}
	for number := 1; d.More(); number++ {
		e, err := dstackEvent(d, number)
		if err != nil {
			return err
		}
		if err := l.append(e); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return badJSON(err)
	}
	return ended(d)
}

// object reads an object key by key; value reads what belongs to a key.
func object(d *json.Decoder, value func(key string) error) error {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return malformed("a JSON object", "something else").Because(err)
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return badJSON(err)
		}
		key, ok := t.(string)
		if !ok {
			return malformed("a key", "something else")
		}
		if err := value(key); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return badJSON(err)
	}
	return nil
}

func ended(d *json.Decoder) error {
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return malformed("nothing after the JSON value", "more")
	}
	return nil
}

func badJSON(err error) error { return malformed("JSON", "something else").Because(err) }

// fields are the values of one event by key, as text and number.
type fields struct {
	text   map[string]string
	number map[string]uint32
}

// dstackEvent reads one object. Keys are compared exactly, each may come once.
func dstackEvent(d *json.Decoder, number int) (event, error) {
	f := fields{text: map[string]string{}, number: map[string]uint32{}}
	err := object(d, func(key string) error {
		_, text := f.text[key]
		_, num := f.number[key]
		if text || num {
			return malformed(at(number, "each key once"), fmt.Sprintf("%.32q twice", key))
		}
		return f.read(d, key, number)
	})
	if err != nil {
		return event{}, err
	}
	return f.event(number)
}

func (f *fields) read(d *json.Decoder, key string, number int) error {
	t, err := d.Token()
	if err != nil {
		return badJSON(err)
	}
	switch key {
	case "digest", "event", "event_payload", "preimage":
		if v, ok := t.(string); ok {
			f.text[key] = v
			return nil
		}
		return malformed(at(number, "%s as a string", key), "something else")
	case "imr", "event_type", "version":
		n, ok := t.(json.Number)
		if !ok {
			return malformed(at(number, "%s as a number", key), "something else")
		}
		v, err := strconv.ParseUint(n.String(), 10, 32)
		if err != nil {
			return malformed(at(number, "%s of 32 bits", key), fmt.Sprintf("%.32q", n)).Because(err)
		}
		f.number[key] = uint32(v)
		return nil
	}
	return malformed(at(number, "imr, event_type, digest, event, event_payload, version or preimage"), fmt.Sprintf("the key %.32q", key))
}

func (f *fields) event(number int) (event, error) {
	imr, hasIMR := f.number["imr"]
	typ, hasType := f.number["event_type"]
	name, hasName := f.text["event"]
	text, hasPayload := f.text["event_payload"]
	if !hasIMR || !hasType || !hasName || !hasPayload {
		return event{}, malformed(at(number, "imr, event_type, event and event_payload"), "some of them")
	}
	if imr > lastRTMR {
		return event{}, malformed(at(number, "imr 0 to %d", lastRTMR), fmt.Sprint(imr))
	}
	payload, err := hex.DecodeString(text)
	if err != nil {
		return event{}, malformed(at(number, "event_payload in hex"), "something else").Because(err)
	}
	digest, err := hex.DecodeString(f.text["digest"])
	if err != nil || len(digest) != 0 && len(digest) != SHA384.Size() {
		return event{}, malformed(at(number, "digest of %d bytes in hex", SHA384.Size()), "something else").Because(err)
	}
	e := event{number: number, register: int(imr), typ: Type(typ), name: name, data: payload}
	if e.typ == DstackRuntime {
		if digest, err = f.runtime(&e, digest); err != nil {
			return event{}, err
		}
	}
	if len(digest) == 0 && e.extends() {
		return event{}, malformed(at(number, "a digest"), "none")
	}
	e.digests = append(binary.LittleEndian.AppendUint16(nil, uint16(SHA384)), digest...)
	if !e.extends() {
		e.digests = nil
	}
	return e, nil
}

// runtime computes the digest of a runtime event and compares it with the one that the log has, if any.
func (f *fields) runtime(e *event, digest []byte) ([]byte, error) {
	version, given := f.number["version"]
	if !given {
		version = dstackJoined
	}
	r := &runtime{payload: e.data, version: version}
	switch version {
	case dstackJoined:
		r.preimage = binary.LittleEndian.AppendUint32(nil, uint32(e.typ))
		r.preimage = append(append(append(append(r.preimage, ':'), e.name...), ':'), e.data...)
	case dstackCanonical:
		r.preimage = append(jsonString([]byte(`{"name":`), e.name), `,"payload":"`...)
		r.preimage = hex.AppendEncode(r.preimage, e.data)
		r.preimage = append(strconv.AppendUint(append(r.preimage, `","type":`...), uint64(e.typ), 10), '}')
	default:
		return nil, malformed(at(e.number, "version 1 or 2"), fmt.Sprint(version))
	}
	if text, given := f.text["preimage"]; given {
		if b, err := hex.DecodeString(text); err != nil || !bytes.Equal(b, r.preimage) {
			return nil, inconsistent(e.number, "preimage").Because(err)
		}
	}
	want := SHA384.sum(r.preimage)
	if len(digest) != 0 && !bytes.Equal(digest, want) {
		return nil, inconsistent(e.number, "digest")
	}
	e.runtime = r
	return want, nil
}

func inconsistent(number int, what string) *refusal.Refusal {
	return mismatch(at(number, "the %s of its type, name and payload", what), "another one")
}

// runtimes lists dstack's events.
func (l *Log) runtimes(f *Facts, events []Proven) {
	for i := range events {
		p := &events[i]
		if r := p.source.runtime; r != nil {
			f.Runtime = append(f.Runtime, Runtime{
				Event: p.Number, Register: p.Register, Name: p.source.name, Payload: r.payload, Exact: r.exact(p.source.name),
			})
		}
	}
}

// exact reports whether no other name and payload have the same digest. dstack's names are UTF-8, so a name cannot
// end at a colon that stands after other bytes.
func (r *runtime) exact(name string) bool {
	if r.version == dstackCanonical {
		return true
	}
	if bytes.IndexByte([]byte(name), ':') >= 0 {
		return false
	}
	for i, c := range r.payload {
		if c == ':' && utf8.Valid(r.payload[:i]) {
			return false
		}
	}
	return true
}

// jsonString appends a string as RFC 8785 writes it.
func jsonString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, c := range []byte(s) {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c >= 0x20:
			b = append(b, c)
		default:
			if short := bytes.IndexByte([]byte("\b\t\n\f\r"), c); short >= 0 {
				b = append(b, '\\', "btnfr"[short])
			} else {
				b = fmt.Appendf(b, `\u%04x`, c)
			}
		}
	}
	return append(b, '"')
}
