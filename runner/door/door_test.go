// SPDX-License-Identifier: Apache-2.0

package door

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(lender); path != "" {
		if err := lend(path); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// handler answers with what a test put into it and remembers what it was asked.
type handler struct {
	err      error
	attested Attested
	started  Started
	attest   Attest
	wait     time.Duration
	active   atomic.Int32
	overlap  atomic.Bool
}

func (h *handler) Started(_ context.Context, s Started) error { h.started = s; return h.err }

func (h *handler) Attest(_ context.Context, a Attest) (Attested, error) {
	if h.active.Add(1) > 1 {
		h.overlap.Store(true)
	}
	defer h.active.Add(-1)
	time.Sleep(h.wait)
	h.attest = a
	return h.attested, h.err
}

func (h *handler) Status(context.Context) (Status, error) {
	return Status{Phase: "running", Responses: 2}, h.err
}

// serve starts a server and returns its socket.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "door") //nolint:usetesting // t.TempDir may exceed the 108 bytes of a socket's path.
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		_ = os.RemoveAll(dir)
	})
	return path
}

func anyone(context.Context, Peer) error { return nil }

func goodStarted() Started {
	return Started{
		Claims:  Claims{"GITHUB_RUN_ID": "7", "RUNNER_NAME": "host-1-2"},
		IDToken: &IDToken{URL: "https://token.example/x", Token: secret.New("t0ken")},
	}
}

