// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/collect/quoteport"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
)

// script is a stream whose guest has said everything already.
type script struct {
	io.Reader
	answers bytes.Buffer
}

func (s *script) Write(b []byte) (int, error) { return s.answers.Write(b) }

func frame(body string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

func serve(t testing.TB, p *sim.Processor, input string) ([]string, error) {
	t.Helper()
	s := &script{Reader: strings.NewReader(input)}
	err := p.Serve(t.Context(), s)
	var answers []string
	for s.answers.Len() > 0 {
		body, readErr := quoteport.ReadFrame(&s.answers)
		if readErr != nil {
			t.Fatalf("an answer that is no frame: %v", readErr)
		}
		answers = append(answers, string(body))
	}
	return answers, err
}

func TestServe(t *testing.T) {
	t.Parallel()
	p := newProcessor(t)
	data := strings.Repeat("ab", 64)
	answers, err := serve(t, p,
		frame(`{"v":1,"op":"extend","digest":"`+strings.Repeat("00", 31)+`01"}`)+
			frame(`{"v":1,"op":"report","reportData":"`+data+`"}`))
	if err != nil || len(answers) != 2 {
		t.Fatalf("%v %v", answers, err)
	}
	register := p.Register()
	if want := `{"ok":{"register":"` + hex.EncodeToString(register[:]) + `"}}`; answers[0] != want {
		t.Errorf("got %s, want %s", answers[0], want)
	}
	reply, err := quoteport.ParseReply(quoteport.OpReport, []byte(answers[1]))
	if err != nil || reply.Refusal != nil {
		t.Fatalf("%v %v", reply.Refusal, err)
	}
	r := verify(t, p, reply.Report)
	if got := r.ReportData(); hex.EncodeToString(got[:]) != data || r.HostData() != register {
		t.Error("the report says something else")
	}
	if !bytes.Equal(reply.Endorsements, p.Endorsements()) {
		t.Error("other endorsements")
	}
}

// What the guest may not choose, it cannot even say: each of these is refused, nothing moves, and the next request of
// the same stream is answered.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	data, digest := strings.Repeat("ab", 64), strings.Repeat("cd", 32)
	tests := map[string]string{
		"empty":               ``,
		"no json":             `hello`,
		"array":               `[]`,
		"null":                `null`,
		"empty object":        `{}`,
		"no version":          `{"op":"extend","digest":"` + digest + `"}`,
		"version 2":           `{"v":2,"op":"extend","digest":"` + digest + `"}`,
		"version as text":     `{"v":"1","op":"extend","digest":"` + digest + `"}`,
		"version 1.0":         `{"v":1.0,"op":"extend","digest":"` + digest + `"}`,
		"no operation":        `{"v":1,"digest":"` + digest + `"}`,
		"operation null":      `{"v":1,"op":null,"digest":"` + digest + `"}`,
		"operation reset":     `{"v":1,"op":"reset"}`,
		"operation in caps":   `{"v":1,"op":"EXTEND","digest":"` + digest + `"}`,
		"key in caps":         `{"v":1,"op":"extend","Digest":"` + digest + `"}`,
		"key twice":           `{"v":1,"op":"extend","digest":"` + digest + `","digest":"` + digest + `"}`,
		"operation twice":     `{"v":1,"op":"report","op":"extend","digest":"` + digest + `"}`,
		"trailing":            `{"v":1,"op":"extend","digest":"` + digest + `"} ` + "{}",
		"no digest":           `{"v":1,"op":"extend"}`,
		"digest null":         `{"v":1,"op":"extend","digest":null}`,
		"short digest":        `{"v":1,"op":"extend","digest":"` + digest[2:] + `"}`,
		"long digest":         `{"v":1,"op":"extend","digest":"` + digest + `00"}`,
		"upper-case digest":   `{"v":1,"op":"extend","digest":"` + strings.ToUpper(digest) + `"}`,
		"digest no hex":       `{"v":1,"op":"extend","digest":"` + strings.Repeat("zz", 32) + `"}`,
		"measurement":         `{"v":1,"op":"report","reportData":"` + data + `","measurement":"00"}`,
		"policy":              `{"v":1,"op":"report","reportData":"` + data + `","policy":0}`,
		"vmpl":                `{"v":1,"op":"report","reportData":"` + data + `","vmpl":1}`,
		"host data":           `{"v":1,"op":"report","reportData":"` + data + `","hostData":"` + digest + `"}`,
		"both":                `{"v":1,"op":"report","reportData":"` + data + `","digest":"` + digest + `"}`,
		"short report data":   `{"v":1,"op":"report","reportData":"` + digest + `"}`,
		"report data null":    `{"v":1,"op":"report","reportData":null}`,
		"deep":                strings.Repeat(`{"a":`, 3000) + `1` + strings.Repeat(`}`, 3000),
		"invalid utf-8 in op": "{\"v\":1,\"op\":\"\xff\"}",
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newProcessor(t)
			answers, err := serve(t, p, frame(body)+frame(`{"v":1,"op":"extend","digest":"`+digest+`"}`))
			if err != nil || len(answers) != 2 {
				t.Fatalf("%v %v", answers, err)
			}
			reply, err := quoteport.ParseReply(quoteport.OpExtend, []byte(answers[0]))
			if err != nil || !errors.Is(reply.Refusal, refusal.ErrMalformed) {
				t.Errorf("want a refusal, got %s (%v)", answers[0], err)
			}
			once := newProcessor(t).Extend([32]byte(bytes.Repeat([]byte{0xcd}, 32)))
			if p.Register() != once {
				t.Error("the refused request moved the register")
			}
		})
	}
}

func TestServeEnds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		input   string
		answers int
		want    error
	}{
		"at the end":      {"", 0, nil},
		"within a length": {"\x00\x00", 0, io.ErrUnexpectedEOF},
		"within a body":   {"\x00\x00\x00\x09{", 0, io.ErrUnexpectedEOF},
		"too long":        {"\x00\x01\x00\x01", 1, quoteport.ErrFrameTooLong},
		"four gigabytes":  {"\xff\xff\xff\xff", 1, quoteport.ErrFrameTooLong},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answers, err := serve(t, newProcessor(t), tt.input)
			if !errors.Is(err, tt.want) || len(answers) != tt.answers {
				t.Errorf("%v %v", answers, err)
			}
		})
	}
}

func TestServeEndsWithContext(t *testing.T) {
	t.Parallel()
	type plain struct{ io.ReadWriteCloser } // hides the deadlines
	for name, wrap := range map[string]func(net.Conn) io.ReadWriteCloser{
		"by deadline": func(c net.Conn) io.ReadWriteCloser { return c },
		"by closing":  func(c net.Conn) io.ReadWriteCloser { return plain{c} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			guest, host := net.Pipe()
			defer func() { _ = guest.Close() }()
			defer func() { _ = host.Close() }()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- newProcessor(t).Serve(ctx, wrap(host)) }()
			cancel()
			select {
			case err := <-done:
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("Serve did not end")
			}
		})
	}
}
