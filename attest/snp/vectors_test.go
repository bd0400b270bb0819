// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/internal/vectors"
)

// vector is one genuine or derived report with the verdict that has to come out.
type vector struct {
	Name         string            `json:"name"`
	Kind         string            `json:"kind"`
	Files        map[string]string `json:"files"`
	At           time.Time         `json:"at"`
	Genuine      bool              `json:"genuine"`
	Floor        string            `json:"floor"`
	Why          string            `json:"why"`
	Facts        map[string]string `json:"facts"`
	report, leaf []byte
	dir          string
}

// snpVectors loads every vector that holds an SNP report, the ones inside Azure's container included.
func snpVectors(t testing.TB) []vector {
	t.Helper()
	dir := vectors.TEE(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []vector
	for _, e := range entries {
		v := vector{dir: filepath.Join(dir, e.Name())}
		raw, err := os.ReadFile(filepath.Join(v.dir, "vector.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		switch v.Kind {
		case "snp":
			v.report, v.leaf = v.file(t, "report"), v.file(t, "certificate")
		case "az-snp":
			v.report, v.leaf = azure(t, v.file(t, "evidence"))
		default:
			continue
		}
		out = append(out, v)
	}
	if len(out) == 0 {
		t.Fatal("no SNP vectors found")
	}
	return out
}

func snpVector(t testing.TB, name string) vector {
	t.Helper()
	for _, v := range snpVectors(t) {
		if v.Name == name {
			return v
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

func (v vector) file(t testing.TB, role string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(v.dir, v.Files[role]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// azure takes report and VCEK out of the az-snp JSON; only the hardware part is this package's.
func azure(t testing.TB, evidence []byte) (report, leaf []byte) {
	t.Helper()
	var e struct {
		Evidence struct {
			HCL  string `json:"hcl_report"`
			VCEK string `json:"vcek"`
		} `json:"evidence"`
	}
	if err := json.Unmarshal(evidence, &e); err != nil {
		t.Fatal(err)
	}
	hcl, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e.Evidence.HCL, "="))
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(e.Evidence.VCEK, "=")); err != nil {
		t.Fatal(err)
	}
	return hcl[0x20 : 0x20+snp.ReportSize], leaf
}

func amdRoots(t testing.TB) []snp.Root {
	t.Helper()
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range snpVectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			r, err := snp.Verify(v.report, v.leaf, amdRoots(t), v.At)
			if !v.Genuine {
				wantFirst(t, err, refusal.Code(v.Why))
				if r != nil {
					t.Fatal("a report besides the refusal")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Meets(floor.Signature); err != nil {
				t.Fatalf("floor signature: %v", err)
			}
			floor := r.Meets(floor.Default)
			if v.Floor == "accept" && floor != nil {
				t.Fatalf("floor default: %v", floor)
			}
			if v.Floor == "refuse" {
				wantFirst(t, floor, refusal.Code(v.Why))
			}
			checkFacts(t, v, r)
		})
	}
}

func checkFacts(t *testing.T, v vector, r *snp.Report) {
	t.Helper()
	measurement, data := r.Measurement(), r.ReportData()
	for fact, got := range map[string]string{
		"measurement":  hex.EncodeToString(measurement[:]),
		"report_data":  hex.EncodeToString(data[:]),
		"product line": string(r.Line()),
		"signing key":  r.SigningKey(),
		"csp":          r.Provider(),
	} {
		if want, known := v.Facts[fact]; known && want != got {
			t.Errorf("%s: want %s, got %s", fact, want, got)
		}
	}
	if r.Platform() != snp.PlatformSNP || !r.Root().AMD() {
		t.Errorf("platform %s, AMD %v", r.Platform(), r.Root().AMD())
	}
	if len(v.Facts["policy"]) > 0 && r.Policy().Debug() != strings.Contains(v.Facts["policy"], "debug=true") {
		t.Errorf("debug %v, want %s", r.Policy().Debug(), v.Facts["policy"])
	}
}

// wantFirst demands a refusal whose first and gravest reason has the code, in full sentences.
func wantFirst(t *testing.T, err error, code refusal.Code) {
	t.Helper()
	all := refusal.All(err)
	if len(all) == 0 {
		t.Fatalf("want a refusal with code %s, got %v", code, err)
	}
	if all[0].Code != code {
		t.Fatalf("want code %s first, got: %v", code, err)
	}
	for _, r := range all {
		if r.Link == "" || !r.Code.Valid() || r.Want == "" || r.Got == "" || r.Next == "" {
			t.Errorf("refusal with a gap: %+v", r)
		}
	}
}
