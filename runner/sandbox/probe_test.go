// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	const features = "commit: x\nspec: 1.0.0\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +YAJL\n"
	const libseccomp = "commit: x\nspec: 1.0.2-dev\ngo: go1.19.8\nlibseccomp: 2.5.4\n"
	for text, want := range map[string]struct{ name, says string }{
		"crun version 1.8.1\n" + features:                                 {"crun 1.8.1", ""},
		"crun version 1.14.1\n" + features:                                {"crun 1.14.1", ""},
		"crun version 2.0\n" + features:                                   {"crun 2.0", ""},
		"runc version 1.1.5+ds1\n" + libseccomp:                           {"runc 1.1.5+ds1", ""},
		"crun version 1.7.2\n" + features:                                 {"", "too old: want 1.8"},
		"crun version 0.17\n" + features:                                  {"", "too old"},
		"runc version 1.0.3\n" + libseccomp:                               {"", "too old: want 1.1"},
		"runc version 1.1.5\n":                                            {"", "without libseccomp:"},
		"crun version 1.8.1\n+CAP +EBPF\n":                                {"", "without +SECCOMP"},
		"crun version 1.8.1\n+CAP +SECCOMPX +EBPF\n":                      {"", "without +SECCOMP"},
		"crun version 1.8.1\n+CAP +SECCOMP\n":                             {"", "without +EBPF"},
		"youki version 1.8.1\n" + features:                                {"", "neither crun nor runc"},
		"crun version 99999.1\n" + features:                               {"", "neither"},
		"crun version 1.8.1 \x1b[2J\n" + features:                         {"", "neither"},
		"crun version 1.8.1" + strings.Repeat("x", 100) + "\n" + features: {"", "neither"},
		"": {"", "neither"},
	} {
		got, err := parseVersion(text)
		if want.says != "" {
			if err == nil || !strings.Contains(err.Error(), want.says) {
				t.Errorf("%q: got %v, want it to say %q", text, err, want.says)
			}
			continue
		}
		if err != nil || got.String() != want.name {
			t.Errorf("%q: got %s, %v", text, got, err)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("crun version 1.8.1\n+SECCOMP +CAP +EBPF\n")
	f.Add("runc version 1.1.5+ds1\nlibseccomp: 2.5.4\n")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := parseVersion(text); err == nil && (strings.ContainsAny(r.String(), "\n\x1b") || len(r.String()) > 100) {
			t.Errorf("accepted %q as %q", text, r)
		}
	})
}

func TestProbe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := func(name, script string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old := program("old", "echo crun version 1.4")
	fails := program("fails", "echo crun version 1.8.1; exit 1")
	good := program("good", "echo 'crun version 1.9\n+SECCOMP +CAP +EBPF'")
	other := program("other", "echo 'runc version 1.1.5\nlibseccomp: 2.5.4'")
	log := slog.New(slog.DiscardHandler)
	c := valid(t)
	c.Runtimes = []string{filepath.Join(dir, "none"), old, fails, good, other}
	got, err := probe(t.Context(), c, log)
	if err != nil || len(got) != 2 || got[0].program != good || got[1].program != other || got[0].root == got[1].root {
		t.Errorf("got %v, %v", got, err)
	}
	c.Runtimes = c.Runtimes[:3]
	_, err = probe(t.Context(), c, log)
	for _, says := range []string{"none: ", "too old", "fails: asking for its version"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want it to say %q", err, says)
		}
	}
}
