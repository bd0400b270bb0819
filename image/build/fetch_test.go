// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// shelf is a server that has some files and remembers what it was asked for.
type shelf struct {
	files map[string][]byte
	cut   int  // answers are cut off after so many bytes; 0 for never
	plain bool // it knows nothing of ranges

	mu    sync.Mutex
	asked []string // "path range"
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")))
	s.mu.Unlock()
	data, ok := s.files[r.URL.Path]
	switch {
	case !ok:
		http.NotFound(w, r)
	case s.cut > 0 && r.Header.Get("Range") == "":
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(data[:s.cut])
	case s.plain:
		_, _ = w.Write(data)
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func (s *shelf) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func serve(t *testing.T, s *shelf) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

func fetched(t *testing.T, addresses ...string) (*fetcher, error) {
	t.Helper()
	return fetchedTo(t, filepath.Join(t.TempDir(), "packages"), addresses...)
}

var content = bytes.Repeat([]byte("kettle"), 1000)

func fetchedTo(t *testing.T, folder string, addresses ...string) (*fetcher, error) {
	t.Helper()
	f, err := newFetcher(t.Context(), folder, nil)
	must(t, err)
	return f, f.fetch(t.Context(), []Download{{What: "the file", Addresses: addresses, SHA256: sha256sum(content), Size: int64(len(content))}})
}

func holds(t *testing.T, f *fetcher) {
	t.Helper()
	if data, err := os.ReadFile(f.path(sha256sum(content))); err != nil || !bytes.Equal(data, content) {
		t.Errorf("the file: %d bytes, %v", len(data), err)
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	s := &shelf{files: map[string][]byte{"/a": content}}
	f, err := fetched(t, serve(t, s)+"/a")
	must(t, err)
	holds(t, f)
	if _, err := fetchedTo(t, f.folder, "http://127.0.0.1:1/nobody"); err != nil {
		t.Errorf("what is there was asked for again: %v", err)
	}
}

// TestFetchResumes cuts the first answer off: the second request begins where it ended.
func TestFetchResumes(t *testing.T) {
	t.Parallel()
	s := &shelf{files: map[string][]byte{"/a": content}, cut: 1234}
	f, err := fetched(t, serve(t, s)+"/a")
	must(t, err)
	holds(t, f)
	if got := strings.Join(s.requests(), ", "); got != "/a, /a bytes=1234-" {
		t.Errorf("asked for %s", got)
	}
}

// TestFetchContinues takes up what an earlier process began, also where the server sends everything again.
func TestFetchContinues(t *testing.T) {
	t.Parallel()
	for name, plain := range map[string]bool{"a part": false, "everything": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &shelf{files: map[string][]byte{"/a": content}, plain: plain}
			folder := t.TempDir()
			write(t, filepath.Join(folder, sha256sum(content).String()+".part"), string(content[:100]), 0o644)
			f, err := fetchedTo(t, folder, serve(t, s)+"/a")
			must(t, err)
			holds(t, f)
			if got := s.requests(); len(got) != 1 || got[0] != "/a bytes=100-" {
				t.Errorf("asked for %v", got)
			}
		})
	}
}

// TestAttackOtherPackage has every server answer with other bytes: more, fewer, changed, and changed behind a good beginning.
func TestAttackOtherPackage(t *testing.T) {
	t.Parallel()
	changed := bytes.Clone(content)
	changed[len(changed)-1] ^= 1
	for name, data := range map[string][]byte{
		"changed": changed, "more": append(bytes.Clone(content), 'x'), "fewer": content[:len(content)-1], "none": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			write(t, filepath.Join(folder, sha256sum(content).String()+".part"), string(changed[:100]), 0o644)
			f, err := fetchedTo(t, folder, serve(t, &shelf{files: map[string][]byte{"/a": data}})+"/a")
			var remote *RemoteError
			if !errors.As(err, &remote) {
				t.Fatalf("got %v", err)
			}
			if _, err := os.Stat(f.path(sha256sum(content))); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it was taken: %v", err)
			}
		})
	}
}

// TestFetchFromHistory asks the archive's history for what the archive has forgotten, and nobody else.
func TestFetchFromHistory(t *testing.T) {
	t.Parallel()
	now, then := &shelf{}, &shelf{files: map[string][]byte{"/a": content}}
	f, err := fetched(t, serve(t, now)+"/a", serve(t, then)+"/a")
	must(t, err)
	holds(t, f)
	if len(now.requests()) != 1 || len(then.requests()) != 1 {
		t.Errorf("asked %v, then %v", now.requests(), then.requests())
	}
}

