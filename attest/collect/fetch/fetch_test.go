// SPDX-License-Identifier: Apache-2.0

package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/collect/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// clock records waits instead of waiting.
type clock struct {
	mu    sync.Mutex
	slept []time.Duration
}

func (c *clock) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept = append(c.slept, d)
	return ctx.Err()
}

// serve gives a client whose server answers with the handlers in turn, the last one for ever.
func serve(t *testing.T, c fetch.Config, handlers ...http.HandlerFunc) (*fetch.Client, string, *clock, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handlers[min(int(n.Add(1)), len(handlers))-1](w, r)
	}))
	t.Cleanup(s.Close)
	k := &clock{}
	c.Transport, c.Sleep, c.Now = fetch.Direct(), k.sleep, func() time.Time { return now }
	return fetch.New(c), s.URL, k, &n
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func body(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, s) }
}

// cut announces more than it sends.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "100")
	_, _ = io.WriteString(w, "half")
}

func reset(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func request(url string) fetch.Request {
	return fetch.Request{
		What: "document", URL: url, Limit: 8, Next: "try something else",
		Accept: func(d fetch.Document) (time.Time, error) {
			if string(d.Body) != "good" {
				return time.Time{}, errors.New("not good")
			}
			return now.Add(time.Hour), nil
		},
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	date := now.Add(7 * time.Second).Format(http.TimeFormat)
	for name, tt := range map[string]struct {
		faults []http.HandlerFunc
		waits  []time.Duration
	}{
		"at once":             {nil, nil},
		"500 twice":           {[]http.HandlerFunc{status(500), status(503)}, []time.Duration{time.Second, 2 * time.Second}},
		"429 with seconds":    {[]http.HandlerFunc{status(429, "Retry-After", "9")}, []time.Duration{9 * time.Second}},
		"429 with a date":     {[]http.HandlerFunc{status(429, "Retry-After", date)}, []time.Duration{7 * time.Second}},
		"429 with nonsense":   {[]http.HandlerFunc{status(429, "Retry-After", "soon")}, []time.Duration{time.Second}},
		"a day is too long":   {[]http.HandlerFunc{status(503, "Retry-After", "86400")}, []time.Duration{time.Minute}},
		"a date in the past":  {[]http.HandlerFunc{status(503, "Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT")}, []time.Duration{time.Second}},
		"a negative number":   {[]http.HandlerFunc{status(503, "Retry-After", "-5")}, []time.Duration{time.Second}},
		"a cut body":          {[]http.HandlerFunc{cut}, []time.Duration{time.Second}},
		"a reset connection":  {[]http.HandlerFunc{reset, reset, reset}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		"request timeout 408": {[]http.HandlerFunc{status(408)}, []time.Duration{time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, url, k, n := serve(t, fetch.Config{}, append(tt.faults, body("good"))...)
			d, err := c.Get(t.Context(), request(url))
			if err != nil || string(d.Body) != "good" || !slices.Equal(k.slept, tt.waits) {
				t.Fatalf("%v, %q, slept %v, want %v", err, d.Body, k.slept, tt.waits)
			}
			if int(n.Load()) != len(tt.faults)+1 {
				t.Errorf("%d requests", n.Load())
			}
		})
	}
}

func TestGivesUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		handler  http.HandlerFunc
		attempts int
		status   int
		says     string
	}{
		"500 for ever":   {status(500), 6, 500, "answered 500"},
		"reset for ever": {reset, 6, 0, "EOF"},
		"404":            {status(404), 1, 404, "answered 404"},
		"403":            {status(403), 1, 403, "answered 403"},
		"another kind":   {body("<html>"), 1, 200, "something else: not good"},
		"a huge body":    {body(strings.Repeat("x", 1<<20)), 1, 200, "longer than 8 bytes"},
		"one too many":   {body("good....."), 1, 200, "longer than 8 bytes"},
		"a redirect":     {status(302, "Location", "https://elsewhere.test/"), 1, 302, "answered 302"},
		"no content":     {status(204), 1, 204, "answered 204"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, url, _, n := serve(t, fetch.Config{}, tt.handler)
			_, err := c.Get(t.Context(), request(url))
			var e *fetch.Error
			if !errors.As(err, &e) || !errors.Is(err, fetch.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
			if e.Attempts != tt.attempts || int(n.Load()) != tt.attempts || e.Status != tt.status || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%d requests, status %d: %v", n.Load(), e.Status, err)
			}
			for _, part := range []string{"document", url, "try something else"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is not in %q", part, err)
				}
			}
		})
	}
}

func TestHeadersAndBody(t *testing.T) {
	t.Parallel()
	c, url, _, n := serve(t, fetch.Config{}, func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		if r.Method != http.MethodPost || r.Header.Get("Metadata") != "true" || string(sent) != "ask" {
			w.WriteHeader(400)
			return
		}
		w.Header().Set("X-Chain", "abc")
		w.Header().Set("X-Other", "def")
		_, _ = io.WriteString(w, "good")
	})
	r := request(url)
	r.Header, r.Body, r.Keep = map[string]string{"Metadata": "true"}, []byte("ask"), []string{"X-Chain", "X-None"}
	for range 2 { // an answer to a question is not cached
		d, err := c.Get(t.Context(), r)
		if err != nil || len(d.Header) != 1 || d.Header["X-Chain"] != "abc" {
			t.Fatalf("%v %v", err, d.Header)
		}
	}
	if n.Load() != 2 {
		t.Errorf("%d requests", n.Load())
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	t.Run("ended before", func(t *testing.T) {
		t.Parallel()
		c, url, _, n := serve(t, fetch.Config{}, body("good"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(ctx, request(url)); !errors.Is(err, context.Canceled) || n.Load() != 0 {
			t.Errorf("%v", err)
		}
	})
	t.Run("ends while waiting", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("shutting down")
		c, url, _, n := serve(t, fetch.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			cancel(why)
		})
		if _, err := c.Get(ctx, request(url)); !errors.Is(err, context.Canceled) && !errors.Is(err, why) || n.Load() != 1 {
			t.Errorf("%v", err)
		}
	})
	t.Run("a server that hangs costs one attempt each", func(t *testing.T) {
		t.Parallel()
		gone := make(chan struct{})
		hang := func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-gone:
			}
		}
		c, url, _, _ := serve(t, fetch.Config{AttemptLimit: 50 * time.Millisecond}, hang, body("good"))
		t.Cleanup(func() { close(gone) })
		if d, err := c.Get(t.Context(), request(url)); err != nil || string(d.Body) != "good" {
			t.Errorf("%v", err)
		}
	})
	t.Run("sleep", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := fetch.Sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := fetch.Sleep(t.Context(), 1); err != nil {
			t.Error(err)
		}
	})
}

