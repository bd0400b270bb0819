// SPDX-License-Identifier: Apache-2.0

// Package quoteport is the wire between a guest and the simulated secure processor outside it.
//
// A frame is a 32-bit big-endian length and that many bytes of JSON, at most [MaxFrame]. The guest sends requests, the
// processor answers each with one reply:
//
//	{"v":1,"op":"report","reportData":"<128 hex digits>"}  ->  {"ok":{"report":"<base64>","endorsements":"<PEM>"}}
//	{"v":1,"op":"extend","digest":"<64 hex digits>"}       ->  {"ok":{"register":"<64 hex digits>"}}
//	anything refused                                       ->  {"refusal":{"code":…,"link":…,"want":…,"got":…,"next":…}}
//
// Both directions are parsed strictly: unknown, repeated or differently spelt keys, null, trailing bytes, upper-case
// hexadecimal and loose base64 are errors. The package guarantees nothing about who is at the other end; what a report
// is worth, its signature says. It imports the standard library and attest/refusal only.
package quoteport

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kettle/attest/attest/refusal"
)

// PortName is the name of the virtio-serial port.
const PortName = "dev.kettle.quote"

// MaxFrame is the largest JSON body of a frame in bytes.
const MaxFrame = 64 << 10

const lengthSize = 4

// ErrFrameTooLong is returned for a frame that announces more than [MaxFrame] bytes. The stream is useless after it.
var ErrFrameTooLong = errors.New("frame longer than 64 KiB")

// ReadFrame reads one frame. It returns [io.EOF] only when the stream ends before the first byte.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [lengthSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err //nolint:wrapcheck // io.EOF is part of the contract.
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return nil, ErrFrameTooLong
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("reading a frame of %d bytes: %w", n, err)
	}
	return body, nil
}

// WriteFrame writes one frame with a single write.
func WriteFrame(w io.Writer, body []byte) error {
	if len(body) > MaxFrame {
		return ErrFrameTooLong
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, lengthSize+len(body)), uint32(len(body))) //nolint:gosec // At most MaxFrame.
	if _, err := w.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("writing a frame: %w", err)
	}
	return nil
}

// Op is what a request asks for. The zero value is nothing.
type Op string

// The operations.
const (
	OpReport Op = "report" // sign a report over ReportData
	OpExtend Op = "extend" // extend the run-time register by Digest
)

// Request is one request of the guest. Which field counts, Op says.
type Request struct {
	Op         Op
	ReportData [64]byte
	Digest     [32]byte
}

// Marshal gives the JSON of the request.
func (r Request) Marshal() ([]byte, error) {
	m := struct {
		V          int    `json:"v"`
		Op         Op     `json:"op"`
		ReportData string `json:"reportData,omitempty"`
		Digest     string `json:"digest,omitempty"`
	}{V: 1, Op: r.Op}
	switch r.Op {
	case OpReport:
		m.ReportData = hex.EncodeToString(r.ReportData[:])
	case OpExtend:
		m.Digest = hex.EncodeToString(r.Digest[:])
	default:
		return nil, fmt.Errorf("writing a quote request: no operation %q", string(r.Op))
	}
	return marshal(m)
}

// ParseRequest reads the JSON of a request. Errors are of type [refusal.Refusal] with code malformed.
func ParseRequest(body []byte) (Request, error) {
	m, err := members(body)
	if err != nil {
		return Request{}, malformed("one JSON object", err.Error())
	}
	if string(m["v"]) != "1" {
		return Request{}, malformed(`"v":1`, "another version or none")
	}
	op, err := text(m["op"])
	if err != nil {
		return Request{}, malformed(`"op" as a string`, err.Error())
	}
	r := Request{Op: Op(op)}
	switch r.Op {
	case OpReport:
		err = only(m, "reportData", r.ReportData[:])
	case OpExtend:
		err = only(m, "digest", r.Digest[:])
	default:
		err = malformed(`"op" report or extend`, fmt.Sprintf("%.40q", op))
	}
	if err != nil {
		return Request{}, err
	}
	return r, nil
}

// only reads the one member besides v and op, as lower-case hexadecimal of exactly the size of out.
func only(m map[string]json.RawMessage, key string, out []byte) error {
	for k := range m {
		if k != "v" && k != "op" && k != key {
			return malformed("no other member than v, op and "+key, fmt.Sprintf("%.40q", k))
		}
	}
	if err := hexText(m[key], out); err != nil {
		return malformed(fmt.Sprintf("%s as %d lower-case hexadecimal digits", key, 2*len(out)), err.Error())
	}
	return nil
}

