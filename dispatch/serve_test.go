// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/runner"
)

// TestServe asks a session over its socket, and over a port of loopback, which can change nothing.
func TestServe(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	wait, err := b.session.Serve(ctx, listener)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(b.folder.path, socketFile)); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the socket: %v, %v", info, err)
	}
	st, err := Ask(ctx, b.state, b.folder.environment, false)
	if err != nil || st.Step != Starting || st.Draining {
		t.Errorf("status %+v, %v", st, err)
	}
	for path, want := range map[string]int{"/status": 200, "/healthz": 200, "/metrics": 200, "/": 404, "/debug/pprof/": 404} {
		if got := request(t, http.MethodGet, "http://"+listener.Addr().String()+path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if got := request(t, http.MethodPost, "http://"+listener.Addr().String()+"/drain"); got != http.StatusNotFound || b.session.Status().Draining {
		t.Errorf("a drain over TCP: %d", got)
	}
	st, err = Ask(ctx, b.state, b.folder.environment, true)
	if err != nil || !st.Draining || !b.session.Status().Draining {
		t.Errorf("drain: %+v, %v", st, err)
	}
	cancel()
	wait()
	if _, err := Ask(t.Context(), b.state, b.folder.environment, false); err == nil {
		t.Error("it answers after its end")
	}
	if err := b.folder.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Ask(t.Context(), b.state, b.folder.environment, false); !errors.Is(err, ErrGone) {
		t.Errorf("a launcher that is gone: %v", err)
	}
}

func request(t *testing.T, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func TestHealth(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.session.note(func(v *view) { v.Step, v.State = Left, runner.Running })
	w := httptest.NewRecorder()
	b.session.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "left") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestSocketPath(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), strings.Repeat("x", 90))
	if _, err := CreateFolder(state, target()); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(state); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty": ``, "other": `{"schema":"kettle.status/v2"}`, "unknown field": `{"schema":"kettle.status/v1","x":1}`, "none": `{}`,
	} {
		if _, err := ParseStatus([]byte(text)); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}
