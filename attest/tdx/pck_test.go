// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"bytes"
	"encoding/asn1"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// raw is an element as it is, well-formed or not.
func raw(b ...byte) asn1.RawValue { return asn1.RawValue{FullBytes: b} }

func platform() tdxtest.Config {
	return tdxtest.Config{
		FMSPC: [6]byte{1, 2, 3, 4, 5, 6}, PCEID: [2]byte{7, 8}, PPID: [16]byte{9, 15: 10},
		SVNs: [16]byte{0, 1, 127, 128, 255, 15: 16}, PCESVN: 0xfffe,
	}
}

func TestSGXExtension(t *testing.T) {
	t.Parallel()
	c := platform()
	p, err := tdx.ParseSGXExtension(tdxtest.SGXExtension(c))
	if err != nil {
		t.Fatal(err)
	}
	if p.FMSPC != c.FMSPC || p.PCEID != c.PCEID || p.PPID != c.PPID || p.Components != c.SVNs || p.CPUSVN != c.SVNs ||
		p.PCESVN != c.PCESVN || p.Type != tdx.SGXScalable || p.Instance == nil || *p.Configuration != (tdx.Configuration{Dynamic: true, CachedKeys: true}) {
		t.Errorf("%+v", p)
	}
	// A processor's has neither instance nor configuration.
	if p, err = tdx.ParseSGXExtension(tdxtest.EncodeExtension(tdxtest.SGXEntries(c)[:5])); err != nil || p.Instance != nil || p.Configuration != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestSGXExtensionRefuses(t *testing.T) {
	t.Parallel()
	entry := func(i int, value any) func(e []tdxtest.Entry) []tdxtest.Entry {
		return func(e []tdxtest.Entry) []tdxtest.Entry { e[i].Value = value; return e }
	}
	tcb := func(change func(e []tdxtest.Entry) []tdxtest.Entry) func(e []tdxtest.Entry) []tdxtest.Entry {
		return func(e []tdxtest.Entry) []tdxtest.Entry {
			below, ok := e[1].Value.([]tdxtest.Entry)
			if !ok {
				panic("no TCB")
			}
			e[1].Value = change(below)
			return e
		}
	}
	for name, change := range map[string]func(e []tdxtest.Entry) []tdxtest.Entry{
		"no PPID":              func(e []tdxtest.Entry) []tdxtest.Entry { return e[1:] },
		"no FMSPC":             func(e []tdxtest.Entry) []tdxtest.Entry { return append(e[:3:3], e[4]) },
		"FMSPC twice":          func(e []tdxtest.Entry) []tdxtest.Entry { return append(e, e[3]) },
		"unknown entry":        func(e []tdxtest.Entry) []tdxtest.Entry { return append(e, tdxtest.Entry{Arc: 8, Value: 1}) },
		"arc 0":                func(e []tdxtest.Entry) []tdxtest.Entry { return append(e, tdxtest.Entry{Arc: 0, Value: 1}) },
		"arc of two bytes":     func(e []tdxtest.Entry) []tdxtest.Entry { return append(e, tdxtest.Entry{Arc: 129, Value: 1}) },
		"short PPID":           entry(0, make([]byte, 15)),
		"long FMSPC":           entry(3, make([]byte, 7)),
		"FMSPC as number":      entry(3, 5),
		"type 3":               entry(4, asn1.Enumerated(3)),
		"type as integer":      entry(4, 1),
		"length not minimal":   entry(4, raw(0x0a, 0x81, 1, 1)),
		"length in two bytes":  entry(4, raw(0x0a, 0x82, 0, 1, 1)),
		"indefinite length":    entry(4, raw(0x0a, 0x80, 1, 0, 0)),
		"empty type":           entry(4, raw(0x0a, 0)),
		"loose boolean":        entry(6, []tdxtest.Entry{{Arc: 1, Value: raw(1, 1, 1)}}),
		"integer not minimal":  tcb(entry(0, raw(2, 2, 0, 0x7f))),
		"long integer":         tcb(entry(16, raw(2, 4, 0, 0, 1, 0))),
		"short instance":       entry(5, make([]byte, 3)),
		"configuration number": entry(6, []tdxtest.Entry{{Arc: 1, Value: 1}}),
		"configuration arc":    entry(6, []tdxtest.Entry{{Arc: 4, Value: true}}),
		"TCB as bytes":         entry(1, make([]byte, 16)),
		"no component 16":      tcb(func(e []tdxtest.Entry) []tdxtest.Entry { return append(e[:15:15], e[16:]...) }),
		"component twice":      tcb(func(e []tdxtest.Entry) []tdxtest.Entry { e[1].Arc = 1; return e }),
		"component of 256":     tcb(entry(0, 256)),
		"negative component":   tcb(entry(0, -1)),
		"component as bytes":   tcb(entry(0, []byte{1})),
		"PCESVN of 65536":      tcb(entry(16, 65536)),
		"no PCESVN":            tcb(func(e []tdxtest.Entry) []tdxtest.Entry { return append(e[:16:16], e[17]) }),
		"short CPUSVN":         tcb(entry(17, make([]byte, 15))),
		"unknown TCB entry":    tcb(func(e []tdxtest.Entry) []tdxtest.Entry { return append(e, tdxtest.Entry{Arc: 19, Value: 1}) }),
	} {
		_, err := tdx.ParseSGXExtension(tdxtest.EncodeExtension(change(tdxtest.SGXEntries(platform()))))
		t.Run(name, func(t *testing.T) { wantFirst(t, err, refusal.Malformed) })
	}
	good := tdxtest.SGXExtension(platform())
	for name, value := range map[string][]byte{
		"empty":           nil,
		"bytes behind":    append(bytes.Clone(good), 0),
		"cut":             good[:len(good)-1],
		"not minimal":     append([]byte{0x30, 0x83, 0}, good[2:]...),
		"an octet string": append([]byte{0x04}, good[1:]...),
	} {
		_, err := tdx.ParseSGXExtension(value)
		t.Run(name, func(t *testing.T) { wantFirst(t, err, refusal.Malformed) })
	}
	for n := range good { // no cut and no flip of the frame goes unseen by the lengths around it
		if _, err := tdx.ParseSGXExtension(good[:n]); err == nil {
			t.Fatalf("accepted %d bytes", n)
		}
	}
}

// TestExtensionOfACertificate: exactly one extension, and a refusal of the certificate's link.
func TestExtensionOfACertificate(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.config = platform()
	q, _, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	p := q.PCK()
	if p.FMSPC != q.FMSPC() || p.FMSPC != s.config.FMSPC || q.PCKIssuer() != "platform" {
		t.Errorf("%+v", p)
	}
	p.Instance[0], p.Configuration.SMT = 1, true // a copy
	if again := q.PCK(); again.Instance[0] != 0 || again.Configuration.SMT {
		t.Error("what the quote says can be changed")
	}
	for _, extension := range [][]byte{{}, {0x30, 0}, {0x30, 0x80, 0, 0}} {
		s := newScene()
		s.config.Extension = extension
		_, _, err := s.verify(t)
		wantFirst(t, err, refusal.Malformed)
		if all := refusal.All(err); all[0].Link != "endorsements" {
			t.Errorf("link %s", all[0].Link)
		}
	}
}
