// SPDX-License-Identifier: Apache-2.0

package action_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/internal/stubrunner/action"
	"github.com/kettle/attest/internal/stubrunner/message"
)

const outer = `
name: outer
inputs:
  who: {default: '${{ github.actor }}'}
  flag: {default: false, deprecationMessage: 'use who'}
outputs:
  said: {value: '${{ steps.a.outputs.text }}'}
runs:
  using: composite
  steps:
    - id: a
      shell: bash
      run: echo hi
      if: inputs.who == 'x'
      env: {A: '${{ inputs.who }}'}
      working-directory: sub
    - run: echo 1
      shell: sh
      if: ${{ failure() }}
    - uses: acme/tools/inner@v1
      with: {x: 1}
    - uses: ./local
`

func TestParse(t *testing.T) {
	t.Parallel()
	m, err := action.Parse([]byte(outer))
	if err != nil {
		t.Fatal(err)
	}
	if m.Using != "composite" || len(m.Inputs) != 2 || m.Inputs[1].Default.Value != "false" || m.Inputs[1].Deprecated != "use who" ||
		len(m.Outputs) != 1 || m.Outputs[0].Value.Value != "steps.a.outputs.text" {
		t.Errorf("manifest: %+v", m)
	}
	wantConditions := []string{"success() && (inputs.who == 'x')", "failure()", "success()", "success()"}
	wantNames := []string{"a", "__run", "__acme_tools", "__local"}
	for i, s := range m.Steps {
		if s.Condition != wantConditions[i] || s.ContextName != wantNames[i] {
			t.Errorf("step %d: %q %q", i, s.Condition, s.ContextName)
		}
	}
	if got := m.Steps[2].Reference; got.Name != "acme/tools" || got.Path != "inner" || got.Ref != "v1" || got.String() != "acme/tools/inner@v1" {
		t.Errorf("reference: %+v", got)
	}
	if v, ok := m.Steps[0].Inputs.Get("workingdirectory"); !ok || v.Value != "sub" {
		t.Error("working-directory is lost")
	}
	node, err := action.Parse([]byte("runs: {using: node24, main: x.js}"))
	if err != nil || node.Using != "node24" {
		t.Errorf("node action: %v %v", node, err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no mapping": "[]", "no runs": "name: x", "no using": "runs: {}", "no steps": "runs: {using: composite}",
		"no shell":   "runs: {using: composite, steps: [{run: x}]}",
		"both":       "runs: {using: composite, steps: [{run: x, uses: y}]}",
		"neither":    "runs: {using: composite, steps: [{id: x}]}",
		"uses":       "runs: {using: composite, steps: [{uses: x}]}",
		"expression": "runs: {using: composite, steps: [{run: '${{ a b }}', shell: sh}]}",
		"condition":  "runs: {using: composite, steps: [{run: x, shell: sh, if: 'a b'}]}",
		"yaml":       "a: [",
	} {
		if m, err := action.Parse([]byte(text)); err == nil {
			t.Errorf("%s: read as %+v", name, m)
		}
	}
	if _, err := action.Load(t.TempDir()); !errors.Is(err, action.ErrNoManifest) {
		t.Errorf("empty folder: %v", err)
	}
}

func archive(t *testing.T, entries ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, h := range entries {
		body := []byte(h.PAXRecords["body"])
		h.PAXRecords = nil
		h.Size = int64(len(body))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func reg(name, body string, mode int64) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, PAXRecords: map[string]string{"body": body}}
}

func serve(t *testing.T, archives map[string][]byte) *action.Fetcher {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /repos/{owner}/{repo}/tarball/{ref}", func(w http.ResponseWriter, r *http.Request) {
		if user, secret, _ := r.BasicAuth(); user != "x-access-token" || secret != "tok" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, "/codeload/"+r.PathValue("owner")+"/"+r.PathValue("repo")+"/"+r.PathValue("ref"), http.StatusFound)
	})
	mux.HandleFunc("GET /codeload/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		data, ok := archives[r.PathValue("rest")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return &action.Fetcher{
		Client: server.Client(), Dir: t.TempDir(), APIURL: server.URL, Token: "tok",
		Output: func(string) {}, Secret: func(string) {},
	}
}

func step(t *testing.T, uses string) message.Step {
	t.Helper()
	ref, err := action.ParseReference(uses)
	if err != nil {
		t.Fatal(err)
	}
	return message.Step{Reference: ref}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	f := serve(t, map[string][]byte{
		"acme/outer/v2": archive(t, &tar.Header{Name: "pax", Typeflag: tar.TypeXGlobalHeader}, reg("acme-outer-1/action.yml", outer, 0o644)),
		"acme/tools/v1": archive(t, reg("acme-tools-1/inner/action.yml", "runs: {using: composite, steps: []}", 0o644),
			reg("acme-tools-1/bin/x", "#!", 0o755),
			&tar.Header{Name: "acme-tools-1/bin/y", Typeflag: tar.TypeSymlink, Linkname: "x"}),
	})
	if err := f.Prepare(t.Context(), []message.Step{step(t, "acme/outer@v2"), step(t, "./local")}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"acme/outer/v2/action.yml", "acme/outer/v2.completed", "acme/tools/v1/inner/action.yml", "acme/tools/v1/bin/y"} {
		if _, err := os.Stat(filepath.Join(f.Dir, path)); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(filepath.Join(f.Dir, "acme/tools/v1/bin/x")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("mode: %v %v", info, err)
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	f := serve(t, map[string][]byte{
		"a/out/v":   archive(t, reg("../x", "", 0o644)),
		"a/two/v":   archive(t, reg("one/action.yml", "", 0o644), reg("two/x", "", 0o644)),
		"a/dev/v":   archive(t, &tar.Header{Name: "d/x", Typeflag: tar.TypeChar}),
		"a/empty/v": archive(t, reg("d/x", "", 0o644)),
		"a/junk/v":  []byte("junk"),
		"a/loop/v":  archive(t, reg("d/action.yml", "runs: {using: composite, steps: [{uses: a/loop@v}]}", 0o644)),
	})
	for name, ref := range map[string]string{
		"leaves the folder": "a/out@v", "two folders": "a/two@v", "device": "a/dev@v", "no action": "a/empty@v",
		"not gzip": "a/junk@v", "endless": "a/loop@v", "absent": "a/absent@v", "dots": "a/b@../../x", "name": "../b@v",
	} {
		if err := f.Prepare(t.Context(), []message.Step{step(t, ref)}); err == nil {
			t.Errorf("%s: prepared", name)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(f.Dir), "x")); err == nil {
		t.Error("a file was written outside")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(outer))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if m, err := action.Parse(text); err == nil {
			_ = strings.Clone(m.Using)
		}
	})
}
