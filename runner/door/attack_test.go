// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// TestAttackFlood knocks as fast as a few processes can. Only as many are looked at as the pace allows, and whoever comes
// afterwards is answered.
func TestAttackFlood(t *testing.T) {
	t.Parallel()
	const every, burst = 20 * time.Millisecond, 5
	var looked atomic.Int64
	begin := time.Now()
	path := serve(t, &Server{Handler: &handler{}, Every: every, Burst: burst, Check: func(context.Context, Peer) error {
		looked.Add(1)
		return nil
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() {
			for ctx.Err() == nil {
				_, _ = Client{Path: path}.Status(ctx)
			}
		})
	}
	flood.Wait()
	allowed := burst + int64(time.Since(begin)/every) + 1
	if n := looked.Load(); n > allowed || n < burst {
		t.Errorf("%d knocks were looked at, %d are allowed", n, allowed)
	}
	if _, err := (Client{Path: path}).Status(t.Context()); err != nil {
		t.Errorf("after the flood: %v", err)
	}
}

// TestAttackHalfOpen keeps connections open that send nothing, half a frame, or a byte now and then. None of them keeps
// kettled longer than the time to send a request.
func TestAttackHalfOpen(t *testing.T) {
	t.Parallel()
	path := serve(t, &Server{Handler: &handler{}, Check: anyone, ReadTimeout: 30 * time.Millisecond})
	for i := range 15 {
		conn := knock(t, path, framed(startedBody)[:(i%3)*8])
		if i%3 == 2 {
			go drip(conn)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := (Client{Path: path}).Status(ctx); err != nil {
		t.Errorf("behind half-open connections: %v", err)
	}
}

// drip writes a request that never ends until the connection does.
func drip(conn net.Conn) {
	for {
		time.Sleep(5 * time.Millisecond)
		if _, err := conn.Write([]byte{' '}); err != nil {
			return
		}
	}
}

// TestAttackSlowRead asks for the largest reply again and again and never reads it.
func TestAttackSlowRead(t *testing.T) {
	t.Parallel()
	a := Attested{SubjectCount: 512}
	for range 512 {
		a.Subjects = append(a.Subjects, Subject{Name: strings.Repeat("x", 40), Digest: strings.Repeat("0", 64)})
	}
	path := serve(t, &Server{Handler: &handler{attested: a}, Check: anyone, Every: time.Millisecond})
	for range 20 {
		knock(t, path, framed(`{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"]}}`))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := (Client{Path: path}).Status(ctx); err != nil {
		t.Errorf("behind peers that do not read: %v", err)
	}
}

// TestAttackPassedDescriptors sends open files along with a request. kettled keeps none of them.
func TestAttackPassedDescriptors(t *testing.T) {
	t.Parallel()
	path := serve(t, &Server{Handler: &handler{}, Check: anyone})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn := knock(t, path, nil)
	rights := syscall.UnixRights(int(w.Fd()), int(w.Fd()), int(w.Fd()))
	if _, _, err := conn.WriteMsgUnix(framed(`{"v":1,"op":"status"}`), rights, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := readFrame(conn); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("somebody still holds the file: %v", err)
	}
}

// TestAttackForgedRequest asks for what the door does not offer: a signature over a digest of the job's choice, another
// identity, another workflow.
func TestAttackForgedRequest(t *testing.T) {
	t.Parallel()
	h := &handler{}
	path := serve(t, &Server{Handler: h, Check: anyone, Burst: 100})
	digest := strings.Repeat("ab", 32)
	for name, body := range map[string]string{
		"sign":               `{"v":1,"op":"sign","digest":"` + digest + `"}`,
		"quote":              `{"v":1,"op":"quote","reportData":"` + digest + digest + `"}`,
		"subjects":           `{"v":1,"op":"attest","attest":{"workspace":"/w","subjects":[{"name":"a","digest":"` + digest + `"}]}}`,
		"digests":            `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"],"digests":{"a":"` + digest + `"}}}`,
		"predicate":          `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"],"predicate":{"buildType":"x"}}}`,
		"identity":           `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"],"repository":"acme/other"}}`,
		"second body":        `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"]},"attest":{"workspace":"/w","paths":["b"]}}`,
		"second body folded": `{"v":1,"op":"attest","attest":{"workspace":"/w","paths":["a"]},"ATTEST":{"workspace":"/w","paths":["b"]}}`,
		"long s":             `{"v":1,"op":"status","op":"attest","atteſt":{"workspace":"/w","paths":["b"]}}`,
	} {
		if err := parseReply(raw(t, path, []byte(body)), &Attested{}); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h.attest.Workspace != "" || h.started.Claims != nil {
		t.Errorf("a forged request was handled: %+v", h.attest)
	}
}

// TestAttackHugeFrame announces more than a frame holds. It is refused before room is made for it.
func TestAttackHugeFrame(t *testing.T) {
	t.Parallel()
	path := serve(t, &Server{Handler: &handler{}, Check: anyone, ReadTimeout: 100 * time.Millisecond})
	answer, err := readFrame(knock(t, path, []byte{0x10, 0, 0, 0, '{'}))
	if err != nil {
		t.Fatal(err)
	}
	if err := parseReply(answer, &Status{}); !errors.Is(err, refusal.ErrMalformed) {
		t.Errorf("got %v", err)
	}
}

// TestAttackBorrowedProcess has a process connect, hand its connection to a child and end, so that its id is free for
// another process when kettled looks at it. The check of the owner is fooled here by design: it says yes to that id.
func TestAttackBorrowedProcess(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"gone while it is checked": false, "gone before it is looked at": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "door") //nolint:usetesting // t.TempDir may exceed the 108 bytes of a socket's path.
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			path := filepath.Join(dir, "s")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err != nil {
				t.Fatal(err)
			}
			checking, gone := make(chan struct{}, 8), make(chan struct{})
			h, told := &handler{}, &spoils{}
			s := &Server{Handler: h, Spoiled: told.add, Check: func(context.Context, Peer) error {
				checking <- struct{}{}
				<-gone
				return nil
			}}
			if late {
				borrow(t, path)
				close(gone)
				start(t, s, l)
			} else {
				start(t, s, l)
				wait := borrowing(t, path)
				<-checking
				wait()
				close(gone)
			}
			if _, err := (Client{Path: path}).Status(t.Context()); err != nil { // behind it, so that it has ended
				t.Fatal(err)
			}
			if h.started.Claims != nil || told.count() != 1 {
				t.Errorf("a process that is gone was heard: %v, told %v", h.started.Claims, told.errs)
			}
		})
	}
}

// start serves until the test ends.
func start(t *testing.T, s *Server, l *net.UnixListener) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func borrow(t *testing.T, path string) { borrowing(t, path)() }

// borrowing starts a process that sends a request, leaves its connection to a child and ends; the returned function waits
// for it, after which its id is free.
func borrowing(t *testing.T, path string) func() {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), lender+"="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }) // the child that holds the connection
	return func() {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

// lender names the variable that makes this program a process which leaves its connection to a child.
const lender = "KETTLE_DOOR_LENDER"

// lend sends a request, leaves the connection to a child and returns.
func lend(path string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	if _, err := conn.Write(framed(startedBody)); err != nil {
		return err
	}
	file, err := conn.File()
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "20") //nolint:noctx // it outlives this program.
	cmd.ExtraFiles = []*os.File{file}
	return cmd.Start()
}
