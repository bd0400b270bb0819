// SPDX-License-Identifier: Apache-2.0

// Package binding defines the 64 bytes of report data that tie a statement to a hardware quote.
//
// One rule holds for every platform that gives a guest 64 bytes:
//
//	report_data = SHA-256(payload) ‖ SHA-256(context)
//
// payload is the exact DSSE payload of the statement being quoted; context is the canonical JSON (RFC 8785) that names
// the purpose of the quote. Both are hashed as carried and never re-serialised. A verifier demands a purpose, so a
// quote made for one statement can never stand in for another.
//
// The package guarantees that a parsed context is canonical and holds exactly the fields of its purpose. It says
// nothing about who made the quote: that is the business of the platform packages. The bytes are golden-tested; a
// change of any of them is version 2, never a new value under version 1. It imports the standard library and the
// refusal vocabulary only.
package binding

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/kettle/attest/attest/refusal"
)

// Version is the version of the context that this package writes and the only one that it reads.
const Version = 1

// Limits of one context.
const (
	MaxContext  = 4 << 10   // bytes
	MaxSequence = 1<<31 - 1 // far below 2^53, from where on RFC 8785 writes numbers in another way
)

// link is the name of this link of the chain in refusals.
const link = "binding"

// Purpose says what a quote was made for.
type Purpose string

// The purposes. Each fixes which fields its context holds and which key signs the payload.
const (
	Boot      Purpose = "boot"      // BOOT statement, signed by the environment key
	Admission Purpose = "admission" // admission request, signed by the environment key
	Dispatch  Purpose = "dispatch"  // DISPATCH statement, signed by the environment key
	Response  Purpose = "response"  // SLSA provenance, signed by the statement key
	Final     Purpose = "final"     // FINAL statement, signed by the statement key
)

// Digest is a SHA-256 digest. In JSON it is 64 lower-case hexadecimal digits.
type Digest [sha256.Size]byte

// String gives the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether the digest was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements [encoding.TextMarshaler].
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; it accepts exactly 64 lower-case hexadecimal digits.
func (d *Digest) UnmarshalText(b []byte) error {
	got, err := ParseDigest(string(b))
	if err != nil {
		return err
	}
	*d = got
	return nil
}

// ParseDigest reads 64 lower-case hexadecimal digits.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return d, fmt.Errorf("digest has %d characters, want %d", len(s), hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("decoding digest: %w", err)
	}
	if d.String() != s {
		return Digest{}, fmt.Errorf("digest %q is not lower-case hexadecimal", s)
	}
	return d, nil
}

// Sum is the SHA-256 digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

// Context is what a quote was made for, besides its payload. Fields that a purpose does not use stay zero; the
// table in [Context.Validate] says which are required.
type Context struct {
	V              int     `json:"v"`
	Purpose        Purpose `json:"purpose"`
	EnvironmentKey Digest  `json:"environmentKey"`        // SHA-256 of the environment key's SPKI
	Nonce          Digest  `json:"nonce,omitzero"`        // admission, dispatch: 32 fresh bytes
	HPKEKey        Digest  `json:"hpkeKey,omitzero"`      // admission: SHA-256 of the HPKE public key
	BuildID        string  `json:"buildId,omitzero"`      // dispatch, response, final: the build's URI
	BootEvidence   Digest  `json:"bootEvidence,omitzero"` // dispatch: SHA-256 of the BOOT evidence line
	StatementKey   Digest  `json:"statementKey,omitzero"` // response, final: SHA-256 of the statement key's SPKI
	Dispatch       Digest  `json:"dispatch,omitzero"`     // response, final: SHA-256 of the DISPATCH payload
	Sequence       int     `json:"sequence,omitzero"`     // response: 1, 2, 3 … in one environment
	EventLogHead   Digest  `json:"eventLogHead,omitzero"` // response, final: head of the environment's event log
}

