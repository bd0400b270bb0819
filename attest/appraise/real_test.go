// SPDX-License-Identifier: Apache-2.0

package appraise_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
)

// vectorFile reads a file of the folder of real quotes, which lies outside the repository.
func vectorFile(t testing.TB, name ...string) []byte {
	t.Helper()
	dir := os.Getenv("KETTLE_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	b, err := os.ReadFile(filepath.Join(append([]string{dir, "tee"}, name...)...))
	if err != nil && os.Getenv("KETTLE_REQUIRE_VECTORS") != "1" {
		t.Skipf("no vectors, set KETTLE_VECTORS: %v", err)
	}
	fatal(t, err)
	return b
}

// genuine is evidence of a machine of a vendor, and the day it is judged at.
func genuine(t testing.TB, kind evidence.Kind) (evidence.Evidence, time.Time) {
	t.Helper()
	today := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	var dir, file string
	switch kind {
	case evidence.SNP:
		dir, file = "snp-turin-v5", "report.bin"
	case evidence.TDX:
		dir, file, today = "tdx15-v4-uptodate", "quote.bin", time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)
	case evidence.AzureSNP:
		dir, file = "az-snp-kettle-ripgrep", "evidence.json"
	default:
		dir, file = "az-tdx-coco", "evidence.json"
	}
	got, err := evidence.Import(vectorFile(t, dir, file))
	fatal(t, err)
	e := got[0].Evidence
	switch kind {
	case evidence.SNP:
		e.Leaf = vectorFile(t, dir, "cert.der")
	case evidence.TDX:
		e.Collateral = vectorFile(t, dir, "collateral.json")
	}
	return e, today
}

// rules is a policy that accepts exactly this machine, in what it quotes.
func rules(e policy.Environment, f string) string {
	text := fmt.Sprintf("apiVersion: kettle/v1\nexpires: never\nrevoked: none\nenvironments:\n  platforms: [%s]\n  floor: %s\n  chips: any\n"+
		"  revocation: if-present\n  images: any\n  measurements: [%x]\n  lateCompromise: none\n", e.Platform, f, e.Measurement)
	if len(e.Registers) == 0 {
		return text
	}
	text += "  registers:\n    - {"
	var parts []string
	family := "pcr"
	if e.Platform == "tdx" {
		family = "rtmr"
	}
	for name, value := range e.Registers {
		if strings.HasPrefix(name, family) && name != "rtmr3" && name != "pcr15" {
			parts = append(parts, fmt.Sprintf("%s: %q", name, value))
		}
	}
	return text + strings.Join(parts, ", ") + "}\n"
}

// TestRealMachines judges genuine evidence by policies: one that says what the machine is, and others that differ in one
// place each.
func TestRealMachines(t *testing.T) {
	t.Parallel()
	roots, err := appraise.Pinned()
	fatal(t, err)
	for _, kind := range []evidence.Kind{evidence.SNP, evidence.TDX, evidence.AzureSNP, evidence.AzureTDX} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			e, at := genuine(t, kind)
			q, err := appraise.Verify(&e, nil, roots, at)
			fatal(t, err)
			if q.Platform() != string(kind) {
				t.Fatalf("platform %s", q.Platform())
			}
			f := "default"
			if kind == evidence.AzureTDX { // it came without collateral
				f = "signature"
			}
			env := q.Environment()
			text := rules(env, f)
			meets := func(text string) error {
				p, err := policy.Parse([]byte(text))
				fatal(t, err)
				_, err = q.Meets(p.Environments(), at)
				return err
			}
			if err := meets(text); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			measurement := hex.EncodeToString(env.Measurement[:])
			if err := meets(strings.Replace(text, measurement, "ab"+measurement[2:], 1)); !errors.Is(err, refusal.ErrMeasurement) {
				t.Errorf("another measurement: %v", err)
			}
			for _, name := range []string{"rtmr1", "pcr4"} {
				value, quoted := env.Registers[name]
				if !quoted || !strings.Contains(text, name) {
					continue
				}
				old, changed := fmt.Sprintf("%s: %q", name, value), fmt.Sprintf("%s: %q", name, "ab"+value[2:])
				if err := meets(strings.Replace(text, old, changed, 1)); !errors.Is(err, refusal.ErrMeasurement) {
					t.Errorf("another %s: %v", name, err)
				}
			}
			if kind == evidence.AzureTDX {
				if err := q.Judge(floor.Default, appraise.Terms{}); !errors.Is(err, refusal.ErrEndorsementsMissing) {
					t.Errorf("without collateral: %v", err)
				}
			}
			strict := meets(strings.Replace(text, "floor: "+f, "floor: strict", 1))
			if (strict == nil) != (kind == evidence.SNP) {
				t.Errorf("strict: %v", strict)
			}
			if i := q.Instance(); i.Platform != string(kind) {
				t.Errorf("instance %+v", i)
			}
		})
	}
}

// BenchmarkAzure is the whole of it: report, certificate, what the report binds, and the TPM's quote.
func BenchmarkAzure(b *testing.B) {
	roots, err := appraise.Pinned()
	fatal(b, err)
	e, at := genuine(b, evidence.AzureSNP)
	b.ReportAllocs()
	for b.Loop() {
		q, err := appraise.Verify(&e, nil, roots, at)
		if err != nil || q.Judge(floor.Default, appraise.Terms{}) != nil {
			b.Fatal(err)
		}
	}
}
