// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/internal/vectors"
)

type vector struct {
	Kind     string            `json:"kind"`
	Files    map[string]string `json:"files"`
	At       string            `json:"at"`
	Genuine  bool              `json:"genuine"`
	Floor    string            `json:"floor"`
	Why      refusal.Code      `json:"why"`
	EventLog string            `json:"eventLog"`
	Facts    map[string]string `json:"facts"`
}

// TestVectors runs the command over real quotes of every kind: the verdicts are those of each vector.json.
func TestVectors(t *testing.T) {
	t.Parallel()
	dir := vectors.TEE(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, e := range entries {
		var v vector
		b, err := os.ReadFile(filepath.Join(dir, e.Name(), "vector.json"))
		if err != nil {
			continue
		}
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		kinds[v.Kind]++
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			v.judge(t, filepath.Join(dir, e.Name()))
		})
	}
	for kind, least := range map[string]int{"snp": 8, "tdx": 8, "az-snp": 2, "az-tdx": 1} {
		if kinds[kind] < least {
			t.Errorf("only %d vectors of kind %s", kinds[kind], kind)
		}
	}
}

// arguments names the vector's files by their roles.
func (v vector) arguments(t *testing.T, dir string) []string {
	t.Helper()
	args := []string{"evidence", "verify"}
	for role, name := range v.Files {
		flag, path := map[string]string{
			"report": "", "quote": "", "evidence": "", "document": "", "certificate": "--certificate", "collateral": "--collateral",
			"eventLog": "--event-log", "payload": "--payload",
		}, filepath.Join(dir, name)
		switch f, known := flag[role]; {
		case known && f == "":
			args = append(args, path)
		case known:
			args = append(args, f, path)
		}
	}
	return append(args, "--at", v.At, "--json", "--floor")
}

func (v vector) judge(t *testing.T, dir string) {
	t.Helper()
	for _, floor := range []struct {
		name   string
		accept bool
	}{{"signature", v.Genuine && v.EventLog != "mismatch"}, {"default", v.Floor == "accept"}} {
		code, stdout, _ := call(t.Context(), append(v.arguments(t, dir), floor.name)...)
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
		if v.Genuine {
			v.says(t, out, stdout)
		}
	}
}

// says compares what the quote says with the facts of the vector.
func (v vector) says(t *testing.T, out evidenceJSON, stdout string) {
	t.Helper()
	measurement := v.Facts["measurement"] + v.Facts["mrtd"]
	if out.Measurement != measurement || out.ReportData != v.Facts["report_data"] || out.Platform != v.Kind || out.EventLog != v.EventLog {
		t.Errorf("what the quote says: %s", stdout)
	}
	if nonce, ok := v.Facts["nonce"]; ok && out.ExtraData != nonce {
		t.Errorf("extra data %s, want %s", out.ExtraData, nonce)
	}
	if rtmrs, ok := v.Facts["rtmr0-3"]; ok {
		for i, want := range strings.Fields(rtmrs) {
			if got := out.Registers[fmt.Sprintf("rtmr%d", i)]; got != want {
				t.Errorf("RTMR%d %s, want %s", i, got, want)
			}
		}
	}
}
