// SPDX-License-Identifier: Apache-2.0

package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPauses looks at how long the sink waits between its tries, and when it does not wait at all.
func TestPauses(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 4, 5, 6, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for name, tc := range map[string]struct {
		status int
		header map[string]string
		want   []time.Duration
	}{
		"growing":                     {503, nil, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		"asked for less":              {503, map[string]string{"Retry-After": "0"}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		"asked for":                   {429, map[string]string{"Retry-After": "3"}, []time.Duration{3 * time.Second, 3 * time.Second, 4 * time.Second}},
		"asked for by date":           {429, map[string]string{"Retry-After": date(9 * time.Second), "Date": date(0)}, []time.Duration{9 * time.Second, 9 * time.Second, 9 * time.Second}},
		"the server's clock":          {429, map[string]string{"Retry-After": date(time.Hour + 9*time.Second), "Date": date(time.Hour)}, []time.Duration{9 * time.Second, 9 * time.Second, 9 * time.Second}},
		"a date that has passed":      {503, map[string]string{"Retry-After": date(-time.Hour), "Date": date(0)}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		"the longest":                 {503, map[string]string{"Retry-After": "30"}, []time.Duration{maxWait, maxWait, maxWait}},
		"too long":                    {503, map[string]string{"Retry-After": "31"}, nil},
		"two years":                   {503, map[string]string{"Retry-After": date(2 * 365 * 24 * time.Hour), "Date": date(0)}, nil},
		"more than a number holds":    {503, map[string]string{"Retry-After": "9223372036854775807"}, nil},
		"more digits than any number": {503, map[string]string{"Retry-After": strings.Repeat("9", 99)}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		"negative":                    {503, map[string]string{"Retry-After": "-5"}, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
		"refused":                     {403, map[string]string{"Retry-After": "1"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				for k, v := range tc.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(tc.status)
			}))
			var got []time.Duration
			s.now, s.jitter = func() time.Time { return now }, func(d time.Duration) time.Duration { return d }
			s.sleep = func(_ context.Context, d time.Duration) error { got = append(got, d); return nil }
			if err := s.Put(t.Context(), environment(), "a", nil); err == nil || !slices.Equal(got, tc.want) {
				t.Errorf("waited %v: %v", got, err)
			}
		})
	}
}

// TestNoTimeLeft does not begin a pause that ends after the context.
func TestNoTimeLeft(t *testing.T) {
	t.Parallel()
	asked := 0
	s := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(http.StatusBadGateway) }))
	s.jitter = func(d time.Duration) time.Duration { return d }
	s.sleep = func(context.Context, time.Duration) error { t.Error("slept"); return nil }
	deadline := time.Now().Add(time.Hour)
	s.now = func() time.Time { return deadline.Add(-firstWait) }
	ctx, cancel := context.WithDeadline(t.Context(), deadline)
	defer cancel()
	if err := s.Put(ctx, environment(), "a", nil); !errors.Is(err, ErrDown) || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestJitter(t *testing.T) {
	t.Parallel()
	seen := map[time.Duration]bool{}
	for range 64 {
		d := jitter(time.Second)
		if d < time.Second/2 || d > time.Second {
			t.Fatalf("got %s", d)
		}
		seen[d] = true
	}
	if len(seen) < 2 || jitter(0) != 0 {
		t.Error("always the same")
	}
}

