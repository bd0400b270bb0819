// SPDX-License-Identifier: Apache-2.0

// Package eventlog holds the event log of one build environment: what happened, in order, as a hash chain.
//
// The log is JSON Lines, one event a line. Its head is a hash chain over the exact lines, so a quote that names the
// head fixes every event before it:
//
//	head_0     = 32 zero bytes
//	head_{i+1} = SHA-256(head_i ‖ SHA-256(line_i))
//
// Events of the types that extend a run-time register are replayed into the value that the register must have:
//
//	register_0     = 32 zero bytes
//	register_{i+1} = SHA-256(register_i ‖ digest_i)       PCR 15, and the simulator's register
//
//	rtmr_0     = 48 zero bytes
//	rtmr_{i+1} = SHA-384(rtmr_i ‖ SHA-384(digest_i))      RTMR3
//
// The package guarantees that a parsed log is complete from its first event, in canonical form, and has the order that
// an honest environment gives it: configuration, environment-key, dispatch, then responses. It trusts nothing: a log proves
// something only when a quote carries its head or its register value.
package eventlog

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// MaxEvents bounds the events of one log.
const MaxEvents = 4096

const link = "event-log"

// Type says what happened.
type Type string

// The types of events, in the order in which an environment may log them.
const (
	Configuration  Type = "configuration"   // digest: SHA-256 of the configuration file; extends the register
	EnvironmentKey Type = "environment-key" // digest: SHA-256 of the environment key's SPKI; extends the register
	Dispatch       Type = "dispatch"        // digest: SHA-256 of the DISPATCH payload; extends the register
	Response       Type = "response"        // digest: SHA-256 of a provenance payload; any number of times
)

// Event is one line of the log.
type Event struct {
	Seq    int            `json:"seq"`
	Type   Type           `json:"type"`
	Digest binding.Digest `json:"digest"`
}

// extends reports whether an event of this type also extends the run-time register.
func (t Type) extends() bool { return t == Configuration || t == EnvironmentKey || t == Dispatch }

// Once gives the types that a log has once each, in order, before its responses.
func Once() []Type { return []Type{Configuration, EnvironmentKey, Dispatch} }

// Log is an event log. The zero value is an empty log. It is not safe for concurrent use.
type Log struct {
	events   []Event
	raw      []byte
	head     binding.Digest
	register binding.Digest
	rtmr     [48]byte
}

// Append adds an event. It refuses an event that an honest environment would not log at this place.
func (l *Log) Append(t Type, digest binding.Digest) error {
	if err := l.admits(t, digest); err != nil {
		return err
	}
	e := Event{Seq: len(l.events), Type: t, Digest: digest}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding event: %w", err)
	}
	lineDigest := sha256.Sum256(line)
	l.head = binding.Sum(append(l.head[:], lineDigest[:]...))
	if t.extends() {
		l.register, l.rtmr = Extend(l.register, digest), ExtendRTMR(l.rtmr, digest)
	}
	l.events = append(l.events, e)
	l.raw = append(append(l.raw, line...), '\n')
	return nil
}

func (l *Log) admits(t Type, digest binding.Digest) error {
	want := Response
	if once := Once(); len(l.events) < len(once) {
		want = once[len(l.events)]
	}
	if t != want {
		return mismatch(fmt.Sprintf("event %d of type %q", len(l.events), want), fmt.Sprintf("%q", t))
	}
	if digest.IsZero() {
		return mismatch(fmt.Sprintf("a digest in event %d", len(l.events)), "zeros")
	}
	if len(l.events) >= MaxEvents {
		return mismatch(fmt.Sprintf("at most %d events", MaxEvents), "more")
	}
	return nil
}

// Bytes gives the log as JSON Lines, each line ended by a newline.
func (l *Log) Bytes() []byte { return bytes.Clone(l.raw) }

// Head gives the hash chain over all lines.
func (l *Log) Head() binding.Digest { return l.head }

// Register gives the value that a run-time register of SHA-256 has after these events.
func (l *Log) Register() binding.Digest { return l.register }

// RTMR gives the value that RTMR3 of a trust domain has after these events.
func (l *Log) RTMR() [48]byte { return l.rtmr }

// Events gives the events in order.
func (l *Log) Events() []Event { return append([]Event(nil), l.events...) }

// Extend gives the register value after extending old with digest.
func Extend(old, digest binding.Digest) binding.Digest {
	return binding.Sum(append(append([]byte(nil), old[:]...), digest[:]...))
}

// RTMRDigest gives what RTMR3 is extended with for an event: the SHA-384 of the event's digest.
func RTMRDigest(digest binding.Digest) [48]byte { return sha512.Sum384(digest[:]) }

// ExtendRTMR gives the value of RTMR3 after an event with this digest.
func ExtendRTMR(old [48]byte, digest binding.Digest) [48]byte {
	d := RTMRDigest(digest)
	return sha512.Sum384(append(old[:], d[:]...))
}

// Parse replays a log from its bytes. Only the exact bytes that [Log.Bytes] would give are accepted.
func Parse(b []byte) (*Log, error) {
	l := new(Log)
	for rest := b; len(rest) > 0; {
		line, after, ok := bytes.Cut(rest, []byte{'\n'})
		if !ok {
			return nil, malformed("every event on a line of its own", "a truncated line")
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, malformed("events as JSON", "a line that does not decode").Because(err)
		}
		if err := l.Append(e.Type, e.Digest); err != nil {
			return nil, err
		}
		rest = after
	}
	if !bytes.Equal(l.raw, b) {
		return nil, malformed("the log in canonical form", "another encoding of it")
	}
	if len(l.events) == 0 {
		return nil, malformed("at least one event", "an empty log")
	}
	return l, nil
}

func mismatch(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.EventLogMismatch, Want: want, Got: got,
		Next: "the log was not written by an honest environment of version 1",
	}
}

func malformed(want, got string) *refusal.Refusal {
	r := mismatch(want, got)
	r.Code = refusal.Malformed
	return r
}
