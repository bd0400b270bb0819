// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/refusal"
)

// pcrs gives n PCR values that differ.
func pcrs(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = bytes.Repeat([]byte{byte(i + 1)}, pcrSize)
	}
	return out
}

// whole is evidence of each kind with every part that it can have.
func whole() map[Kind]Evidence {
	text := func(s string) []byte { return []byte(s) }
	return map[Kind]Evidence{
		SNP: {Kind: SNP, Report: text("report"), BootLog: text("log"),
			Endorsements: Endorsements{Leaf: text("leaf"), CertTable: text("table"), CRL: text("crl")}},
		TDX: {Kind: TDX, Report: text("quote"), BootLog: text("log"), Endorsements: Endorsements{Collateral: text("{}")}},
		AzureSNP: {Kind: AzureSNP, HCLReport: text("HCLA"), TPMQuote: text("q"), TPMSignature: text("s"), PCRs: pcrs(2), BootLog: text("log"),
			Endorsements: Endorsements{Leaf: text("leaf"), CRL: text("crl")}},
		AzureTDX: {Kind: AzureTDX, Report: text("quote"), HCLReport: text("HCLA"), TPMQuote: text("q"), TPMSignature: text("s"), PCRs: pcrs(24),
			Endorsements: Endorsements{Collateral: text("{}")}},
		VTPM: {Kind: VTPM, TPMQuote: text("q"), TPMSignature: text("s"), PCRs: pcrs(1),
			Endorsements: Endorsements{AKCertificates: text("pem")}},
	}
}

func TestEveryKindTravels(t *testing.T) {
	t.Parallel()
	for kind, e := range whole() {
		c := &Collection{Evidence: e, Binding: []byte("{}"), PublicKey: []byte("spki"), EventLog: []byte("log\n")}
		line, err := c.Line()
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		got, err := Parse(line)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if diff := cmp.Diff(c, got); diff != "" {
			t.Errorf("%s: %s", kind, diff)
		}
		again, err := got.Line()
		if err != nil || !bytes.Equal(again, line) {
			t.Errorf("%s: written again as %s, %v", kind, again, err)
		}
	}
}

// TestPartsOfAKind takes each required part away and adds each part that the kind does not have.
func TestPartsOfAKind(t *testing.T) {
	t.Parallel()
	type part struct {
		name  string
		field func(*Evidence) *[]byte
	}
	parts := []part{
		{"report", func(e *Evidence) *[]byte { return &e.Report }},
		{"hcl", func(e *Evidence) *[]byte { return &e.HCLReport }},
		{"quote", func(e *Evidence) *[]byte { return &e.TPMQuote }},
		{"signature", func(e *Evidence) *[]byte { return &e.TPMSignature }},
		{"leaf", func(e *Evidence) *[]byte { return &e.Leaf }},
		{"table", func(e *Evidence) *[]byte { return &e.CertTable }},
		{"crl", func(e *Evidence) *[]byte { return &e.CRL }},
		{"collateral", func(e *Evidence) *[]byte { return &e.Collateral }},
		{"ak certificates", func(e *Evidence) *[]byte { return &e.AKCertificates }},
	}
	want := map[Kind]string{ // parts that must be there; parts that may
		SNP: "report;leaf,table,crl", TDX: "report;collateral",
		AzureSNP: "hcl,quote,signature;leaf,table,crl", AzureTDX: "report,hcl,quote,signature;collateral",
		VTPM: "quote,signature;ak certificates", Nitro: "report;",
	}
	for kind := range whole() {
		must, may, _ := strings.Cut(want[kind], ";")
		for _, p := range parts {
			has := func(list string) bool { return strings.Contains(","+list+",", ","+p.name+",") }
			e := whole()[kind]
			*p.field(&e) = nil
			if err := e.Check(); has(must) != errors.Is(err, refusal.ErrMissing) {
				t.Errorf("%s without %s: %v", kind, p.name, err)
			}
			*p.field(&e) = []byte("x")
			if err := e.Check(); (has(must) || has(may)) != (err == nil) {
				t.Errorf("%s with %s: %v", kind, p.name, err)
			}
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Evidence){
		"no kind":       func(e *Evidence) { e.Kind = "" },
		"unknown kind":  func(e *Evidence) { e.Kind = "sgx" },
		"no PCRs":       func(e *Evidence) { e.PCRs = nil },
		"short PCR":     func(e *Evidence) { e.PCRs[0] = e.PCRs[0][1:] },
		"too many PCRs": func(e *Evidence) { e.PCRs = pcrs(25) },
	} {
		e := whole()[VTPM]
		change(&e)
		if err := e.Check(); !errors.Is(err, refusal.ErrNotVerified) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNitroIsImportedOnly: no environment of Kettle's speaks by a document of AWS.
func TestNitroIsImportedOnly(t *testing.T) {
	t.Parallel()
	c := &Collection{Evidence: Evidence{Kind: Nitro, Report: []byte("document")}, Binding: []byte("{}"), PublicKey: []byte("spki"), EventLog: []byte("log\n")}
	if line, err := c.Line(); !errors.Is(err, refusal.ErrMalformed) || line != nil {
		t.Errorf("%s, %v", line, err)
	}
}

// TestMixedItems puts items together that no kind has together.
func TestMixedItems(t *testing.T) {
	t.Parallel()
	line := func(kind Kind) string {
		c := &Collection{Evidence: whole()[kind], Binding: []byte("{}"), PublicKey: []byte("spki"), EventLog: []byte("log\n")}
		b, err := c.Line()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	swap := func(s, old, with string) string {
		if !strings.Contains(s, old) {
			t.Fatalf("no %s in %s", old, s)
		}
		return strings.Replace(s, old, with, 1)
	}
	for name, l := range map[string]string{
		"an SNP report beside the paravisor's": swap(line(AzureTDX), mediaTDX, mediaSNP),
		"Intel's words for AMD's report":       swap(line(TDX), mediaTDX, mediaSNP),
		"AMD's words for Intel's quote":        swap(line(SNP), mediaSNP, mediaTDX),
		"PCRs cut":                             swap(line(VTPM), `"AQEB`, `"`),
		"a TPM quote beside a report":          swap(line(SNP), `"binding":`, `"tpm-quote":["application/vnd.kettle.tpms-attest","cQ",4],"binding":`),
	} {
		if c, err := Parse([]byte(l)); !errors.Is(err, refusal.ErrNotVerified) || c != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}
