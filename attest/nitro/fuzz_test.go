// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

// cose is a COSE_Sign1 as the library reads it, an oracle for the bytes around the payload.
type cose struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[any]any
	Payload     []byte
	Signature   []byte
}

// document is a payload as the library reads it.
type document struct {
	ModuleID    string            `cbor:"module_id"`
	Digest      string            `cbor:"digest"`
	Timestamp   uint64            `cbor:"timestamp"`
	PCRs        map[uint64][]byte `cbor:"pcrs"`
	TPMPCRs     map[uint64][]byte `cbor:"nitrotpm_pcrs"`
	Certificate []byte            `cbor:"certificate"`
	CABundle    [][]byte          `cbor:"cabundle"`
	PublicKey   []byte            `cbor:"public_key"`
	UserData    []byte            `cbor:"user_data"`
	Nonce       []byte            `cbor:"nonce"`
}

func seeds(f *testing.F, p *scene) [][]byte {
	f.Helper()
	out := [][]byte{
		p.Sign(p.NewDocument().Payload()), nitrotest.Tagged(18, p.Sign(p.NewTPMDocument().Payload())),
		p.Sign(nitrotest.Open(p.NewTPMDocument().Payload())),
	}
	for _, v := range vectors(f) {
		out = append(out, v.document)
	}
	return out
}

// FuzzDocument feeds foreign documents. Nobody can sign here, so whatever is accepted has the payload of a seed.
func FuzzDocument(f *testing.F) {
	p := newScene(f, nitrotest.Config{})
	roots := append(awsRoots(f), p.roots...)
	known := map[string]bool{}
	for _, doc := range seeds(f, p) {
		f.Add(doc)
		if c := (cose{}); cbor.Unmarshal(doc, &c) == nil {
			known[string(c.Payload)] = true
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		for _, at := range []time.Time{p.Day(), time.Date(2026, 8, 13, 17, 36, 49, 0, time.UTC)} {
			d, err := nitro.Verify(doc, roots, at)
			switch {
			case err != nil && d != nil:
				t.Fatal("a document besides the refusal")
			case err != nil && len(refusal.All(err)) == 0:
				t.Fatalf("an error that is no refusal: %v", err)
			case err != nil:
				continue
			}
			var c cose
			if err := cbor.Unmarshal(doc, &c); err != nil {
				t.Fatalf("accepted what is no COSE_Sign1: %v", err)
			}
			if !known[string(c.Payload)] {
				t.Fatal("accepted what nobody signed")
			}
		}
	})
}

// FuzzPayload has the leaf sign whatever payload comes. What is accepted is what the library, which reads more, reads.
func FuzzPayload(f *testing.F) {
	p := newScene(f, nitrotest.Config{})
	for _, doc := range seeds(f, p) {
		var c cose
		if err := cbor.Unmarshal(doc, &c); err != nil {
			f.Fatal(err)
		}
		f.Add(c.Payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 20<<10 {
			return
		}
		d, err := nitro.Verify(p.Sign(payload), p.roots, p.Day())
		if err != nil {
			if d != nil || len(refusal.All(err)) == 0 {
				t.Fatalf("a document besides the refusal, or an error that is none: %v", err)
			}
			return
		}
		var want document
		if err := cbor.Unmarshal(payload, &want); err != nil {
			t.Fatalf("accepted what the library refuses: %v", err)
		}
		sameAs(t, d, &want)
	})
}

func sameAs(t *testing.T, d *nitro.Document, want *document) {
	t.Helper()
	pcrs := want.PCRs
	if d.TPM() {
		pcrs = want.TPMPCRs
	}
	if want.Digest != "SHA384" || d.ModuleID() != want.ModuleID || d.Timestamp().UnixMilli() != int64(want.Timestamp) || len(pcrs) != len(d.Selected()) {
		t.Fatalf("module %q, %s, registers %v; the library reads %+v", d.ModuleID(), d.Timestamp(), d.Selected(), want)
	}
	for i, value := range pcrs {
		if pcr, ok := d.PCR(int(i)); !ok || !bytes.Equal(pcr[:], value) {
			t.Fatalf("register %d: %x, the library reads %x", i, pcr, value)
		}
	}
	if !bytes.Equal(d.PublicKey(), want.PublicKey) || !bytes.Equal(d.UserData(), want.UserData) || !bytes.Equal(d.Nonce(), want.Nonce) {
		t.Fatal("other data than the library reads")
	}
}

// FuzzRoots feeds foreign root files.
func FuzzRoots(f *testing.F) {
	p := nitrotest.New(nitrotest.Config{})
	f.Add(p.PEM(nitrotest.Root))
	f.Add(p.PEM(nitrotest.Leaf))
	f.Fuzz(func(t *testing.T, text []byte) {
		roots, err := nitro.ParseRoots(text)
		switch {
		case err == nil && (len(roots) != 1 || roots[0].AWS()):
			t.Fatal("not one private root")
		case err != nil && (roots != nil || len(refusal.All(err)) == 0):
			t.Fatalf("roots besides the refusal, or an error that is none: %v", err)
		}
	})
}

// BenchmarkVerify is all of a document: one signature over it and five in its chain, the root's own included.
func BenchmarkVerify(b *testing.B) {
	p := newScene(b, nitrotest.Config{})
	doc := p.Sign(p.NewTPMDocument().Payload())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nitro.Verify(doc, p.roots, p.Day()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefuse is a document that is refused for its form, before any signature.
func BenchmarkRefuse(b *testing.B) {
	p := newScene(b, nitrotest.Config{})
	doc := p.Sign(p.NewTPMDocument().Without("cabundle").Payload())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nitro.Verify(doc, p.roots, p.Day()); err == nil {
			b.Fatal("accepted")
		}
	}
}

// BenchmarkLibrary is what the library alone needs to read a document into structs, without a check.
func BenchmarkLibrary(b *testing.B) {
	p := newScene(b, nitrotest.Config{})
	doc := p.Sign(p.NewTPMDocument().Payload())
	b.ReportAllocs()
	for b.Loop() {
		var c cose
		var d document
		if err := cbor.Unmarshal(doc, &c); err != nil {
			b.Fatal(err)
		}
		if err := cbor.Unmarshal(c.Payload, &d); err != nil {
			b.Fatal(err)
		}
	}
}
