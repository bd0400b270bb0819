// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// FuzzQuote feeds foreign quotes. Nobody can sign here, so whatever is accepted must begin, byte for byte, with the
// signed part of a genuine seed.
func FuzzQuote(f *testing.F) {
	roots := intelRoots(f)
	known := map[string]bool{}
	signed := func(quote []byte) string { return string(quote[:min(len(quote), 48+584)]) }
	for _, v := range tdxVectors(f) {
		f.Add(v.quote)
		known[signed(v.quote)] = v.Genuine
	}
	p := tdxtest.New(tdxtest.Config{})
	for _, body := range []uint16{2, 3} {
		q := tdxtest.NewQuote()
		q.Version, q.BodyType = 5, body
		f.Add(p.Quote(q))
	}
	at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, quote []byte) {
		q, err := tdx.Verify(quote, roots, at)
		switch {
		case err != nil && q != nil:
			t.Fatal("a quote besides the refusal")
		case err != nil && len(refusal.All(err)) == 0:
			t.Fatalf("an error that is no refusal: %v", err)
		case err == nil && !known[signed(quote)]:
			t.Fatal("accepted what nobody signed")
		}
	})
}

// FuzzCollateral feeds foreign collateral files. What is read is written and read back the same.
func FuzzCollateral(f *testing.F) {
	p := tdxtest.New(tdxtest.Config{})
	f.Add(p.Collateral(p.NewCollateral()).JSON())
	for _, v := range tdxVectors(f) {
		if v.collateral != nil {
			f.Add(v.collateral)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := tdx.ParseCollateral(data)
		if err != nil {
			if c != nil || len(refusal.All(err)) == 0 {
				t.Fatalf("an error that is no refusal: %v", err)
			}
			return
		}
		written, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := tdx.ParseCollateral(written)
		if err != nil {
			t.Fatalf("written, and refused: %v", err)
		}
		a, b := c.Parts(), again.Parts()
		if !bytes.Equal(a.TCBInfo, b.TCBInfo) || !bytes.Equal(a.QEIdentity, b.QEIdentity) || !bytes.Equal(a.PCKCRL, b.PCKCRL) {
			t.Fatal("written and read back, and another")
		}
	})
}

// goodParts gives the parts that the fuzzers of single documents replace one of.
func goodParts(f *testing.F) tdx.Parts {
	f.Helper()
	p := tdxtest.New(tdxtest.Config{})
	c, err := tdx.ParseCollateral(p.Collateral(p.NewCollateral()).JSON())
	if err != nil {
		f.Fatal(err)
	}
	return c.Parts()
}

// FuzzTCBInfo feeds foreign TCB infos. What is read is what a map of exact keys holds.
func FuzzTCBInfo(f *testing.F) {
	parts := goodParts(f)
	f.Add(parts.TCBInfo)
	for _, v := range tdxVectors(f) {
		if v.collateral != nil {
			c := v.parsed(f).Parts()
			f.Add(c.TCBInfo)
		}
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		p := parts
		p.TCBInfo = document
		c, err := tdx.NewCollateral(p)
		if err != nil {
			return
		}
		var exact map[string]json.RawMessage
		if err := json.Unmarshal(document, &exact); err != nil {
			t.Fatalf("read, and no JSON: %v", err)
		}
		var want string
		if err := json.Unmarshal(exact["fmspc"], &want); err != nil {
			t.Fatal(err)
		}
		if fmspc := c.FMSPC(); hex.EncodeToString(fmspc[:]) != strings.ToLower(want) {
			t.Fatalf("FMSPC %x read from %s", fmspc, want)
		}
	})
}

// FuzzQEIdentity feeds foreign QE identities.
func FuzzQEIdentity(f *testing.F) {
	parts := goodParts(f)
	f.Add(parts.QEIdentity)
	f.Fuzz(func(t *testing.T, document []byte) {
		p := parts
		p.QEIdentity = document
		if c, err := tdx.NewCollateral(p); err == nil && !json.Valid(document) || (c == nil) == (err == nil) {
			t.Fatalf("read, and no JSON: %v", err)
		}
	})
}

// FuzzCRL feeds foreign revocation lists.
func FuzzCRL(f *testing.F) {
	parts := goodParts(f)
	f.Add(parts.PCKCRL)
	f.Add(parts.RootCRL)
	for _, v := range tdxVectors(f) {
		if v.collateral != nil {
			c := v.parsed(f).Parts()
			f.Add(c.PCKCRL)
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		p := parts
		p.PCKCRL = der
		if c, err := tdx.NewCollateral(p); err != nil && (c != nil || len(refusal.All(err)) == 0) {
			t.Fatalf("an error that is no refusal: %v", err)
		}
	})
}

// FuzzSGXExtension feeds foreign SGX extensions. What is read has one encoding.
func FuzzSGXExtension(f *testing.F) {
	f.Add(tdxtest.SGXExtension(tdxtest.Config{}))
	f.Add(tdxtest.EncodeExtension(tdxtest.SGXEntries(tdxtest.Config{PCESVN: 0xffff, SVNs: [16]byte{255, 128, 127}})[:5]))
	f.Fuzz(func(t *testing.T, value []byte) {
		p, err := tdx.ParseSGXExtension(value)
		if (p == nil) == (err == nil) {
			t.Fatal("a platform and a refusal, or neither")
		}
		if err == nil && (p.Type > tdx.SGXScalableWithIntegrity || len(value) < 300) {
			t.Fatalf("%+v from %d bytes", p, len(value))
		}
	})
}