func goodAttest() Attest {
	return Attest{Workspace: "/w", Paths: []string{"dist/*"}, Name: "n"}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	h := &handler{attested: Attested{Sequence: 1, Bundle: "/run/kettle/out/1/b", Subjects: []Subject{{Name: "a", Digest: "00"}}, SubjectCount: 1}}
	var seen Peer
	c := Client{Path: serve(t, &Server{Handler: h, Check: func(_ context.Context, p Peer) error { seen = p; return nil }})}

	if err := c.Started(t.Context(), goodStarted()); err != nil {
		t.Fatal(err)
	}
	if h.started.IDToken.Token.Reveal() != "t0ken" || h.started.Claims["GITHUB_RUN_ID"] != "7" {
		t.Errorf("started arrived as %+v", h.started)
	}
	got, err := c.Attest(t.Context(), goodAttest())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(h.attested, *got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(goodAttest(), h.attest); d != "" {
		t.Error(d)
	}
	st, err := c.Status(t.Context())
	if err != nil || st.Phase != "running" || st.Responses != 2 {
		t.Errorf("status %+v, %v", st, err)
	}
	if int(seen.PID) != os.Getpid() || int(seen.UID) != os.Getuid() {
		t.Errorf("peer %+v", seen)
	}
}

func TestRefusalCrosses(t *testing.T) {
	t.Parallel()
	want := &refusal.Refusal{Link: "dispatch", Code: refusal.Policy, Want: "a", Got: "b", Next: "c."}
	c := Client{Path: serve(t, &Server{Handler: &handler{err: fmt.Errorf("deciding: %w", want)}, Check: anyone})}
	err := c.Started(t.Context(), goodStarted())
	var got *refusal.Refusal
	if !errors.As(err, &got) || *got != *want {
		t.Fatalf("got %v", err)
	}
	if !errors.Is(err, refusal.ErrPolicy) {
		t.Fatal("not a policy refusal")
	}
}

func TestInternalErrorSaysNothing(t *testing.T) {
	t.Parallel()
	c := Client{Path: serve(t, &Server{Handler: &handler{err: errors.New("disk on fire")}, Check: anyone})}
	if err := c.Started(t.Context(), goodStarted()); !errors.Is(err, ErrNoAnswer) {
		t.Fatalf("got %v", err)
	}
}

// TestAttackForeignProcess knocks from outside the sandbox.
func TestAttackForeignProcess(t *testing.T) {
	t.Parallel()
	h := &handler{}
	c := Client{Path: serve(t, &Server{Handler: h, Check: func(context.Context, Peer) error { return errors.New("not ours") }})}
	if err := c.Started(t.Context(), goodStarted()); !errors.Is(err, refusal.ErrIdentity) {
		t.Fatalf("got %v", err)
	}
	if h.started.Claims != nil {
		t.Fatal("the handler was called")
	}
}

func TestServeNeedsCheck(t *testing.T) {
	t.Parallel()
	if err := (&Server{Handler: &handler{}}).Serve(t.Context(), nil); err == nil {
		t.Fatal("served without a peer check")
	}
}

// TestAttackSimultaneous asks for several things at once.
func TestAttackSimultaneous(t *testing.T) {
	t.Parallel()
	h := &handler{wait: 10 * time.Millisecond}
	c := Client{Path: serve(t, &Server{Handler: h, Check: anyone})}
	errs := make(chan error, 8)
	for range cap(errs) {
		go func() { _, err := c.Attest(t.Context(), goodAttest()); errs <- err }()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if h.overlap.Load() {
		t.Fatal("two requests were handled at once")
	}
}

func TestNoDoor(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"no file": filepath.Join(t.TempDir(), "s"), "no folder": "/nonexistent/s", "not a folder": "/dev/null/s",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := (Client{Path: path}).Status(t.Context()); !errors.Is(err, ErrNoDoor) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestHookAlwaysKnocks sends whatever a workflow's author could put into the hook's environment: what the door cannot
// carry is left out, and the rest arrives.
func TestHookAlwaysKnocks(t *testing.T) {
	t.Parallel()
	full := Started{Claims: Claims{}, IDToken: &IDToken{URL: strings.Repeat(`"`, maxURLLen), Token: secret.New(strings.Repeat("t", maxToken))}}
	for _, name := range ClaimNames() {
		full.Claims[name] = strings.Repeat(`"`, maxClaimLen)
	}
	for name, tc := range map[string]struct {
		in   Started
		want Claims
	}{
		"newline":       {Started{Claims: Claims{"GITHUB_REF": "a\nb", "GITHUB_RUN_ID": "7"}}, Claims{"GITHUB_RUN_ID": "7"}},
		"escape":        {Started{Claims: Claims{"GITHUB_JOB": "\x1b[31m", "GITHUB_RUN_ID": "7"}}, Claims{"GITHUB_RUN_ID": "7"}},
		"long":          {Started{Claims: Claims{"GITHUB_REF": strings.Repeat("a", maxClaimLen+1), "GITHUB_RUN_ID": "7"}}, Claims{"GITHUB_RUN_ID": "7"}},
		"no UTF-8":      {Started{Claims: Claims{"GITHUB_REF": "\xff", "GITHUB_RUN_ID": "7"}}, Claims{"GITHUB_RUN_ID": "7"}},
		"other name":    {Started{Claims: Claims{"GITHUB_TOKEN": "x", "GITHUB_RUN_ID": "7"}}, Claims{"GITHUB_RUN_ID": "7"}},
		"half a token":  {Started{Claims: Claims{"GITHUB_RUN_ID": "7"}, IDToken: &IDToken{URL: "https://x"}}, Claims{"GITHUB_RUN_ID": "7"}},
		"line in token": {Started{Claims: Claims{"GITHUB_RUN_ID": "7"}, IDToken: &IDToken{URL: "https://x", Token: secret.New("a\nb")}}, Claims{"GITHUB_RUN_ID": "7"}},
		"largest":       {full, full.Claims},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &handler{}
			if err := (Client{Path: serve(t, &Server{Handler: h, Check: anyone})}).Started(t.Context(), tc.in); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, h.started.Claims); d != "" || (h.started.IDToken != nil) != (name == "largest") {
				t.Errorf("token %v, %s", h.started.IDToken, d)
			}
		})
	}
	spoiled := &spoils{}
	c := Client{Path: serve(t, &Server{Handler: &handler{}, Check: anyone, Spoiled: spoiled.add})}
	err := c.Started(t.Context(), Started{})
	_, statusErr := c.Status(t.Context()) // behind it, so that it has ended
	if !errors.Is(err, refusal.ErrMalformed) || statusErr != nil || spoiled.count() != 1 {
		t.Errorf("knocked with nothing: %v, %v, spoiled %d times", err, statusErr, spoiled.count())
	}
}