// Validate reports whether exactly the fields of the purpose are set.
func (c Context) Validate() error {
	if c.V != Version {
		return malformed(fmt.Sprintf("context version %d", Version), fmt.Sprint(c.V))
	}
	type set struct{ nonce, hpke, build, boot, key, dispatch, seq, head bool }
	want, ok := map[Purpose]set{
		Boot:      {},
		Admission: {nonce: true, hpke: true},
		Dispatch:  {nonce: true, build: true, boot: true},
		Response:  {build: true, key: true, dispatch: true, seq: true, head: true},
		Final:     {build: true, key: true, dispatch: true, head: true},
	}[c.Purpose]
	if !ok {
		return malformed("a known purpose", fmt.Sprintf("%q", c.Purpose))
	}
	got := set{
		nonce: !c.Nonce.IsZero(), hpke: !c.HPKEKey.IsZero(), build: c.BuildID != "", boot: !c.BootEvidence.IsZero(),
		key: !c.StatementKey.IsZero(), dispatch: !c.Dispatch.IsZero(), seq: c.Sequence > 0, head: !c.EventLogHead.IsZero(),
	}
	if got != want || c.Sequence < 0 || c.Sequence > MaxSequence || c.EnvironmentKey.IsZero() {
		return malformed(fmt.Sprintf("exactly the context fields of purpose %q", c.Purpose), "other fields")
	}
	for _, r := range []byte(c.BuildID) {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' || r == '<' || r == '>' || r == '&' {
			return malformed("a build ID of printable URI characters", fmt.Sprintf("%q", c.BuildID))
		}
	}
	return nil
}

// Canonical gives the RFC 8785 bytes of a valid context. All strings in it are printable ASCII without characters
// that need escaping, so sorting the keys is all that canonical form asks for.
func (c Context) Canonical() ([]byte, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encoding context: %w", err)
	}
	var sorted map[string]json.RawMessage
	if err := json.Unmarshal(b, &sorted); err != nil {
		return nil, fmt.Errorf("sorting context: %w", err)
	}
	if b, err = json.Marshal(sorted); err != nil {
		return nil, fmt.Errorf("encoding sorted context: %w", err)
	}
	return b, nil
}

// Parse reads context bytes as carried in evidence. Anything but the canonical form of a valid context is refused,
// which also refuses duplicate and unknown keys.
func Parse(b []byte) (Context, error) {
	if len(b) > MaxContext {
		return Context{}, malformed(fmt.Sprintf("a context of at most %d bytes", MaxContext), fmt.Sprintf("%d bytes", len(b)))
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var c Context
	if err := dec.Decode(&c); err != nil {
		return Context{}, malformed("a canonical JSON context", "bytes that do not decode").Because(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Context{}, malformed("one JSON object", "trailing data")
	}
	canonical, err := c.Canonical()
	if err != nil {
		return Context{}, err
	}
	if !bytes.Equal(canonical, b) {
		return Context{}, malformed("the context in canonical form (RFC 8785)", "another encoding of it")
	}
	return c, nil
}

// ReportData gives the 64 bytes that a quote over payload and context must carry.
func ReportData(payload, context []byte) [64]byte {
	var rd [64]byte
	p, c := sha256.Sum256(payload), sha256.Sum256(context)
	copy(rd[:32], p[:])
	copy(rd[32:], c[:])
	return rd
}

// Check demands that report data binds exactly these payload and context bytes for this purpose, and returns the
// context. A quote made for another purpose is refused even if everything else agrees.
func Check(reportData [64]byte, payload, context []byte, purpose Purpose) (Context, error) {
	want := ReportData(payload, context)
	return check("report data", reportData[:], want[:], context, purpose)
}

// ExtraData gives the 32 bytes that a TPM quote over payload and context must carry as qualifying data: the SHA-256 of
// the 64 bytes of [ReportData]. A TPM takes no more than the largest digest it knows, and some know no other.
func ExtraData(payload, context []byte) Digest {
	rd := ReportData(payload, context)
	return Sum(rd[:])
}

// CheckExtraData is [Check] for a TPM quote: all of its extra data has to be [ExtraData].
func CheckExtraData(extraData, payload, context []byte, purpose Purpose) (Context, error) {
	want := ExtraData(payload, context)
	return check("extra data", extraData, want[:], context, purpose)
}

// check reads the context and compares what was quoted with what should have been, whole.
func check(name string, got, want, context []byte, purpose Purpose) (Context, error) {
	c, err := Parse(context)
	if err != nil {
		return Context{}, err
	}
	if c.Purpose != purpose {
		return Context{}, &refusal.Refusal{
			Link: link, Code: refusal.Binding, Want: fmt.Sprintf("a quote made for purpose %q", purpose),
			Got: fmt.Sprintf("purpose %q", c.Purpose), Next: "take the evidence that belongs to this statement",
		}
	}
	if subtle.ConstantTimeCompare(want, got) != 1 {
		return Context{}, &refusal.Refusal{
			Link: link, Code: refusal.Binding, Want: name + " " + hex.EncodeToString(want),
			Got:  hex.EncodeToString(got),
			Next: "the statement or its context was changed after the quote was made, or the quote belongs to another statement",
		}
	}
	return c, nil
}

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: want, Got: got,
		Next: "the evidence was not written by Kettle version 1, or was altered",
	}
}
