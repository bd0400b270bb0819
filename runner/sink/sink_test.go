// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/runner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func environment() binding.Digest { return binding.Sum([]byte("environment key")) }

func TestOpen(t *testing.T) {
	t.Parallel()
	for raw, ok := range map[string]bool{
		"file:///var/lib/records":               true,
		"https://records.example":               true,
		"https://records.example/":              true,
		"https://records.example:8443/a/b":      true,
		"":                                      false,
		"/var/lib/records":                      false,
		"file://records.example/x":              false,
		"file://./x":                            false,
		"file:x":                                false,
		"file:///a/../b":                        false,
		"file:///a?b":                           false,
		"file:///a#b":                           false,
		"http://records.example/x":              false,
		"HTTP://records.example/x":              false,
		"https://":                              false,
		"https:///x":                            false,
		"https://:443/x":                        false,
		"https:records.example":                 false,
		"https://user@records.example/x":        false,
		"https://user:secret@records.example/x": false,
		"https://records.example/x?token=1":     false,
		"https://records.example/x?":            false,
		"https://records.example/x#y":           false,
		"ftp://records.example/x":               false,
		"https://records.example/%zz":           false,
	} {
		s, err := Open(raw, nil)
		if (err == nil) != ok || (s != nil) != ok {
			t.Errorf("%q: %v, %v", raw, s, err)
		}
	}
}

// sinks makes one sink of each kind, empty.
func sinks(t *testing.T) map[string]runner.Sink {
	t.Helper()
	directory, err := Open("file://"+t.TempDir()+"/records", nil)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]runner.Sink{"directory": directory, "server": open(t, newStore())}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for kind, s := range sinks(t) {
		for name, ok := range map[string]bool{
			"boot.intoto.jsonl": true, "diag.tar.zst": true, "response-12.intoto.jsonl": true, "0": true, strings.Repeat("a", 64): true,
			"": false, ".": false, "..": false, ".hidden": false, "-x": false, "a/b": false, "../a": false, "a\\b": false, "A": false,
			"a b": false, "a\n": false, "a\x00": false, "a%2fb": false, "ä": false, "a?b": false, "a_b": false, strings.Repeat("a", 65): false,
		} {
			if err := s.Put(t.Context(), environment(), name, []byte("x")); (err == nil) != ok {
				t.Errorf("%s: %q: %v", kind, name, err)
			}
		}
	}
}

func TestCreateOnly(t *testing.T) {
	t.Parallel()
	for kind, s := range sinks(t) {
		put := func(name, data string) error { return s.Put(t.Context(), environment(), name, []byte(data)) }
		if err := errors.Join(put("journal.jsonl", "one"), put("journal.jsonl", "one"), put("empty", ""), put("empty", "")); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		for _, other := range []string{"two", "", "one ", "onf"} {
			if err := put("journal.jsonl", other); !errors.Is(err, ErrConflict) {
				t.Errorf("%s: %q: %v", kind, other, err)
			}
		}
		if err := s.Put(t.Context(), binding.Sum([]byte("another")), "journal.jsonl", []byte("two")); err != nil {
			t.Errorf("%s: another environment: %v", kind, err)
		}
		if err := put("journal.jsonl", "one"); err != nil {
			t.Errorf("%s: it was changed: %v", kind, err)
		}
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := Directory(dir)
	if err := s.Put(t.Context(), environment(), "journal.jsonl", []byte("text")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, environment().String(), "journal.jsonl"))
	if err != nil || string(raw) != "text" {
		t.Errorf("%q, %v", raw, err)
	}
	_ = s.Put(t.Context(), environment(), "journal.jsonl", []byte("other"))
	if left, err := os.ReadDir(filepath.Join(dir, environment().String())); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := Directory("/dev/null/x").Put(t.Context(), environment(), "a", nil); err == nil {
		t.Error("stored below a device")
	}
}

// store is a server that creates only.
type store struct{ files map[string]string }

func newStore() *store { return &store{files: map[string]string{}} }

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	have, exists := s.files[r.URL.Path]
	switch {
	case r.Method == http.MethodGet && exists:
		_, _ = io.WriteString(w, have)
	case r.Method != http.MethodPut || r.Header.Get("If-None-Match") != "*":
		w.WriteHeader(http.StatusBadRequest)
	case exists:
		w.WriteHeader(http.StatusPreconditionFailed)
	default:
		data, _ := io.ReadAll(r.Body)
		s.files[r.URL.Path] = string(data)
		w.WriteHeader(http.StatusCreated)
	}
}

// open makes a sink of a server; its retries do not wait.
func open(t *testing.T, h http.Handler) *httpSink {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	opened, err := Open(srv.URL+"/records/", roots)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := opened.(*httpSink)
	if !ok {
		t.Fatalf("got %T", opened)
	}
	s.sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return s
}

// matched names the sentinels that an error matches.
func matched(err error) string {
	var found []string
	for _, sentinel := range []error{ErrConflict, ErrFull, ErrDown, ErrDenied} {
		if errors.Is(err, sentinel) {
			found = append(found, sentinel.Error())
		}
	}
	if len(found) == 0 {
		return fmt.Sprint(nil)
	}
	return strings.Join(found, " and ")
}

