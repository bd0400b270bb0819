// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/collect/quoteport"
)

// FuzzServe is a hostile guest: whatever it sends, Serve ends, every answer is a frame of the protocol, and the register
// moves by answered extensions only.
func FuzzServe(f *testing.F) {
	add := func(bodies ...string) {
		var b bytes.Buffer
		for _, body := range bodies {
			if err := quoteport.WriteFrame(&b, []byte(body)); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(b.Bytes())
	}
	digest := strings.Repeat("cd", 32)
	add(`{"v":1,"op":"extend","digest":"` + digest + `"}`)
	add(`{"v":1,"op":"report","reportData":"` + digest + digest + `"}`)
	add(`{"v":1,"op":"reset"}`, `{}`)
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte("\x00\x00"))
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	p := &Processor{key: key, endorsements: []byte("PEM")} // no authority: its keys take a second in every worker
	f.Fuzz(func(t *testing.T, input []byte) {
		register := p.Register()
		var answers bytes.Buffer
		_ = p.Serve(t.Context(), readWriter{bytes.NewReader(input), &answers})
		for answers.Len() > 0 {
			body, err := quoteport.ReadFrame(&answers)
			if err != nil {
				t.Fatalf("an answer that is no frame: %v", err)
			}
			reply, err := quoteport.ParseReply(quoteport.OpExtend, body)
			if err != nil {
				reply, err = quoteport.ParseReply(quoteport.OpReport, body)
			}
			if err != nil {
				t.Fatalf("an answer nobody can read: %s", body)
			}
			if reply.Register != nil {
				register = *reply.Register
			}
		}
		if p.Register() != register {
			t.Fatal("the register moved without an answer")
		}
	})
}

type readWriter struct {
	io.Reader
	io.Writer
}
