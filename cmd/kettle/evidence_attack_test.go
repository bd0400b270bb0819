// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx/tdxtest"
	"github.com/kettle/attest/cmd/internal/cli"
)

// evidenceFiles writes files into a folder and gives their paths.
func evidenceFiles(t *testing.T, files map[string][]byte) map[string]string {
	t.Helper()
	dir, paths := t.TempDir(), map[string]string{}
	for name, b := range files {
		paths[name] = filepath.Join(dir, name)
		if err := os.WriteFile(paths[name], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// judgedEvidence runs the command with --json, which prints one object.
func judgedEvidence(t *testing.T, args ...string) (int, evidenceJSON) {
	t.Helper()
	code, stdout, _ := call(t.Context(), append([]string{"evidence", "verify", "--json"}, args...)...)
	var out evidenceJSON
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	return code, out
}

// TestGravestReasonFirst demands that what contradicts a quote comes before what its platform falls short of, and after
// nothing but debugging.
func TestGravestReasonFirst(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{At: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)})
	debug := tdxtest.NewQuote()
	debug.Body.Attributes |= 1
	f := evidenceFiles(t, map[string][]byte{
		"quote": p.Quote(tdxtest.NewQuote()), "debug": p.Quote(debug), "root": p.PEM(tdxtest.Root), "payload": []byte("other"),
	})
	for name, want := range map[string][]refusal.Code{
		"quote": {refusal.Binding, refusal.EndorsementsMissing},
		"debug": {refusal.Debug, refusal.EndorsementsMissing, refusal.Binding},
	} {
		code, out := judgedEvidence(t, f[name], "--root", f["root"], "--payload", f["payload"], "--at", "2026-11-21")
		var got []refusal.Code
		for _, r := range out.Reasons {
			got = append(got, r.Code)
		}
		if !slices.Equal(got, want) || code != cli.ExitInvalid || !out.Genuine {
			t.Errorf("%s: code %d, %v, want %v", name, code, got, want)
		}
	}
}

// TestAttackEmptyRevocationList names a list that has been cut to nothing.
func TestAttackEmptyRevocationList(t *testing.T) {
	t.Parallel()
	files := fixtureFiles(t)
	f := evidenceFiles(t, map[string][]byte{"report": files["report.bin"], "vcek": files["vcek.der"], "roots": files["roots.pem"], "crl": nil})
	args := []string{f["report"], "--certificate", f["vcek"], "--root", f["roots"], "--at", "2026-11-21T12:00:00Z"}
	if code, out := judgedEvidence(t, args...); code != cli.ExitOK {
		t.Fatalf("without a list: %+v", out)
	}
	if code, out := judgedEvidence(t, append(args, "--crl", f["crl"])...); code != cli.ExitInvalid || out.Verdict != verdictRefused {
		t.Errorf("code %d, %+v", code, out)
	}
}

// TestAttackEndlessText bounds what a machine had measured or stated when it is shown.
func TestAttackEndlessText(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ in, want string }{
		{"short", "short"}, {"exactly8", "exactly8"}, {"more than 8", "more tha… (3 bytes more)"}, {"1234567é", "1234567… (2 bytes more)"},
		{strings.Repeat("\x80", 20), "… (20 bytes more)"},
	} {
		got := atMost(tc.in, 8)
		if got != tc.want || !utf8.ValidString(got) && utf8.ValidString(tc.in) {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
	}
}

// TestAttackZeroTime names the one time that the program takes for none given, which would be judged as now.
func TestAttackZeroTime(t *testing.T) {
	t.Parallel()
	f := evidenceFiles(t, map[string][]byte{"report": fixtureFiles(t)["report.bin"]})
	for _, at := range []string{"0001-01-01", "0001-01-01T00:00:00Z", "0001-01-01T01:00:00+01:00"} {
		if code, out := judgedEvidence(t, f["report"], "--at", at); code != cli.ExitUsage || out.Verdict != verdictError {
			t.Errorf("%s: code %d, %+v", at, code, out)
		}
	}
}