func TestStallingPeerIsCutOff(t *testing.T) {
	t.Parallel()
	path := serve(t, &Server{Handler: &handler{}, Check: anyone, ReadTimeout: 20 * time.Millisecond})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := (Client{Path: path}).Status(t.Context()); err != nil { // waits behind the stalling one
		t.Fatal(err)
	}
}

func TestClientGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	c := Client{Path: serve(t, &Server{Handler: &handler{wait: 200 * time.Millisecond}, Check: anyone})}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Attest(ctx, goodAttest()); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	path := serve(t, &Server{Handler: &handler{}, Check: anyone})
	for name, body := range map[string]string{
		"not JSON":          `hello`,
		"no version":        `{"op":"status"}`,
		"next version":      `{"v":2,"op":"status"}`,
		"no op":             `{"v":1}`,
		"unknown op":        `{"v":1,"op":"sign"}`,
		"unknown key":       `{"v":1,"op":"status","digest":"00"}`,
		"duplicate key":     `{"v":1,"op":"status","op":"attest"}`,
		"trailing":          `{"v":1,"op":"status"}{}`,
		"body missing":      `{"v":1,"op":"attest"}`,
		"body null":         `{"v":1,"op":"attest","attest":null}`,
		"other body":        `{"v":1,"op":"status","attest":{"workspace":"/w","paths":["a"]}}`,
		"two bodies":        `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"]},"started":{"claims":{"GITHUB_REF":"r"}}}`,
		"no claims":         `{"v":1,"op":"started","started":{"claims":{}}}`,
		"foreign claim":     `{"v":1,"op":"started","started":{"claims":{"GITHUB_TOKEN":"x"}}}`,
		"unused claim":      `{"v":1,"op":"started","started":{"claims":{"GITHUB_HEAD_REF":"x"}}}`,
		"claims to attest":  `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"],"claims":{"GITHUB_JOB":"b"}}}`,
		"long claim":        `{"v":1,"op":"started","started":{"claims":{"GITHUB_REF":"` + strings.Repeat("a", 1025) + `"}}}`,
		"blank in token":    `{"v":1,"op":"started","started":{"claims":{"GITHUB_REF":"r"},"idToken":{"url":"https://x","token":"x y"}}}`,
		"long token":        `{"v":1,"op":"started","started":{"claims":{"GITHUB_REF":"r"},"idToken":{"url":"https://x","token":"` + strings.Repeat("a", 16385) + `"}}}`,
		"long URL":          `{"v":1,"op":"started","started":{"claims":{"GITHUB_REF":"r"},"idToken":{"url":"` + strings.Repeat("a", 4097) + `","token":"x"}}}`,
		"claim newline":     `{"v":1,"op":"started","started":{"claims":{"GITHUB_REF":"a\nb"}}}`,
		"token without URL": `{"v":1,"op":"started","started":{"claims":{"GITHUB_REF":"r"},"idToken":{"url":"","token":"x"}}}`,
		"nothing to attest": `{"v":1,"op":"attest","attest":{"workspace":"/w"}}`,
		"relative space":    `{"v":1,"op":"attest","attest":{"workspace":"w","paths":["a"]}}`,
		"empty path":        `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":[""]}}`,
		"newline in path":   `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a\nb"]}}`,
		"zero in path":      `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a\u0000b"]}}`,
		"newline in name":   `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"],"name":"x\ny"}}`,
		"invalid UTF-8":     "{\"v\":1,\"op\":\"attest\",\"attest\":{\"workspace\":\"/w\",\"paths\":[\"a\xff\"]}}",
		"1025 paths":        `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"` + strings.Repeat(`,"a"`, 1024) + `]}}`,
		"long path":         `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["` + strings.Repeat("a", 4097) + `"]}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := raw(t, path, []byte(body))
			var out Attested
			if err := parseReply(answer, &out); !errors.Is(err, refusal.ErrNotVerified) {
				t.Fatalf("got %v for %s", err, answer)
			}
		})
	}
}

func TestFrameLimits(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		frame []byte
		ok    bool
	}{
		"empty":     {frame: []byte{0, 0, 0, 0}},
		"largest":   {frame: append([]byte{0, 1, 0, 0}, make([]byte, MaxFrame)...), ok: true},
		"too large": {frame: append([]byte{0, 1, 0, 1}, make([]byte, MaxFrame+1)...)},
		"huge":      {frame: []byte{0xff, 0xff, 0xff, 0xff}},
		"cut":       {frame: []byte{0, 0, 0, 5, 'a'}},
		"cut head":  {frame: []byte{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := readFrame(bytes.NewReader(tc.frame)); (err == nil) != tc.ok {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestWire holds the bytes of the contract. They never change; another shape is version 2.
func TestWire(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in   request
		want string
	}{
		"started": {request{V: 1, Op: opStarted, Started: goodStarted().wire()},
			`{"v":1,"op":"started","started":{"claims":{"GITHUB_RUN_ID":"7","RUNNER_NAME":"host-1-2"},"idToken":{"url":"https://token.example/x","token":"t0ken"}}}`},
		"attest": {request{V: 1, Op: opAttest, Attest: &Attest{Workspace: "/w", Paths: []string{"a"}}},
			`{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"]}}`},
		"status": {request{V: 1, Op: opStatus}, `{"v":1,"op":"status"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := encodeRequest(tc.in)
			if err != nil || string(got) != tc.want {
				t.Fatalf("got %s, %v", got, err)
			}
			if _, err := parseRequest(got); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestBadReplies(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"empty":          `{}`,
		"null":           `{"ok":null}`,
		"not an object":  `{"ok":1}`,
		"both":           `{"ok":{"phase":"x","responses":0},"refusal":{"code":"policy","link":"l","want":"w","got":"","next":""}}`,
		"unknown code":   `{"refusal":{"code":"nope","link":"l","want":"w","got":"","next":""}}`,
		"empty refusal":  `{"refusal":{"code":"policy","link":"","want":"","got":"","next":""}}`,
		"unknown in ok":  `{"ok":{"phase":"x","responses":0,"key":1}}`,
		"duplicate":      `{"ok":{"phase":"x","phase":"y","responses":0}}`,
		"trailing":       `{"ok":{"phase":"x","responses":0}} 1`,
		"wrong type":     `{"ok":{"phase":1}}`,
		"unknown member": `{"error":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out Status
			if err := parseReply([]byte(body), &out); err == nil {
				t.Fatal("accepted")
			}
		})
	}
}