const hangUp = 0 // in a list of statuses: no answer

// TestServerAnswers answers PUT with one status after the other, and with the last one for ever.
func TestServerAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers []int
		shows   string // what GET gives; nothing is 404
		asked   int
		ok      bool
		want    error
	}{
		"ok":                        {[]int{200}, "", 1, true, nil},
		"created":                   {[]int{201}, "", 1, true, nil},
		"no content":                {[]int{204}, "", 1, true, nil},
		"accepted is not stored":    {[]int{202}, "", 1, false, ErrDenied},
		"redirect":                  {[]int{307}, "data", 1, false, ErrDenied},
		"permanent redirect":        {[]int{308}, "data", 1, false, ErrDenied},
		"unauthorised":              {[]int{401}, "", 1, false, ErrDenied},
		"forbidden":                 {[]int{403}, "", 1, false, ErrDenied},
		"not found":                 {[]int{404}, "", 1, false, ErrDenied},
		"no such method":            {[]int{405}, "", 1, false, ErrDenied},
		"not implemented":           {[]int{501}, "", 1, false, ErrDenied},
		"unknown status":            {[]int{299}, "", 1, false, ErrDenied},
		"too large":                 {[]int{413}, "", 1, false, ErrFull},
		"full":                      {[]int{507}, "", 1, false, ErrFull},
		"unavailable, then full":    {[]int{503, 507}, "", 2, false, ErrFull},
		"too many, stored":          {[]int{429, 429, 201}, "", 3, true, nil},
		"too many for ever":         {[]int{429}, "", tries, false, ErrDown},
		"too slow, stored":          {[]int{408, 425, 201}, "", 3, true, nil},
		"conflict":                  {[]int{409}, "", 1, false, ErrConflict},
		"precondition failed":       {[]int{412}, "", 1, false, ErrConflict},
		"conflict, other content":   {[]int{409}, "date", 1, false, ErrConflict},
		"conflict, more content":    {[]int{409}, "data and more", 1, false, ErrConflict},
		"conflict, same content":    {[]int{412}, "data", 1, true, nil},
		"unavailable, stored":       {[]int{503, 201}, "", 2, true, nil},
		"broken, stored":            {[]int{500, 502, 504, 201}, "", 4, true, nil},
		"no answer, stored":         {[]int{hangUp, 201}, "", 2, true, nil},
		"stored without an answer":  {[]int{hangUp, 412}, "data", 2, true, nil},
		"no answer, other content":  {[]int{hangUp, 412}, "date", 2, false, ErrConflict},
		"unavailable, then refused": {[]int{503, 403}, "", 2, false, ErrDenied},
		"unavailable for ever":      {[]int{503}, "", tries, false, ErrDown},
		"no answer ever":            {[]int{hangUp}, "", tries, false, ErrDown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, elsewhere := 0, false
			s := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				elsewhere = elsewhere || r.URL.Path != "/records/"+environment().String()+"/journal.jsonl"
				if r.Method == http.MethodGet {
					if tc.shows == "" {
						w.WriteHeader(http.StatusNotFound)
					}
					_, _ = io.WriteString(w, tc.shows)
					return
				}
				status := tc.answers[min(asked, len(tc.answers)-1)]
				asked++
				data, _ := io.ReadAll(r.Body)
				if r.Method != http.MethodPut || string(data) != "data" || r.Header.Get("If-None-Match") != "*" {
					t.Errorf("%s %q", r.Method, data)
				}
				switch status {
				case hangUp:
					panic(http.ErrAbortHandler)
				case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
					w.Header().Set("Location", "/elsewhere")
				}
				w.WriteHeader(status)
			}))
			err := s.Put(t.Context(), environment(), "journal.jsonl", []byte("data"))
			if (err == nil) != tc.ok || matched(err) != fmt.Sprint(tc.want) {
				t.Errorf("got %v", err)
			}
			if asked != tc.asked || elsewhere {
				t.Errorf("asked %d times, elsewhere: %v", asked, elsewhere)
			}
		})
	}
}

// TestRetryEndsWithItsContext ends the context in the pause after a bad answer.
func TestRetryEndsWithItsContext(t *testing.T) {
	t.Parallel()
	asked := 0
	s := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	s.sleep = func(ctx context.Context, d time.Duration) error {
		cancel()
		return sleep(ctx, d)
	}
	if err := s.Put(ctx, environment(), "a", nil); !errors.Is(err, context.Canceled) || matched(err) != fmt.Sprint(nil) || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

// TestUnknownAuthority does not give the record to a server that the roots do not know.
func TestUnknownAuthority(t *testing.T) {
	t.Parallel()
	kept := newStore()
	s := open(t, kept)
	other, err := Open(s.base.String(), x509.NewCertPool())
	if err != nil {
		t.Fatal(err)
	}
	strange, ok := other.(*httpSink)
	if !ok {
		t.Fatalf("got %T", other)
	}
	strange.sleep = s.sleep
	var unknown x509.UnknownAuthorityError
	if err := strange.Put(t.Context(), environment(), "a", nil); !errors.As(err, &unknown) || !errors.Is(err, ErrDown) || len(kept.files) > 0 {
		t.Errorf("got %v, %d files", err, len(kept.files))
	}
}