func TestFetchGone(t *testing.T) {
	t.Parallel()
	empty := serve(t, &shelf{})
	var gone *GoneError
	if _, err := fetched(t, empty+"/a", empty+"/b"); !errors.As(err, &gone) || gone.What != "the file" {
		t.Errorf("got %v", err)
	}
	if _, err := fetched(t, "http://127.0.0.1:1/a", empty+"/b"); err == nil || errors.As(err, &gone) {
		t.Errorf("an archive that cannot be reached has lost the file: %v", err)
	}
	if _, err := fetched(t, "file://"+t.TempDir()+"/a"); !errors.As(err, &gone) {
		t.Errorf("a folder: %v", err)
	}
}

func TestFetchInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f, err := newFetcher(t.Context(), t.TempDir(), nil)
	must(t, err)
	err = f.fetch(ctx, []Download{{What: "x", Addresses: []string{"http://127.0.0.1:1/"}, SHA256: image.SHA256{1}, Size: 1}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestFetchCounts(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var last, all int64
	f, err := newFetcher(t.Context(), t.TempDir(), func(done, of int64) {
		mu.Lock()
		defer mu.Unlock()
		last, all = done, of
	})
	must(t, err)
	s := &shelf{files: map[string][]byte{"/a": content}, cut: 10}
	must(t, f.fetch(t.Context(), []Download{{What: "x", Addresses: []string{serve(t, s) + "/a"}, SHA256: sha256sum(content), Size: int64(len(content))}}))
	mu.Lock()
	defer mu.Unlock()
	if last != int64(len(content)) || all != last {
		t.Errorf("told of %d of %d bytes", last, all)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	m := Mirror{Archive: "http://a.test/debian", Security: "http://a.test/debian-security", Snapshot: "http://past.test/archive"}
	taken := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	got := m.addresses(taken, locks.Package{Archive: locks.Security, Path: "pool/updates/main/x/x/x_1.deb"})
	want := "http://a.test/debian-security/pool/updates/main/x/x/x_1.deb http://past.test/archive/debian-security/20261123T130000Z/pool/updates/main/x/x/x_1.deb"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v", got)
	}
	m.Snapshot = ""
	if got := m.addresses(taken, locks.Package{Archive: locks.Main, Path: "pool/x"}); len(got) != 1 || got[0] != "http://a.test/debian/pool/x" {
		t.Errorf("got %v", got)
	}
	for address, want := range map[string]locks.Archive{
		"http://a.test/debian/pool/main/x%2by.deb": locks.Main, "http://a.test/debian-security/pool/main/x%2by.deb": locks.Security,
		"http://b.test/debian/pool/x.deb": "",
	} {
		archive, path, err := m.locate(address)
		if archive != want || (err == nil) != (want != "") || want != "" && path != "pool/main/x+y.deb" {
			t.Errorf("%s: got %s, %s, %v", address, archive, path, err)
		}
	}
}

func TestPrintedPackages(t *testing.T) {
	t.Parallel()
	m := Mirror{Archive: "http://a.test/debian", Security: "http://a.test/debian-security"}
	digest := strings.Repeat("ab", 32)
	said := "Reading package lists...\nThe following NEW packages\n" +
		"'http://a.test/debian/pool/main/g/git/git_2.39.5-0%2bdeb12u3_amd64.deb' git_1%3a2.39.5-0+deb12u3_amd64.deb 7260000 SHA256:" + digest + "\n"
	got, err := printedPackages(said, m, locks.Install)
	want := locks.Package{
		Name: "git", Version: "1:2.39.5-0+deb12u3", Architecture: "amd64", Archive: locks.Main, Path: "pool/main/g/git/git_2.39.5-0+deb12u3_amd64.deb",
		SHA256: image.SHA256(bytes.Repeat([]byte{0xab}, 32)), Size: 7260000, Use: locks.Install,
	}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("want %+v, got %+v, %v", want, got, err)
	}
	for name, line := range map[string]string{
		"a weak digest": "'http://a.test/debian/pool/x.deb' x_1_all.deb 7 MD5Sum:" + digest[:32],
		"no digest":     "'http://a.test/debian/pool/x.deb' x_1_all.deb 7 ",
		"elsewhere":     "'http://b.test/debian/pool/x.deb' x_1_all.deb 7 SHA256:" + digest,
		"not a name":    "'http://a.test/debian/pool/x.deb' x.deb 7 SHA256:" + digest,
		"a large size":  "'http://a.test/debian/pool/x.deb' x_1_all.deb 99999999999999999999 SHA256:" + digest,
		"a bad escape":  "'http://a.test/debian/pool/x%.deb' x_1_all.deb 7 SHA256:" + digest,
	} {
		if got, err := printedPackages(line+"\n", m, locks.Install); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
	}
}
