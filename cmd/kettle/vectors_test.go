// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/cmd/internal/cli"
)

// vectorsDir finds the folder of real quotes, which lies outside the repository.
func vectorsDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("KETTLE_VECTORS")
	if dir == "" {
		root, err := filepath.Abs(".")
		if err != nil {
			t.Fatal(err)
		}
		for ; filepath.Dir(root) != root; root = filepath.Dir(root) {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
		}
		dir = filepath.Join(root, "..", "shared", "vectors")
	}
	if _, err := os.Stat(filepath.Join(dir, "tee")); err != nil {
		if os.Getenv("KETTLE_REQUIRE_VECTORS") == "1" {
			t.Fatalf("the vectors are required: %v", err)
		}
		t.Skipf("no vectors of real quotes here (KETTLE_VECTORS): %v", err)
	}
	return filepath.Join(dir, "tee")
}

type vector struct {
	Kind    string            `json:"kind"`
	Files   map[string]string `json:"files"`
	At      string            `json:"at"`
	Genuine bool              `json:"genuine"`
	Floor   string            `json:"floor"`
	Why     refusal.Code      `json:"why"`
	Facts   map[string]string `json:"facts"`
}

// TestVectors runs the command over real quotes: the verdicts are those of each vector.json, and evidence of other
// kinds is said to be of another kind.
func TestVectors(t *testing.T) {
	t.Parallel()
	dir := vectorsDir(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	judged := 0
	for _, e := range entries {
		var v vector
		b, err := os.ReadFile(filepath.Join(dir, e.Name(), "vector.json"))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		if v.Kind == "snp" {
			judged++
		}
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			if v.Kind == "snp" {
				v.judge(t, filepath.Join(dir, e.Name()))
			} else {
				v.isOther(t, filepath.Join(dir, e.Name()))
			}
		})
	}
	if judged < 8 {
		t.Errorf("only %d SEV-SNP vectors", judged)
	}
}

func (v vector) judge(t *testing.T, dir string) {
	t.Helper()
	args := []string{
		"evidence", "verify", filepath.Join(dir, v.Files["report"]), "--certificate", filepath.Join(dir, v.Files["certificate"]),
		"--at", v.At, "--json", "--floor",
	}
	for _, floor := range []struct {
		name   string
		accept bool
	}{{"signature", v.Genuine}, {"default", v.Floor == "accept"}} {
		code, stdout, _ := call(t.Context(), append(args, floor.name)...)
		var out evidenceJSON
		if err := json.Unmarshal([]byte(stdout), &out); err != nil {
			t.Fatalf("%v: %s", err, stdout)
		}
		if (code == cli.ExitOK) != floor.accept || (out.Verdict == verdictVerified) != floor.accept || out.Genuine != v.Genuine {
			t.Errorf("floor %s: code %d, %s", floor.name, code, stdout)
		}
		if !floor.accept && (len(out.Reasons) == 0 || out.Reasons[0].Code != v.Why) {
			t.Errorf("floor %s: reasons %+v, want %s first", floor.name, out.Reasons, v.Why)
		}
		if v.Genuine && (out.Measurement != v.Facts["measurement"] || out.ReportData != v.Facts["report_data"] || out.Platform != "snp") {
			t.Errorf("what the quote says: %s", stdout)
		}
	}
}

// isOther demands that a kind that is not judged is not judged: never accepted, and said in a sentence.
func (v vector) isOther(t *testing.T, dir string) {
	t.Helper()
	file := v.Files["quote"]
	if file == "" {
		file = v.Files["evidence"]
	}
	code, stdout, stderr := call(t.Context(), "evidence", "verify", filepath.Join(dir, file), "--at", v.At, "--json")
	if code != cli.ExitUnsupported || !strings.Contains(stdout, `"verdict":"error"`) || !strings.Contains(stderr, "this version judges") {
		t.Errorf("code %d, %s %s", code, stdout, stderr)
	}
}
