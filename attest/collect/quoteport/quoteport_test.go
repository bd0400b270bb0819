// SPDX-License-Identifier: Apache-2.0

package quoteport_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/collect/quoteport"
	"github.com/kettle/attest/attest/refusal"
)

// TestGolden holds the wire. Never edit it: a guest and a launcher of different versions meet here; make a version 2.
func TestGolden(t *testing.T) {
	t.Parallel()
	register := [32]byte{0: 0xab, 31: 1}
	var frame bytes.Buffer
	request, err := quoteport.Request{Op: quoteport.OpExtend, Digest: register}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := quoteport.WriteFrame(&frame, request); err != nil {
		t.Fatal(err)
	}
	digits := "ab" + strings.Repeat("00", 30) + "01"
	marshal := func(m interface{ Marshal() ([]byte, error) }) string {
		b, err := m.Marshal()
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	for name, tt := range map[string]struct{ got, want string }{
		"frame":  {frame.String(), "\x00\x00\x00\x61" + `{"v":1,"op":"extend","digest":"` + digits + `"}`},
		"report": {marshal(quoteport.Request{Op: quoteport.OpReport}), `{"v":1,"op":"report","reportData":"` + strings.Repeat("00", 64) + `"}`},
		"register": {
			marshal(quoteport.Reply{Register: &register}), `{"ok":{"register":"` + digits + `"}}`,
		},
		"quote": {
			marshal(quoteport.Reply{Report: []byte{0xff, 0xfe}, Endorsements: []byte("<PEM>\n")}),
			`{"ok":{"endorsements":"<PEM>\n","report":"//4="}}`,
		},
		"refusal": {
			marshal(quoteport.Reply{Refusal: &refusal.Refusal{Link: "l", Code: refusal.Policy, Want: "w", Got: "g", Next: "n"}}),
			`{"refusal":{"code":"policy","link":"l","want":"w","got":"g","next":"n"}}`,
		},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %q, want %q", name, tt.got, tt.want)
		}
	}
}

func TestNothingIsAnError(t *testing.T) {
	t.Parallel()
	for _, r := range []quoteport.Reply{{}, {Report: []byte{1}}, {Endorsements: []byte{1}}} {
		if b, err := r.Marshal(); err == nil {
			t.Errorf("%s", b)
		}
	}
	for _, op := range []quoteport.Op{"", "reset"} {
		if b, err := (quoteport.Request{Op: op}).Marshal(); err == nil {
			t.Errorf("%s", b)
		}
		if r, err := quoteport.ParseReply(op, []byte(`{"ok":{}}`)); err == nil {
			t.Errorf("%v", r)
		}
	}
}

func TestFrameLimit(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	largest := make([]byte, quoteport.MaxFrame)
	if err := quoteport.WriteFrame(&b, largest); err != nil {
		t.Fatal(err)
	}
	if got, err := quoteport.ReadFrame(&b); err != nil || len(got) != len(largest) {
		t.Errorf("%d %v", len(got), err)
	}
	if err := quoteport.WriteFrame(&b, append(largest, 0)); !errors.Is(err, quoteport.ErrFrameTooLong) || b.Len() != 0 {
		t.Errorf("%v, %d bytes written", err, b.Len())
	}
	if _, err := quoteport.ReadFrame(strings.NewReader("\x00\x01\x00\x01")); !errors.Is(err, quoteport.ErrFrameTooLong) {
		t.Error(err)
	}
	if _, err := quoteport.ReadFrame(strings.NewReader("")); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	for _, cut := range []string{"\x00", "\x00\x00\x00\x01", "\x00\x00\x00\x02{"} {
		if _, err := quoteport.ReadFrame(strings.NewReader(cut)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v", cut, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"v":1,"op":"extend","digest":"` + strings.Repeat("00", 32) + `"}`))
	f.Add([]byte(`{"ok":{"register":"` + strings.Repeat("00", 32) + `"}}`))
	f.Add([]byte(`{"ok":{"report":"AA==","endorsements":"x"}}`))
	f.Add([]byte(`{"refusal":{"code":"policy","link":"l","want":"w","got":"g","next":"n"}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		request, err := quoteport.ParseRequest(body)
		if err != nil && !errors.Is(err, refusal.ErrMalformed) {
			t.Fatalf("an error that is no refusal: %v", err)
		}
		if err == nil {
			again, err := request.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if second, err := quoteport.ParseRequest(again); err != nil || second != request {
				t.Fatalf("%s reads as %s", body, again)
			}
		}
		for _, op := range []quoteport.Op{quoteport.OpReport, quoteport.OpExtend} {
			reply, err := quoteport.ParseReply(op, body)
			if err != nil {
				continue
			}
			if _, err := reply.Marshal(); err != nil {
				t.Fatalf("%s reads as nothing", body)
			}
		}
	})
}
