// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/internal/fakesigstore"
	"github.com/kettle/attest/internal/vectors"
)

// conform runs `kettle conformance verify-bundle` and gives the exit code and what it printed.
func conform(t *testing.T, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	streams := &cli.IO{In: strings.NewReader(""), Out: &out, Err: &out}
	err := run(t.Context(), streams, append([]string{"conformance", "verify-bundle"}, args...))
	streams.Report("kettle", err)
	return cli.ExitCode(err), out.String()
}

type sigstoreVector struct {
	Kind     string `json:"kind"`
	Bundle   string `json:"bundle"`
	Root     string `json:"root"`
	Key      string `json:"key"`
	Artifact string `json:"artifact"`
	Digest   string `json:"digest"`
	SAN      string `json:"san"`
	Issuer   string `json:"issuer"`
	Tlog     int    `json:"tlog"`
	Expect   string `json:"expect"`
}

// TestConformanceVectors runs the command over every vector that the protocol can ask about: it names an exact identity
// or a key, a trusted root, and a file or a SHA-256. The other vectors are judged in attest/bundle.
func TestConformanceVectors(t *testing.T) {
	t.Parallel()
	dir := vectors.Sigstore(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, e := range entries {
		at := func(name string) string { return filepath.Join(dir, e.Name(), name) }
		text, err := os.ReadFile(at("vector.json"))
		if err != nil {
			continue
		}
		var v sigstoreVector
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		args := []string{"--bundle", at(v.Bundle), "--trusted-root", at(v.Root)}
		switch {
		case v.Kind != "bundle":
			continue
		case v.Key != "":
			args = append(args, "--key", at(v.Key))
		case v.SAN != "" && v.Issuer != "":
			args = append(args, "--certificate-identity", v.SAN, "--certificate-oidc-issuer", v.Issuer)
		default:
			continue
		}
		var targets []string
		if v.Artifact != "" {
			b, err := os.ReadFile(at(v.Artifact))
			if err != nil {
				t.Fatal(err)
			}
			targets = []string{at(v.Artifact), fmt.Sprintf("sha256:%x", sha256.Sum256(b))}
		} else if strings.HasPrefix(v.Digest, "sha256:") {
			targets = []string{v.Digest}
		}
		want := v.Expect == "pass"
		if root, err := os.ReadFile(at(v.Root)); err != nil || v.Tlog == 0 && bytes.Contains(root, []byte(`"tlogs"`)) {
			want = false // its root names a log, and a root's logs are demanded
		}
		for _, target := range targets {
			asked++
			if code, out := conform(t, append(args, target)...); (code == 0) != want || !want && code < 3 {
				t.Errorf("%s, %.7s…: exit code %d, want pass %v: %s", e.Name(), target, code, want, out)
			}
		}
	}
	if asked < 12 {
		t.Errorf("only %d questions", asked)
	}
}

// TestConformance runs the command over bundles that are made here, and over wrong command lines.
func TestConformance(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	i, err := fakesigstore.New(fakesigstore.Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	id := fakesigstore.GitHub("acme/image", ".github/workflows/image.yml", "refs/heads/main")
	artifact := []byte("image")
	statement := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"image","digest":{"sha256":"%x"}}],"predicateType":"https://example.com/x","predicate":{}}`, sha256.Sum256(artifact))
	line, err := i.Sign(statement, fakesigstore.Options{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	unlogged, err := i.Sign(statement, fakesigstore.Options{Identity: id, WithoutLog: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	bundle, root, image := file("bundle.json", line), file("root.json", i.TrustedRoot()), file("image", artifact)
	other, empty, hidden := file("other", []byte("other")), file("empty.json", nil), file("unlogged.json", unlogged)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(artifact))
	who := []string{"--certificate-identity", id.SAN(), "--certificate-oidc-issuer", id.Issuer}
	with := func(bundle, root, target string, who ...string) []string {
		return append([]string{"--bundle", bundle, "--trusted-root", root, target}, who...)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
	}{
		"file":           {with(bundle, root, image, who...), 0},
		"digest":         {with(bundle, root, digest, who...), 0},
		"staging":        {append(with(bundle, root, image, who...), "--staging"), 0},
		"another file":   {with(bundle, root, other, who...), 3},
		"another digest": {with(bundle, root, "sha256:"+strings.Repeat("0", 64), who...), 3},
		"no file":        {with(bundle, root, "sha256:00", who...), 1},
		"identity":       {with(bundle, root, image, "--certificate-identity", id.SAN()+"x", "--certificate-oidc-issuer", id.Issuer), 3},
		"issuer":         {with(bundle, root, image, "--certificate-identity", id.SAN(), "--certificate-oidc-issuer", "https://example.com"), 3},
		"pattern":        {with(bundle, root, image, "--certificate-identity", ".*", "--certificate-oidc-issuer", id.Issuer), 3},
		"unlogged":       {with(hidden, root, image, who...), 3},
		"empty bundle":   {with(empty, root, image, who...), 3},
		"nobody":         {with(bundle, root, image), 2},
		"half":           {with(bundle, root, image, "--certificate-identity", id.SAN()), 2},
		"both":           {with(bundle, root, image, append(who, "--key", other)...), 2},
		"empty root":     {with(bundle, empty, image, who...), 2},
		"no root":        {append([]string{"--bundle", bundle, image}, who...), 2},
		"no bundle":      {append([]string{"--trusted-root", root, image}, who...), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out := conform(t, tc.args...)
			if code != tc.code {
				t.Errorf("exit code %d, want %d: %s", code, tc.code, out)
			}
			if name == "no root" && !strings.Contains(out, "trusted_root.json") {
				t.Errorf("does not say what to give: %s", out)
			}
		})
	}
}