// TestSlow gives up when its time is over, and says that the sink is down.
func TestSlow(t *testing.T) {
	t.Parallel()
	s := open(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Put(ctx, environment(), "a", nil); !errors.Is(err, ErrDown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	s.client.Timeout = 10 * time.Millisecond // the same for one exchange
	if err := s.Put(t.Context(), environment(), "a", nil); matched(err) != ErrDown.Error() {
		t.Errorf("got %v", err)
	}
}

// TestHalfAnswers: what is cut off proves nothing, neither that the file is stored nor that another one is.
func TestHalfAnswers(t *testing.T) {
	t.Parallel()
	raw := func(text string) func(net.Conn) {
		return func(c net.Conn) { _, _ = io.WriteString(c, text) }
	}
	const conflict = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
	for name, tc := range map[string]struct {
		put, get func(net.Conn)
		want     error
	}{
		"no status":            {raw("HTTP/1.1 2"), nil, ErrDown},
		"not HTTP":             {raw("220 mail.example ESMTP\r\n"), nil, ErrDown},
		"cut header":           {raw("HTTP/1.1 201 Created\r\nContent-"), nil, ErrDown},
		"endless header":       {raw("HTTP/1.1 201 Created\r\nX: " + strings.Repeat("x", 2*maxHeader)), nil, ErrDown},
		"conflict, cut body":   {raw(conflict), raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nda"), ErrDown},
		"conflict, no answer":  {raw(conflict), raw(""), ErrDown},
		"conflict, 503":        {raw(conflict), raw("HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n"), ErrDown},
		"conflict, forbidden":  {raw(conflict), raw("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), ErrConflict},
		"conflict, other text": {raw(conflict), raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nda"), ErrConflict},
		"conflict, the same":   {raw(conflict), raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata"), nil},
		"stored, cut body":     {raw("HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nx"), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				if r.Method == http.MethodGet {
					tc.get(conn)
				} else {
					tc.put(conn)
				}
			}))
			if err := s.Put(t.Context(), environment(), "a", []byte("data")); (err == nil) != (tc.want == nil) || matched(err) != fmt.Sprint(tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestUnreachable: nobody listens, or somebody who speaks no TLS.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(newStore())
	t.Cleanup(plain.Close)
	gone := httptest.NewServer(newStore())
	gone.Close()
	for name, address := range map[string]string{"plain": plain.Listener.Addr().String(), "gone": gone.Listener.Addr().String()} {
		opened, err := Open("https://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, waits := opened.(*httpSink), 0
		s.sleep = func(context.Context, time.Duration) error { waits++; return nil }
		if err := s.Put(t.Context(), environment(), "a", nil); matched(err) != ErrDown.Error() || waits != tries-1 {
			t.Errorf("%s: %v after %d pauses", name, err, waits)
		}
	}
}

// TestServersWords: the reason phrase is the server's and may be anything.
func TestServersWords(t *testing.T) {
	t.Parallel()
	s := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 403 \x1b[2Jgo to evil.example\r\nContent-Length: 0\r\n\r\n")
	}))
	if err := s.Put(t.Context(), environment(), "a", nil); err == nil || strings.Contains(err.Error(), "evil") {
		t.Errorf("got %v", err)
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"boot.intoto.jsonl": "application/jsonl", "journal.jsonl": "application/jsonl", "status.json": "application/json",
		"diag.tar.zst": "application/zstd", "console.log": "text/plain; charset=utf-8", "notes.txt": "text/plain; charset=utf-8",
		"something": "application/octet-stream",
	} {
		got := ""
		s := open(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Get("Content-Type") }))
		if err := s.Put(t.Context(), environment(), name, nil); err != nil || got != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestStoring(t *testing.T) {
	t.Parallel()
	for number, want := range map[syscall.Errno]error{
		syscall.ENOSPC: ErrFull, syscall.EDQUOT: ErrFull, syscall.EFBIG: ErrFull, syscall.EACCES: ErrDenied, syscall.EPERM: ErrDenied,
		syscall.EROFS: ErrDenied, syscall.ENOTDIR: ErrDenied, syscall.ELOOP: ErrDenied, syscall.EIO: ErrDown, syscall.EMFILE: ErrDown, syscall.ESTALE: ErrDown,
	} {
		err := storing("writing", errors.Join(&fs.PathError{Op: "write", Path: "x", Err: number}, errors.New("and more")))
		if matched(err) != want.Error() || !errors.Is(err, number) {
			t.Errorf("%v: got %v", number, err)
		}
	}
	if storing("writing", nil) != nil {
		t.Error("an error from nothing")
	}
}

// TestFullDirectory fills a file system and makes room again.
func TestFullDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	s, data := Directory(dir), bytes.Repeat([]byte("x"), 128<<10)
	if err := s.Put(t.Context(), environment(), "diag.tar.zst", data); matched(err) != ErrFull.Error() {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, environment().String())); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := s.Put(t.Context(), environment(), "diag.tar.zst", data[:1<<10]); err != nil {
		t.Errorf("a smaller one: %v", err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), environment(), "journal.jsonl", nil); matched(err) != ErrDenied.Error() {
		t.Errorf("read-only: got %v", err)
	}
}

func TestDirectoryOfACancelledCaller(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := Directory(dir).Put(ctx, environment(), "a", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, text := range []string{"", "0", "120", "-1", "1e3", "Sun, 06 Nov 1994 08:49:37 GMT", "99999999999999999999"} {
		f.Add(text, "Sun, 06 Nov 1994 08:49:37 GMT")
	}
	f.Fuzz(func(t *testing.T, after, date string) {
		s := &httpSink{now: time.Now}
		if d := s.retryAfter(http.Header{"Retry-After": {after}, "Date": {date}}); d < 0 || d > maxAsked {
			t.Errorf("%q, %q: got %s", after, date, d)
		}
	})
}