// Reply is the processor's answer. Exactly one of Report (with Endorsements), Register and Refusal is set.
type Reply struct {
	Report       []byte // the report's bytes
	Endorsements []byte // PEM: VCEK, then ASK
	Register     *[32]byte
	Refusal      *refusal.Refusal
}

type refusalJSON struct {
	Code refusal.Code `json:"code"`
	Link string       `json:"link"`
	Want string       `json:"want"`
	Got  string       `json:"got"`
	Next string       `json:"next"`
}

// Marshal gives the JSON of the reply.
func (r Reply) Marshal() ([]byte, error) {
	switch {
	case r.Refusal != nil:
		x := r.Refusal
		return marshal(map[string]refusalJSON{"refusal": {Code: x.Code, Link: x.Link, Want: x.Want, Got: x.Got, Next: x.Next}})
	case r.Register != nil:
		return marshal(map[string]map[string]string{"ok": {"register": hex.EncodeToString(r.Register[:])}})
	case len(r.Report) != 0 && len(r.Endorsements) != 0:
		return marshal(map[string]map[string]string{"ok": {
			"report": base64.StdEncoding.EncodeToString(r.Report), "endorsements": string(r.Endorsements),
		}})
	}
	return nil, errors.New("writing a quote reply: nothing in it")
}

// ParseReply reads the JSON of the reply to a request of operation op. A refusal in it is a Reply, not an error.
func ParseReply(op Op, body []byte) (Reply, error) {
	m, err := members(body)
	if err != nil {
		return Reply{}, fmt.Errorf("reading a quote reply: %w", err)
	}
	if len(m) != 1 {
		return Reply{}, errors.New("reading a quote reply: want exactly one member, ok or refusal")
	}
	var r Reply
	if raw, refused := m["refusal"]; refused {
		r.Refusal, err = parseRefusal(raw)
	} else {
		r, err = parseOK(op, m["ok"])
	}
	if err != nil {
		return Reply{}, fmt.Errorf("reading a quote reply: %w", err)
	}
	return r, nil
}

func parseOK(op Op, raw json.RawMessage) (Reply, error) {
	m, err := members(raw)
	if err != nil {
		return Reply{}, err
	}
	switch op {
	case OpExtend:
		var register [32]byte
		if len(m) != 1 {
			return Reply{}, errors.New("want exactly the member register")
		}
		if err := hexText(m["register"], register[:]); err != nil {
			return Reply{}, fmt.Errorf("register: %w", err)
		}
		return Reply{Register: &register}, nil
	case OpReport:
		if len(m) != 2 {
			return Reply{}, errors.New("want exactly the members report and endorsements")
		}
		encoded, err := text(m["report"])
		if err != nil {
			return Reply{}, fmt.Errorf("report: %w", err)
		}
		report, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || len(report) == 0 || base64.StdEncoding.EncodeToString(report) != encoded {
			return Reply{}, errors.New("report: not canonical base64")
		}
		endorsements, err := text(m["endorsements"])
		if err != nil || endorsements == "" {
			return Reply{}, errors.New("endorsements: want PEM")
		}
		return Reply{Report: report, Endorsements: []byte(endorsements)}, nil
	}
	return Reply{}, fmt.Errorf("no operation %q", string(op))
}

func parseRefusal(raw json.RawMessage) (*refusal.Refusal, error) {
	m, err := members(raw)
	if err != nil {
		return nil, err
	}
	var r refusal.Refusal
	var code string
	fields := map[string]*string{"code": &code, "link": &r.Link, "want": &r.Want, "got": &r.Got, "next": &r.Next}
	if len(m) != len(fields) {
		return nil, errors.New("refusal: want exactly code, link, want, got and next")
	}
	for key, to := range fields {
		if *to, err = text(m[key]); err != nil {
			return nil, fmt.Errorf("refusal %s: %w", key, err)
		}
	}
	if r.Code = refusal.Code(code); !r.Code.Valid() {
		return nil, fmt.Errorf("refusal: no code %.40q", code)
	}
	return &r, nil
}

func malformed(want, got string) error {
	return &refusal.Refusal{
		Link: "quote port", Code: refusal.Malformed, Want: want, Got: got,
		Next: "send requests as this version of Kettle writes them",
	}
}
