// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/strict"
)

// The two exchanges: each is a POST over TLS to a path of the dispatcher.
const (
	PathChallenge = "/admission/v1/challenge" // Hello → a line with the ADMISSION_CHALLENGE statement
	PathAdmit     = "/admission/v1/admit"     // Request → Answer
)

// Media types of what is sent.
const (
	MediaJSON  = "application/json"
	MediaLines = "application/jsonl"
)

// Limits of the messages, in bytes.
const (
	MaxHello     = 512
	MaxChallenge = 16 << 10
	MaxRequest   = 4 << 20
	MaxAnswer    = 512 << 10
	MaxRefusal   = 32 << 10
)

// maxImage bounds the lines of an image's bundle.
const maxImage = 32

// maxText bounds one text of a refusal that came over the wire, in bytes.
const maxText = 1 << 10

// maxRefusals bounds those of one answer.
const maxRefusals = 32

// Schemas of the messages that are not statements.
const (
	HelloSchema   = "kettle.admission-hello/v1"
	RefusalSchema = "kettle.admission-refusal/v1"
)

const link = "admission"

const nextOther = "run programs of the same version on both sides"

// Hello asks for a challenge.
type Hello struct {
	EnvironmentKey binding.Digest // SHA-256 of its SubjectPublicKeyInfo
	Fresh          binding.Digest // 32 random bytes, which the challenge repeats
}

type helloJSON struct {
	Schema         string         `json:"schema"`
	EnvironmentKey binding.Digest `json:"environmentKey"`
	Fresh          binding.Digest `json:"fresh"`
}

// Encode gives the message.
func (h Hello) Encode() ([]byte, error) {
	if h.EnvironmentKey.IsZero() || h.Fresh.IsZero() {
		return nil, errors.New("encoding hello: environment key and random bytes are needed")
	}
	return json.Marshal(helloJSON{HelloSchema, h.EnvironmentKey, h.Fresh})
}

// ParseHello reads the message.
func ParseHello(b []byte) (Hello, error) {
	var h helloJSON
	if len(b) > MaxHello || strict.Decode(b, &h) != nil || h.Schema != HelloSchema || h.EnvironmentKey.IsZero() || h.Fresh.IsZero() {
		return Hello{}, malformed("a message of schema " + HelloSchema)
	}
	return Hello{h.EnvironmentKey, h.Fresh}, nil
}

// Request is what an environment sends to be admitted: lines, byte for byte as they were signed and quoted.
type Request struct {
	Statement    []byte   // bundle with the ADMISSION_REQUEST statement
	Evidence     []byte   // its evidence, purpose admission
	Boot         []byte   // bundle with the BOOT statement
	BootEvidence []byte   // its evidence
	Image        [][]byte // the image's bundle: empty unless the challenge asks for it
}

// fixed is how many lines every request has.
const fixed = 4

// Encode gives the message: JSON Lines.
func (r Request) Encode() ([]byte, error) {
	lines := append([][]byte{r.Statement, r.Evidence, r.Boot, r.BootEvidence}, r.Image...)
	return encodeLines(lines, fixed+maxImage, MaxRequest)
}

// ParseRequest splits the message into its lines and judges none of them.
func ParseRequest(b []byte) (Request, error) {
	lines, err := splitLines(b, fixed, fixed+maxImage, MaxRequest)
	if err != nil {
		return Request{}, err
	}
	return Request{lines[0], lines[1], lines[2], lines[3], lines[fixed:]}, nil
}

// Answer is what an environment gets that is admitted.
type Answer struct {
	Summary []byte // bundle with the VSA-ENV statement
	Release []byte // bundle with the ADMISSION_RELEASE statement
}

// answerLines is how many lines every answer has.
const answerLines = 2

// Encode gives the message: JSON Lines.
func (a Answer) Encode() ([]byte, error) {
	return encodeLines([][]byte{a.Summary, a.Release}, answerLines, MaxAnswer)
}

