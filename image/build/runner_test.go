// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// release makes an archive as GitHub's, of entries without owners.
func release(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	for _, h := range entries {
		data := []byte(nil)
		if h.Typeflag == tar.TypeReg {
			data = []byte("#!/bin/sh\n" + h.Name)
			h.Size = int64(len(data))
		}
		must(t, w.WriteHeader(&h))
		_, err := w.Write(data)
		must(t, err)
	}
	must(t, errors.Join(w.Close(), zipped.Close()))
	return b.Bytes()
}

func regular(name string, mode int64) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target}
}

// pinned fetches an archive as a runner into a cache. The pin is for https; the test puts the file into the cache.
func pinned(t *testing.T, cache string, archive []byte) (Runner, error) {
	t.Helper()
	pin := &locks.Runner{
		Schema: locks.RunnerSchema, Version: "2.336.0", Released: "2026-08-17", SHA256: sha256sum(archive), Size: int64(len(archive)),
		URL: "https://127.0.0.1:1/runner.tar.gz",
	}
	write(t, filepath.Join(cache, packagesDir, pin.SHA256.String()), string(archive), 0o600)
	return FetchRunner(t.Context(), cache, pin, nil)
}

func TestFetchRunner(t *testing.T) {
	t.Parallel()
	archive := release(t,
		tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o755}, tar.Header{Typeflag: tar.TypeDir, Name: "./bin/", Mode: 0o755},
		regular("./bin/Runner.Listener", 0o755), regular("./run.sh", 0o4777), regular("./externals/node24/lib/x.js", 0o600), link("./externals/node24/bin/npm", "../lib/x.js"),
	)
	cache := t.TempDir()
	r, err := pinned(t, cache, archive)
	must(t, err)
	if r.Version != "2.336.0" || r.Archive != sha256sum(archive) {
		t.Errorf("got %+v", r)
	}
	if digest, err := r.digest(t.Context()); err != nil || digest != r.Archive {
		t.Errorf("it is known as %s, %v", digest, err)
	}
	for name, want := range map[string]os.FileMode{"bin/Runner.Listener": 0o755, "run.sh": 0o755, "externals/node24/lib/x.js": 0o644} {
		if info, err := os.Lstat(filepath.Join(r.Folder, name)); err != nil || info.Mode()&^0o022 != want&^0o022 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if target, err := os.Readlink(filepath.Join(r.Folder, "externals/node24/bin/npm")); err != nil || target != "../lib/x.js" {
		t.Errorf("got %q, %v", target, err)
	}
	if text, err := os.ReadFile(r.Release); err != nil || string(text) != `{"version":"2.336.0","released":"2026-08-17"}`+"\n" {
		t.Errorf("got %s, %v", text, err)
	}
	must(t, os.RemoveAll(filepath.Join(cache, packagesDir)))
	must(t, os.MkdirAll(filepath.Join(cache, packagesDir), 0o700))
	again, err := pinned(t, cache, archive)
	if err != nil || again != r {
		t.Errorf("from the cache: %+v, %v", again, err)
	}
}

func TestFetchRunnerGone(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(&shelf{})
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS() // with a certificate that nobody has signed
	t.Cleanup(server.Close)
	pin := &locks.Runner{
		Schema: locks.RunnerSchema, Version: "2.336.0", Released: "2026-08-17", SHA256: image.SHA256{1}, Size: 1, URL: server.URL + "/x",
	}
	var remote *RemoteError
	if _, err := FetchRunner(t.Context(), t.TempDir(), pin, nil); !errors.As(err, &remote) {
		t.Errorf("got %v", err)
	}
	if _, err := FetchRunner(t.Context(), t.TempDir(), &locks.Runner{}, nil); err == nil || errors.As(err, &remote) {
		t.Errorf("an empty pin: %v", err)
	}
}

// TestAttackArchiveLeavesFolder brings archives that write elsewhere, or bring what is no file.
func TestAttackArchiveLeavesFolder(t *testing.T) {
	t.Parallel()
	listener := regular("bin/Runner.Listener", 0o755)
	for name, entries := range map[string][]tar.Header{
		"dots":            {listener, regular("../outside", 0o755)},
		"dots inside":     {listener, regular("a/../../outside", 0o755)},
		"absolute":        {listener, regular("/tmp/outside", 0o755)},
		"through a link":  {listener, link("up", ".."), regular("up/outside", 0o755)},
		"a linked folder": {listener, link("etc", "/etc"), regular("etc/outside", 0o755)},
		"over a link":     {listener, link("x", "../outside"), regular("x", 0o755)},
		"a device":        {listener, {Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3}},
		"a hard link":     {listener, {Typeflag: tar.TypeLink, Name: "x", Linkname: "/etc/shadow"}},
		"a pipe":          {listener, {Typeflag: tar.TypeFifo, Name: "x"}},
		"a file twice":    {listener, listener},
		"no listener":     {regular("bin/Other", 0o755)},
		"nothing":         {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := t.TempDir()
			r, err := pinned(t, cache, release(t, entries...))
			if err == nil {
				t.Errorf("it was unpacked: %+v", r)
			}
			err = filepath.WalkDir(cache, func(path string, _ fs.DirEntry, err error) error {
				if strings.Contains(path, "outside") || strings.Contains(path, "runner-") {
					t.Errorf("%s is left", path)
				}
				return err
			})
			must(t, err)
		})
	}
	for name, data := range map[string][]byte{"no archive": []byte("x"), "cut off": release(t, listener)[:40]} {
		if r, err := pinned(t, t.TempDir(), data); err == nil {
			t.Errorf("%s: it was unpacked: %+v", name, r)
		}
	}
}
