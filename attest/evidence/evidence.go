// SPDX-License-Identifier: Apache-2.0

// Package evidence holds attestation evidence as data: one CMW JSON collection for one quote.
//
// The container is the collection of draft-ietf-rats-msg-wrap (media type application/cmw+json). Its items are raw
// bytes and are never re-encoded; the digest of evidence is the SHA-256 of the exact line that carries it. The package
// guarantees that a parsed collection has every required item exactly once, with the media type that this version
// names, and nothing else. Endorsements may be left out where another collection of the same file carries them: all
// quotes of one machine have the same. It does no cryptography and trusts nothing: verifying is for the packages above.
package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

// Type is the collection type: an absolute URI, as the draft demands.
const Type = "tag:github.com,2026:kettle/attest/evidence/v1"

// MediaType is the registered media type of the container.
const MediaType = "application/cmw+json"

// MaxLine bounds one evidence line in bytes.
const MaxLine = 256 << 10

// CMW indicator bits (draft-ietf-rats-msg-wrap, section 3.1).
const (
	indicatorEndorsements = 1 << 1
	indicatorEvidence     = 1 << 2
)

const link = "evidence"

// item fixes the media type and indicator of each item that a collection holds.
type item struct {
	name, mediaType string
	indicator       uint32
	optional        bool
}

var items = []item{ // the order in which they are written
	{"report", "application/vnd.amd.sev-snp.attestation-report", indicatorEvidence, false},
	{"endorsements", "application/pkix-cert", indicatorEndorsements, true},
	{"binding", "application/json", indicatorEvidence, false},
	{"public-key", "application/vnd.kettle.spki", indicatorEvidence, false},
	{"event-log", "application/vnd.kettle.event-log+jsonl", indicatorEvidence, false},
}

// Collection is the evidence of one quote.
type Collection struct {
	Report       []byte // the raw SEV-SNP report, 1184 bytes
	Endorsements []byte // DER of the certificate of the endorsement key (VCEK), may be empty; see the package comment
	Binding      []byte // canonical context, see package binding
	PublicKey    []byte // DER SubjectPublicKeyInfo of the key that signed the quoted statement
	EventLog     []byte // JSON Lines, see package eventlog
}

// Line encodes the collection as one line without the newline. Two calls give the same bytes.
func (c *Collection) Line() ([]byte, error) {
	values := map[string][]byte{
		"report": c.Report, "endorsements": c.Endorsements, "binding": c.Binding,
		"public-key": c.PublicKey, "event-log": c.EventLog,
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"__cmwc_t":%q`, Type)
	for _, it := range items {
		if len(values[it.name]) == 0 && it.optional {
			continue
		}
		if len(values[it.name]) == 0 {
			return nil, malformed("a value for item "+it.name, "none")
		}
		fmt.Fprintf(&b, `,%q:[%q,%q,%d]`, it.name, it.mediaType, base64.RawURLEncoding.EncodeToString(values[it.name]), it.indicator)
	}
	b.WriteByte('}')
	if b.Len() > MaxLine {
		return nil, malformed(fmt.Sprintf("evidence of at most %d bytes", MaxLine), fmt.Sprintf("%d bytes", b.Len()))
	}
	return b.Bytes(), nil
}

// Is reports whether a JSON line says that it is a collection of this package's type, without judging it. Collections
// of other types are lines of another kind.
func Is(line []byte) bool {
	var probe struct {
		Type string `json:"__cmwc_t"`
	}
	return json.Unmarshal(line, &probe) == nil && probe.Type == Type
}

// Digest names a line of evidence: the SHA-256 of its exact bytes, without the newline.
func Digest(line []byte) binding.Digest { return binding.Sum(line) }

// Parse reads one line. Unknown, duplicate and missing items, other media types and trailing data are refused.
func Parse(line []byte) (*Collection, error) {
	if len(line) > MaxLine {
		return nil, malformed(fmt.Sprintf("evidence of at most %d bytes", MaxLine), fmt.Sprintf("%d bytes", len(line)))
	}
	raw, err := object(line)
	if err != nil {
		return nil, err
	}
	var typ string
	if err := json.Unmarshal(raw["__cmwc_t"], &typ); err != nil || typ != Type {
		return nil, malformed("collection type "+Type, fmt.Sprintf("%q", typ)).Because(err)
	}
	delete(raw, "__cmwc_t")
	values := map[string][]byte{}
	for _, it := range items {
		r, ok := raw[it.name]
		if !ok && it.optional {
			continue
		}
		if !ok {
			return nil, missing(it.name)
		}
		if values[it.name], err = it.decode(r); err != nil {
			return nil, err
		}
		delete(raw, it.name)
	}
	for name := range raw {
		return nil, malformed("only the items of "+Type, fmt.Sprintf("item %q", name))
	}
	return &Collection{
		Report: values["report"], Endorsements: values["endorsements"], Binding: values["binding"],
		PublicKey: values["public-key"], EventLog: values["event-log"],
	}, nil
}

// decode reads one CMW record: [media type, base64url value, indicator].
func (it item) decode(raw json.RawMessage) ([]byte, error) {
	var record []json.RawMessage
	var mediaType, value string
	var indicator uint32
	err := json.Unmarshal(raw, &record)
	if err == nil && len(record) != 3 {
		err = fmt.Errorf("%d elements", len(record))
	}
	for i, dst := range []any{&mediaType, &value, &indicator} {
		if err == nil {
			err = json.Unmarshal(record[i], dst)
		}
	}
	if err != nil {
		return nil, malformed("item "+it.name+" as [media type, value, indicator]", "another shape").Because(err)
	}
	if mediaType != it.mediaType || indicator != it.indicator {
		return nil, malformed(fmt.Sprintf("item %s of type %s, indicator %d", it.name, it.mediaType, it.indicator),
			fmt.Sprintf("%q, %d", mediaType, indicator))
	}
	b, err := unbase64(value)
	if err != nil {
		return nil, malformed("item "+it.name+" in base64url without padding", "another encoding").Because(err)
	}
	if len(b) == 0 {
		return nil, missing(it.name)
	}
	return b, nil
}

// unbase64 decodes base64url without padding in its one encoding; the decoder alone skips line breaks.
func unbase64(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding base64url: %w", err)
	}
	if base64.RawURLEncoding.EncodeToString(b) != s {
		return nil, errors.New("not the canonical base64url")
	}
	return b, nil
}

// object reads one JSON object and refuses duplicate keys and trailing data.
func object(b []byte) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, malformed("a JSON object", "something else").Because(err)
	}
	out := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, malformed("a JSON object", "broken JSON").Because(err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, malformed("text keys", "another token")
		}
		if _, dup := out[key]; dup {
			return nil, malformed("each key once", fmt.Sprintf("%q twice", key))
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, malformed("a JSON object", "broken JSON").Because(err)
		}
		out[key] = v
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed("a closed JSON object", "truncated JSON").Because(err)
	}
	if len(bytes.TrimSpace(b[dec.InputOffset():])) != 0 {
		return nil, malformed("one JSON object", "trailing data")
	}
	return out, nil
}

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: want, Got: got,
		Next: "take the evidence again from the bundle that the runner wrote",
	}
}

func missing(what string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Missing, Want: what, Got: "nothing",
		Next: "take the evidence again from the bundle that the runner wrote",
	}
}
