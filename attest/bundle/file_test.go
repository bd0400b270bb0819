// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
)

func evidenceLine(t testing.TB) []byte {
	t.Helper()
	line, err := (&evidence.Collection{
		Evidence: evidence.Evidence{Kind: evidence.SNP, Report: []byte("report"), Endorsements: evidence.Endorsements{Leaf: []byte("certificate")}}, Binding: []byte("{}"),
		PublicKey: []byte("spki"), EventLog: []byte("log"),
	}).Line()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	_, line := signed(t)
	ev := evidenceLine(t)
	foreign := string(edit(t, line, func(m map[string]any) {
		m["verificationMaterial"] = map[string]any{"certificate": map[string]any{"rawBytes": certificate(t)}}
	}))
	join := func(lines ...string) string { return strings.Join(lines, "\n") }
	for name, tc := range map[string]struct {
		text                       string
		bundles, evidence, skipped int
	}{
		"one":               {string(line), 1, 0, 0},
		"with newline":      {string(line) + "\n", 1, 0, 0},
		"both":              {join(string(ev), string(line), ""), 1, 1, 0},
		"CRLF":              {join(string(line)+"\r", string(ev)+"\r", ""), 1, 1, 0},
		"blank lines":       {join("", string(line), "", "", string(ev), ""), 1, 1, 0},
		"other lines":       {join(`{"a":1}`, string(line), `{"mediaType":"other"}`, ""), 1, 0, 2},
		"the same twice":    {join(string(line), string(line), ""), 2, 0, 0},
		"foreign evidence":  {join(string(line), `{"__cmwc_t":"tag:example.com,2026:other"}`), 1, 0, 1},
		"foreign bundle":    {join(foreign, string(line)), 1, 0, 1},
		"bare DSSE skipped": {join(`{"payload":"e30=","payloadType":"x","signatures":[]}`, string(line)), 1, 0, 1},
	} {
		f, err := ReadFile(iotest.OneByteReader(strings.NewReader(tc.text)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(f.Bundles) != tc.bundles || len(f.Evidence) != tc.evidence || f.Skipped != tc.skipped {
			t.Errorf("%s: %d bundles, %d evidence, %d skipped", name, len(f.Bundles), len(f.Evidence), f.Skipped)
		}
		for _, e := range f.Evidence {
			if !bytes.Equal(e.Line, ev) {
				t.Errorf("%s: evidence line %q", name, e.Line)
			}
		}
	}
}

// certificate is a self-signed certificate, as another signer's bundle has one.
func certificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestReadFileRefuses(t *testing.T) {
	t.Parallel()
	_, line := signed(t)
	ev := evidenceLine(t)
	for name, tc := range map[string]struct {
		text string
		want error
	}{
		"empty":           {"", refusal.ErrMissing},
		"evidence alone":  {string(ev), refusal.ErrMissing},
		"others alone":    {`{"a":1}`, refusal.ErrMissing},
		"cut bundle":      {string(line[:len(line)-5]), refusal.ErrMalformed},
		"cut evidence":    {string(line) + "\n" + string(ev[:len(ev)-5]), refusal.ErrMalformed},
		"broken bundle":   {`{"mediaType":"` + MediaType + `"}`, refusal.ErrMalformed},
		"broken evidence": {string(line) + "\n" + `{"__cmwc_t":"` + evidence.Type + `"}`, refusal.ErrMissing},
		"text":            {string(line) + "\nhello\n", refusal.ErrMalformed},
		"two on a line":   {string(line) + string(line), refusal.ErrMalformed},
		"too many lines":  {strings.Repeat("{}\n", MaxLines) + string(line), refusal.ErrMalformed},
		"binary":          {"\x00\x01\x02", refusal.ErrMalformed},
	} {
		if f, err := ReadFile(strings.NewReader(tc.text)); !errors.Is(err, tc.want) || f != nil {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if f, err := ReadFile(iotest.ErrReader(io.ErrUnexpectedEOF)); !errors.Is(err, io.ErrUnexpectedEOF) || f != nil {
		t.Errorf("a reader that fails: %v, %v", f, err)
	}
	huge := io.MultiReader(strings.NewReader(string(line)+"\n"), io.LimitReader(zeros{}, MaxFile))
	if f, err := ReadFile(huge); !errors.Is(err, refusal.ErrMalformed) || f != nil {
		t.Errorf("too large: %v, %v", f, err)
	}
	if _, err := ReadFile(strings.NewReader(strings.Repeat("{}\n", MaxLines-1) + string(line))); err != nil {
		t.Errorf("%d lines: %v", MaxLines, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func FuzzReadFile(f *testing.F) {
	_, line := signed(f)
	f.Add(append(append(bytes.Clone(line), '\n'), evidenceLine(f)...))
	f.Add([]byte("{}\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := ReadFile(bytes.NewReader(b))
		if (file == nil) == (err == nil) || err == nil && len(file.Bundles) == 0 {
			t.Fatalf("%v, %v", file, err)
		}
	})
}
