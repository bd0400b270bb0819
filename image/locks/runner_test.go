// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"strings"
	"testing"

	"github.com/kettle/attest/image/locks"
)

const runnerLock = `{"schema":"kettle.runner/v1","version":"2.336.0","released":"2026-08-17","size":235000000,` +
	`"url":"https://github.com/actions/runner/releases/download/v2.336.0/actions-runner-linux-x64-2.336.0.tar.gz",` +
	`"sha256":"abababababababababababababababababababababababababababababababab"}`

func TestRunner(t *testing.T) {
	t.Parallel()
	r, err := locks.ParseRunner([]byte(runnerLock + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := r.Release(); err != nil || string(text) != `{"version":"2.336.0","released":"2026-08-17"}`+"\n" {
		t.Errorf("got %s, %v", text, err)
	}
}

func TestRunnerRefused(t *testing.T) {
	t.Parallel()
	for name, swap := range map[string][2]string{
		"other schema":    {"runner/v1", "runner/v2"},
		"a key more":      {`"size"`, `"x":1,"size"`},
		"a key twice":     {`"size"`, `"size":1,"size"`},
		"a key less":      {`"size":235000000,`, ""},
		"no version":      {`"2.336.0"`, `""`},
		"latest":          {`"2.336.0"`, `"latest"`},
		"no day":          {"2026-08-17", ""},
		"no such day":     {"2026-08-17", "2026-08-32"},
		"no digest":       {"abababababababababababababababababababababababababababababababab", strings.Repeat("0", 64)},
		"short digest":    {"abababab", ""},
		"size below 0":    {"235000000", "-1"},
		"huge":            {"235000000", "3000000000"},
		"over plain http": {"https://", "http://"},
		"a file":          {"https://github.com", "file://"},
		"a password":      {"https://", "https://a:b@"},
		"not an object":   {runnerLock, "[]"},
		"something after": {"}", "}{}"},
		"too long":        {"}", "}" + strings.Repeat(" ", 8<<10)},
	} {
		if !strings.Contains(runnerLock, swap[0]) {
			t.Fatalf("%s: there is no %q", name, swap[0])
		}
		if r, err := locks.ParseRunner([]byte(strings.Replace(runnerLock, swap[0], swap[1], 1))); err == nil || r != nil {
			t.Errorf("%s: it was read", name)
		}
	}
}

func FuzzParseRunner(f *testing.F) {
	f.Add([]byte(runnerLock))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := locks.ParseRunner(data)
		if err == nil && (r.Validate() != nil || !strings.HasPrefix(r.URL, "https:")) {
			t.Fatalf("%q was read as %+v", data, r)
		}
	})
}