// ParseAnswer splits the message into its lines and judges none of them.
func ParseAnswer(b []byte) (Answer, error) {
	lines, err := splitLines(b, answerLines, answerLines, MaxAnswer)
	if err != nil {
		return Answer{}, err
	}
	return Answer{lines[0], lines[1]}, nil
}

func encodeLines(lines [][]byte, most, size int) ([]byte, error) {
	var b bytes.Buffer
	for _, l := range lines {
		if len(l) == 0 || bytes.ContainsAny(l, "\r\n") {
			return nil, errors.New("encoding message: a line is missing or is more than one")
		}
		b.Write(l)
		b.WriteByte('\n')
	}
	if len(lines) > most || b.Len() > size {
		return nil, fmt.Errorf("encoding message: more than %d lines or %d bytes", most, size)
	}
	return b.Bytes(), nil
}

// splitLines gives the lines, which share memory with b.
func splitLines(b []byte, least, most, size int) ([][]byte, error) {
	n := bytes.Count(b, []byte{'\n'})
	if len(b) > size || n < least || n > most || b[len(b)-1] != '\n' {
		return nil, malformed(fmt.Sprintf("%d to %d whole lines of at most %d bytes together", least, most, size))
	}
	lines := bytes.Split(b[:len(b)-1], []byte{'\n'})
	for _, l := range lines {
		if len(l) == 0 || l[0] != '{' || l[len(l)-1] != '}' {
			return nil, malformed("JSON objects, one a line")
		}
	}
	return lines, nil
}

// Refusal is what an environment gets that is not admitted. A final one was decided; after another the environment may
// begin again.
type Refusal struct {
	Final    bool
	Refusals []*refusal.Refusal
}

type refusalJSON struct {
	Schema   string       `json:"schema"`
	Final    bool         `json:"final"`
	Refusals []reasonJSON `json:"refusals"`
}

type reasonJSON struct {
	Link string       `json:"link"`
	Code refusal.Code `json:"code"`
	Want string       `json:"want"`
	Got  string       `json:"got,omitempty"`
	Next string       `json:"next,omitempty"`
}

// Encode gives the message. Texts are cut, their causes stay behind.
func (r Refusal) Encode() ([]byte, error) {
	out := refusalJSON{Schema: RefusalSchema, Final: r.Final, Refusals: []reasonJSON{}}
	for _, x := range r.Refusals[:min(len(r.Refusals), maxRefusals)] {
		// Several long texts together stay below MaxRefusal.
		clip := func(s string) string { return printable(s, max(64, maxText/(2*len(r.Refusals)))) }
		out.Refusals = append(out.Refusals, reasonJSON{clip(x.Link), x.Code, clip(x.Want), clip(x.Got), clip(x.Next)})
	}
	return json.Marshal(out)
}

// ParseRefusal reads the message. Its texts are the dispatcher's, made safe to print.
func ParseRefusal(b []byte) (Refusal, error) {
	var in refusalJSON
	if len(b) > MaxRefusal || strict.Decode(b, &in) != nil || in.Schema != RefusalSchema || len(in.Refusals) == 0 || len(in.Refusals) > maxRefusals {
		return Refusal{}, malformed("a message of schema " + RefusalSchema)
	}
	out := Refusal{Final: in.Final}
	for _, x := range in.Refusals {
		if !x.Code.Valid() || x.Link == "" || x.Want == "" {
			return Refusal{}, malformed("refusals with a link, a known code and what was wanted")
		}
		out.Refusals = append(out.Refusals, &refusal.Refusal{
			Link: printable(x.Link, maxText), Code: x.Code, Want: printable(x.Want, maxText), Got: printable(x.Got, maxText), Next: printable(x.Next, maxText),
		})
	}
	return out, nil
}

// Err joins the refusals into one error.
func (r Refusal) Err() error {
	errs := make([]error, len(r.Refusals))
	for i, x := range r.Refusals {
		errs[i] = x
	}
	return errors.Join(errs...)
}

// printable cuts text and replaces what could drive a terminal.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

func malformed(want string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Malformed, Want: want, Got: "something else", Next: nextOther}
}
