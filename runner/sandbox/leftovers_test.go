// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status string
		want   Process
		ok     bool
	}{
		"ordinary":       {"Name:\tgradle\nUmask:\t0022\nPid:\t77\nNSpid:\t77\t12\n", Process{12, "gradle"}, true},
		"nested":         {"Name:\tsleep\nNSpid:\t77\t12\t1\n", Process{12, "sleep"}, true},
		"escapes":        {"Name:\ta\x1b[2Jb\\nc\nNSpid:\t7\t3\n", Process{3, `a?[2Jb\nc`}, true},
		"not text":       {"Name:\t\xff\u202e\nNSpid:\t7\t3\n", Process{3, "??"}, true},
		"long":           {"Name:\t" + strings.Repeat("x", 60) + "\nNSpid:\t7\t3\n", Process{3, strings.Repeat("x", 15)}, true},
		"spaces":         {"Name:\t a b \nNSpid:\t7\t3\n", Process{3, " a b "}, true},
		"of kettled":     {"Name:\tkettled\nNSpid:\t77\n", Process{}, false},
		"no number":      {"Name:\tx\nNSpid:\t7\tx\n", Process{}, false},
		"a second NSpid": {"Name:\tNSpid:\t7\t1\nNSpid:\t7\t3\n", Process{3, "NSpid:?7?1"}, true},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "status"), []byte(tc.status), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, ok := inspect(dir); ok != tc.ok || ok && got != tc.want {
			t.Errorf("%s: got %v, %v", name, got, ok)
		}
	}
	if _, ok := inspect(filepath.Join(t.TempDir(), "none")); ok {
		t.Error("a process that is gone")
	}
}