func TestSubjectsAreCutToFit(t *testing.T) {
	t.Parallel()
	a := Attested{Bundle: "b", SubjectCount: 1024}
	for i := range 1024 {
		a.Subjects = append(a.Subjects, Subject{Name: fmt.Sprintf("artifact-%04d-%s", i, strings.Repeat("x", 40)), Digest: strings.Repeat("0", 64)})
	}
	frame, err := encodeReply(a, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got Attested
	if err := parseReply(frame, &got); err != nil {
		t.Fatal(err)
	}
	if len(frame) > MaxFrame || len(got.Subjects) == 0 || len(got.Subjects) >= 1024 || got.SubjectCount != 1024 {
		t.Fatalf("%d bytes, %d subjects of %d", len(frame), len(got.Subjects), got.SubjectCount)
	}
}

func TestLongRefusalFits(t *testing.T) {
	t.Parallel()
	frame, err := encodeReply(nil, &refusal.Refusal{Link: "l", Code: refusal.Policy, Want: "w", Got: strings.Repeat("<", 1<<20)})
	if err != nil || len(frame) > MaxFrame {
		t.Fatalf("%d bytes, %v", len(frame), err)
	}
}

func raw(t *testing.T, path string, body []byte) []byte {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if _, err := conn.Write(append(frame, body...)); err != nil {
		t.Fatal(err)
	}
	answer, err := readFrame(conn)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}
