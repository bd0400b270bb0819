// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/internal/strict"
)

// op names a request.
type op string

const (
	opStarted op = "started"
	opAttest  op = "attest"
	opStatus  op = "status"
)

// request is one request on the wire: exactly the body that its op names is present, and status has none.
type request struct {
	V       int          `json:"v"`
	Op      op           `json:"op"`
	Started *wireStarted `json:"started,omitempty"`
	Attest  *Attest      `json:"attest,omitempty"`
}

type wireStarted struct {
	Claims  Claims       `json:"claims"`
	IDToken *wireIDToken `json:"idToken,omitempty"`
}

type wireIDToken struct {
	URL   string `json:"url"`
	Token string `json:"token"`
}

// reply is one answer on the wire: exactly one of the two is present.
type reply struct {
	OK      json.RawMessage `json:"ok,omitempty"`
	Refusal *wireRefusal    `json:"refusal,omitempty"`
}

type wireRefusal struct {
	Code refusal.Code `json:"code"`
	Link string       `json:"link"`
	Want string       `json:"want"`
	Got  string       `json:"got"`
	Next string       `json:"next"`
}

// encodeRequest encodes one request. Characters of HTML stand for themselves, so that no text of the job's choice grows
// to more than twice its length: the largest started request fits into a frame.
func encodeRequest(r request) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// parseRequest decodes and checks one request.
func parseRequest(data []byte) (*request, error) {
	var r request
	if err := strict.Decode(data, &r); err != nil {
		return nil, malformed("a request in the door's JSON", "something else").Because(err)
	}
	if r.V != Version {
		return nil, malformed(fmt.Sprintf("version %d", Version), fmt.Sprintf("version %d", r.V))
	}
	switch r.Op {
	case opStarted, opAttest, opStatus:
	default:
		return nil, malformed("op started, attest or status", fmt.Sprintf("%.64q", string(r.Op)))
	}
	if (r.Started != nil) != (r.Op == opStarted) || (r.Attest != nil) != (r.Op == opAttest) {
		return nil, malformed("the body that op "+string(r.Op)+" names and no other", "other bodies")
	}
	var err error
	switch r.Op {
	case opStarted:
		err = r.Started.value().check()
	case opAttest:
		err = r.Attest.check()
	case opStatus:
	}
	if err != nil {
		return nil, err
	}
	return &r, nil
}

func (w *wireStarted) value() Started {
	s := Started{Claims: w.Claims}
	if w.IDToken != nil {
		s.IDToken = &IDToken{URL: w.IDToken.URL, Token: secret.New(w.IDToken.Token)}
	}
	return s
}

func (s Started) wire() *wireStarted {
	w := &wireStarted{Claims: s.Claims}
	if s.IDToken != nil {
		w.IDToken = &wireIDToken{URL: s.IDToken.URL, Token: s.IDToken.Token.Reveal()}
	}
	return w
}

// parseReply decodes one reply. It returns the refusal as the error, or fills out, a pointer to what op promises.
func parseReply(data []byte, out any) error {
	var r reply
	if err := strict.Decode(data, &r); err != nil {
		return fmt.Errorf("reading the reply of kettled: %w", err)
	}
	if (r.OK == nil) == (r.Refusal == nil) || (r.OK != nil && r.OK[0] != '{') {
		return fmt.Errorf("reading the reply of kettled: %w", errReplyShape)
	}
	if r.Refusal == nil {
		if err := strict.Decode(r.OK, out); err != nil {
			return fmt.Errorf("reading the reply of kettled: %w", err)
		}
		return nil
	}
	w := r.Refusal
	if !w.Code.Valid() || w.Link == "" || w.Want == "" {
		return fmt.Errorf("reading the refusal of kettled: %w", errReplyShape)
	}
	return &refusal.Refusal{Link: w.Link, Code: w.Code, Want: w.Want, Got: w.Got, Next: w.Next}
}

// encodeReply encodes what the handler answered. The subjects of an attest reply are halved until the frame fits: the
// checksums file has all of them.
func encodeReply(ok any, refused *refusal.Refusal) ([]byte, error) {
	if refused != nil {
		return json.Marshal(reply{Refusal: clip(refused)})
	}
	for {
		body, err := json.Marshal(ok)
		if err != nil {
			return nil, fmt.Errorf("encoding the reply: %w", err)
		}
		frame, err := json.Marshal(reply{OK: body})
		if err != nil {
			return nil, fmt.Errorf("encoding the reply: %w", err)
		}
		if len(frame) <= MaxFrame {
			return frame, nil
		}
		a, isAttested := ok.(Attested)
		if !isAttested || len(a.Subjects) == 0 {
			return nil, fmt.Errorf("encoding the reply: %w", errFrameSize)
		}
		a.Subjects = a.Subjects[:len(a.Subjects)/2]
		ok = a
	}
}

// clip keeps a refusal within a frame, whatever a sandbox made it quote.
func clip(r *refusal.Refusal) *wireRefusal {
	const limit = 2048
	cut := func(s string) string {
		if len(s) > limit {
			return s[:limit] + "…"
		}
		return s
	}
	return &wireRefusal{Code: r.Code, Link: cut(r.Link), Want: cut(r.Want), Got: cut(r.Got), Next: cut(r.Next)}
}

// readFrame reads one frame.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("reading the frame's length: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxFrame {
		return nil, fmt.Errorf("reading a frame of %d bytes: %w", n, errFrameSize)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("reading a frame of %d bytes: %w", n, err)
	}
	return data, nil
}

// writeFrame writes one frame in one call.
func writeFrame(w io.Writer, data []byte) error {
	if len(data) == 0 || len(data) > MaxFrame {
		return fmt.Errorf("writing a frame of %d bytes: %w", len(data), errFrameSize)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data))) //nolint:gosec // at most MaxFrame.
	if _, err := w.Write(append(frame, data...)); err != nil {
		return fmt.Errorf("writing a frame: %w", err)
	}
	return nil
}