func caches(t *testing.T) map[string]fetch.Cache {
	t.Helper()
	d, err := fetch.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return map[string]fetch.Cache{"memory": fetch.NewMemory(), "folder": d}
}

func TestCache(t *testing.T) {
	t.Parallel()
	for name, cache := range caches(t) {
		t.Run(name, func(t *testing.T) {
			c, url, _, n := serve(t, fetch.Config{Cache: cache}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Chain", "abc")
				_, _ = io.WriteString(w, "good")
			}, status(500))
			r := request(url)
			r.Keep = []string{"X-Chain"}
			for range 3 {
				d, err := c.Get(t.Context(), r)
				if err != nil || string(d.Body) != "good" || d.Header["X-Chain"] != "abc" {
					t.Fatalf("%v %v", err, d)
				}
			}
			if n.Load() != 1 {
				t.Errorf("%d requests", n.Load())
			}
			other := r
			other.Accept = func(fetch.Document) (time.Time, error) { return time.Time{}, errors.New("no longer") }
			if _, err := c.Get(t.Context(), other); err == nil {
				t.Error("what is not accepted came from the cache")
			}
			if e, ok := cache.Get(url); !ok || !e.Until.Equal(now.Add(time.Hour)) {
				t.Error("the entry is gone")
			}
			cache.Put(url, fetch.Entry{Document: fetch.Document{Body: []byte("good")}, Until: now})
			if _, err := c.Get(t.Context(), r); err == nil {
				t.Error("what is past its time came from the cache")
			}
			cache.Put(url, fetch.Entry{Document: fetch.Document{Body: []byte("good.....")}, Until: now.Add(time.Hour)})
			if _, err := c.Get(t.Context(), r); err == nil {
				t.Error("what is too long came from the cache")
			}
		})
	}
}

// TestAttackPoisonedCache: somebody who can write the folder of the cache cannot make the program take a document that
// it would not take from the network.
func TestAttackPoisonedCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := fetch.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	c, url, _, n := serve(t, fetch.Config{Cache: d}, body("good"))
	if _, err := c.Get(t.Context(), request(url)); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v %v", names, err)
	}
	good, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	requests := n.Load()
	for name, poison := range map[string]string{
		"empty":             "",
		"cut":               string(good[:len(good)/2]),
		"another address":   strings.Replace(string(good), "http:", "file:", 1),
		"another body":      strings.Replace(string(good), `"body":"`, `"body":"AAAA`, 1),
		"another version":   strings.Replace(string(good), `"v":1`, `"v":2`, 1),
		"another key":       strings.Replace(string(good), `{`, `{"x":1,`, 1),
		"the body twice":    strings.Replace(string(good), `{`, `{"Body":"AAAA",`, 1),
		"more than a value": string(good) + string(good),
	} {
		if poison == string(good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := os.WriteFile(names[0], []byte(poison), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(t.Context(), request(url))
		if err != nil || string(got.Body) != "good" || n.Load() != requests+1 {
			t.Errorf("%s: %q, %v, %d requests", name, got.Body, err, n.Load()-requests)
		}
		requests = n.Load()
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m := fetch.NewMemory()
	for i := range 300 {
		m.Put(strings.Repeat("x", 1+i), fetch.Entry{Until: now.Add(time.Duration(i))})
	}
	if _, ok := m.Get("x"); ok {
		t.Error("the oldest is still there")
	}
	if _, ok := m.Get(strings.Repeat("x", 300)); !ok {
		t.Error("the newest is gone")
	}
}

func TestDirThatIsNotThere(t *testing.T) {
	t.Parallel()
	if _, err := fetch.OpenDir(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("opened")
	}
	d, err := fetch.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	d.Put("u", fetch.Entry{}) // forgets in silence
	if _, ok := d.Get("u"); ok {
		t.Error("got something")
	}
}

// FuzzDir feeds files of the cache's folder to its reader.
func FuzzDir(f *testing.F) {
	f.Add([]byte(`{"v":1,"url":"u","until":"2026-11-21T12:00:00Z","header":{"a":"b"},"body":"AAAA"}`))
	f.Add([]byte(`{"v":1,"url":"u","until":"2026-11-21T12:00:00Z","header":null,"body":null}`))
	dir := f.TempDir()
	d, err := fetch.OpenDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = d.Close() })
	d.Put("u", fetch.Entry{})
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(names[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		e, ok := d.Get("u")
		if !ok {
			return
		}
		d.Put("u", e)
		again, ok := d.Get("u")
		if !ok || !bytes.Equal(again.Body, e.Body) || !again.Until.Equal(e.Until) {
			t.Fatalf("%v reads back as %v", e, again)
		}
	})
}
