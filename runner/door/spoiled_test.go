// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// spoils remembers what the server's owner was told.
type spoils struct {
	mu   sync.Mutex
	errs []error
}

func (s *spoils) add(_ context.Context, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

func (s *spoils) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.errs)
}

// patient is a handler that works until its context ends or it is let go.
type patient struct {
	handler
	entered chan struct{}
	release chan struct{} // closed to let it answer
	ended   chan error    // why its context ended; nil when it was let go
}

func newPatient() *patient {
	return &patient{entered: make(chan struct{}, 1), release: make(chan struct{}), ended: make(chan error, 1)}
}

func (p *patient) Started(ctx context.Context, _ Started) error {
	p.entered <- struct{}{}
	select {
	case <-ctx.Done():
		p.ended <- context.Cause(ctx)
		return &refusal.Refusal{Link: "dispatch", Code: refusal.Missing, Want: "time", Got: "none"}
	case <-p.release:
		p.ended <- ctx.Err()
		return nil
	}
}

// knock sends raw bytes and leaves the connection open.
func knock(t *testing.T, path string, data []byte) *net.UnixConn {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write(data); err != nil && !errors.Is(err, syscall.EPIPE) { // a refused peer is not read
		t.Fatal(err)
	}
	return conn
}

func framed(body string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...) //nolint:gosec // a test's own body.
}

const startedBody = `{"v":1,"op":"started","started":{"claims":{"GITHUB_RUN_ID":"7"}}}`

// TestAttackVanishingPeer goes away, or sends more, while the handler works: the handler's context ends, and the
// owner of the door learns that nobody was answered.
func TestAttackVanishingPeer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		leave func(*net.UnixConn) error
		want  error
	}{
		"closes":         {func(c *net.UnixConn) error { return c.Close() }, errGone},
		"closes half":    {func(c *net.UnixConn) error { return c.CloseWrite() }, errGone},
		"sends one byte": {func(c *net.UnixConn) error { _, err := c.Write([]byte{0}); return err }, errSecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, told := newPatient(), &spoils{}
			path := serve(t, &Server{Handler: h, Check: anyone, Spoiled: told.add})
			conn := knock(t, path, framed(startedBody))
			<-h.entered
			if told.count() != 0 {
				t.Error("spoiled before it was")
			}
			if err := tc.leave(conn); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-h.ended:
				if !errors.Is(err, tc.want) {
					t.Errorf("the handler's context ended with %v", err)
				}
			case <-time.After(5 * time.Second):
				close(h.release)
				t.Fatal("the handler goes on for nobody")
			}
			if _, err := (Client{Path: path}).Status(t.Context()); err != nil { // behind it, so that it has ended
				t.Fatal(err)
			}
			if told.count() != 1 || !errors.Is(told.errs[0], tc.want) {
				t.Errorf("told %v", told.errs)
			}
		})
	}
}

// TestInterruptedClientEndsTheHandler is the same with the real client.
func TestInterruptedClientEndsTheHandler(t *testing.T) {
	t.Parallel()
	h := newPatient()
	c := Client{Path: serve(t, &Server{Handler: h, Check: anyone})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-h.entered
		cancel()
	}()
	if err := c.Started(ctx, goodStarted()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-h.ended; !errors.Is(err, errGone) {
		t.Errorf("the handler's context ended with %v", err)
	}
}

// TestPatientPeerIsAnswered waits longer than the time to send a request.
func TestPatientPeerIsAnswered(t *testing.T) {
	t.Parallel()
	h, told := newPatient(), &spoils{}
	c := Client{Path: serve(t, &Server{Handler: h, Check: anyone, Spoiled: told.add, ReadTimeout: 20 * time.Millisecond})}
	go func() {
		<-h.entered
		time.Sleep(100 * time.Millisecond)
		close(h.release)
	}()
	if err := c.Started(t.Context(), goodStarted()); err != nil {
		t.Error(err)
	}
	if err := <-h.ended; err != nil || told.count() != 0 {
		t.Errorf("context %v, told %v", err, told.errs)
	}
}

func TestSpoiled(t *testing.T) {
	t.Parallel()
	refuse := func(context.Context, Peer) error { return errors.New("no such process") }
	policy := &refusal.Refusal{Link: "dispatch", Code: refusal.Policy, Want: "a", Got: "b"}
	for name, tc := range map[string]struct {
		server Server
		send   []byte
		told   error // nil when the owner is not told
	}{
		"good":               {Server{Handler: &handler{}, Check: anyone}, framed(startedBody), nil},
		"refused by kettled": {Server{Handler: &handler{err: policy}, Check: anyone}, framed(startedBody), nil},
		"not JSON":           {Server{Handler: &handler{}, Check: anyone}, framed("hello"), refusal.ErrMalformed},
		"unknown op":         {Server{Handler: &handler{}, Check: anyone}, framed(`{"v":1,"op":"sign"}`), refusal.ErrMalformed},
		"huge frame":         {Server{Handler: &handler{}, Check: anyone}, []byte{0xff, 0, 0, 0}, refusal.ErrMalformed},
		"half a frame":       {Server{Handler: &handler{}, Check: anyone}, framed(startedBody)[:20], errAny},
		"nothing":            {Server{Handler: &handler{}, Check: anyone}, nil, errAny},
		"unknown peer":       {Server{Handler: &handler{}, Check: refuse}, framed(startedBody), refusal.ErrIdentity},
		"no answer":          {Server{Handler: &handler{err: errors.New("disk on fire")}, Check: anyone}, framed(startedBody), errAny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := &spoils{}
			s := tc.server
			s.Spoiled, s.ReadTimeout = told.add, 20*time.Millisecond
			path := serve(t, &s)
			conn := knock(t, path, tc.send)
			_, _ = readFrame(conn)                          // a reply or the end
			_, _ = (Client{Path: path}).Status(t.Context()) // behind it
			if got := told.count(); (got > 0) != (tc.told != nil) {
				t.Fatalf("told %d times: %v", got, told.errs)
			}
			if tc.told != nil && !errors.Is(tc.told, errAny) && !errors.Is(told.errs[0], tc.told) {
				t.Errorf("told %v, want %v", told.errs[0], tc.told)
			}
		})
	}
}

// errAny stands for any error in a table.
var errAny = errors.New("any")

// TestLogHoldsNoRequest reads the log after requests that a refusal would quote.
func TestLogHoldsNoRequest(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var text strings.Builder
	s := &Server{Handler: &handler{}, Check: anyone, Log: slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil))}
	path := serve(t, s)
	_, _ = readFrame(knock(t, path, framed(`{"v":1,"op":"hunter2"}`)))
	if _, err := (Client{Path: path}).Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(text.String(), "hunter2") {
		t.Error(text.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestNotSpoiledByTheEnd ends the server while a handler works.
func TestNotSpoiledByTheEnd(t *testing.T) {
	t.Parallel()
	h, told := newPatient(), &spoils{}
	ctx, cancel := context.WithCancel(t.Context())
	name := fmt.Sprintf("@kettle-door-test-%d", os.Getpid())
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: h, Check: anyone, Spoiled: told.add}).Serve(ctx, l) }()
	knock(t, name, framed(startedBody))
	<-h.entered
	cancel()
	if err := <-done; err != nil || told.count() != 0 {
		t.Errorf("%v, told %v", err, told.errs)
	}
	<-h.ended
}
