// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// Handler answers requests. An error that holds a [refusal.Refusal] is sent as that refusal. Any other error is logged
// and the connection closed without a word, so that nothing of kettled's inside reaches the sandbox. ctx ends when the
// peer goes away, with a cause that says so: a handler that has not decided then must not decide any more.
type Handler interface {
	// Started is called when the started hook of the job runs; nil lets the job go on.
	Started(ctx context.Context, s Started) error
	// Attest is called when a step asks for files to be attested.
	Attest(ctx context.Context, a Attest) (Attested, error)
	// Status is called when someone asks for the state.
	Status(ctx context.Context) (Status, error)
}

// Default times of the server.
const (
	defaultReadTimeout = 5 * time.Second
	writeTimeout       = 10 * time.Second
)

// Server is kettled's side of the door. Handler and Check are required.
type Server struct {
	Handler Handler
	// Check says whether this process may knock: membership of the sandbox's cgroup. An error refuses it.
	Check func(ctx context.Context, p Peer) error
	// ReadTimeout bounds how long a peer may take to send its whole request; zero means five seconds.
	ReadTimeout time.Duration
	// Every is the time after which one more connection is taken, once Burst of them came in a row; zero means 50
	// milliseconds and 32. Whoever comes faster waits in the listener's queue, and kettled has work of its own to do.
	Every time.Duration
	Burst int
	// Spoiled, when not nil, is told of every connection that did not end in the reply to a well-formed request: the peer
	// could not be recognised, did not send a whole request or a malformed one, went away before the reply, or the handler
	// gave none. The socket stands in the sandbox alone, so whoever spoils a request there is of the sandbox. It is called
	// by Serve before the next connection is taken, and not when Serve's own context has ended.
	Spoiled func(ctx context.Context, err error)
	// Log gets what went wrong; nil discards. No content of a request is ever logged.
	Log *slog.Logger
}

// Serve answers one request at a time, at a bounded pace, until ctx ends, which is no error. It closes the listener.
// While a request is handled others wait in the listener's queue.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	if s.Handler == nil || s.Check == nil {
		return errors.New("serving the door: handler and peer check are required")
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close() //nolint:errcheck // closed twice on the way out.
	p := pace{every: positive(s.Every, defaultEvery), burst: positive(s.Burst, defaultBurst)}
	for p.wait(ctx) {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil // the end that was asked for
			}
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accepting at the door: %w", err)
			}
			s.log().WarnContext(ctx, "accepting at the door", slog.Any("error", err)) // of this machine's making, and for a while
			continue
		}
		s.serve(ctx, conn)
	}
	return nil
}

// serve handles one connection and tells its owner when that was for nothing.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close() //nolint:errcheck // the reply is written; nothing is left to lose.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := s.converse(ctx, conn)
	if err == nil || ctx.Err() != nil {
		return
	}
	if len(refusal.All(err)) == 0 { // a refusal may quote what a peer sent
		s.log().WarnContext(ctx, "door request ended in an error", slog.Any("error", err))
	}
	if s.Spoiled != nil {
		s.Spoiled(ctx, err)
	}
}

// converse goes from the peer check to the reply. It returns nil when a request was understood and answered, with a
// refusal of the handler too.
func (s *Server) converse(ctx context.Context, conn *net.UnixConn) error {
	var refused *refusal.Refusal
	r, err := s.request(ctx, conn)
	if err != nil {
		if errors.As(err, &refused) {
			err = errors.Join(err, answer(conn, nil, refused))
		}
		return err
	}
	ok, err := s.handle(ctx, conn, r)
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	return answer(conn, ok, refused)
}

// answer writes the reply.
func answer(conn *net.UnixConn, ok any, refused *refusal.Refusal) error {
	frame, err := encodeReply(ok, refused)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("setting the deadline: %w", err)
	}
	return writeFrame(conn, frame)
}

// request checks the peer and reads its request.
func (s *Server) request(ctx context.Context, conn *net.UnixConn) (*request, error) {
	peer, err := peerOf(conn)
	if err != nil {
		return nil, err
	}
	defer peer.close()
	if err := peer.check(func(p Peer) error { return s.Check(ctx, p) }); err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(time.Now().Add(positive(s.ReadTimeout, defaultReadTimeout))); err != nil {
		return nil, fmt.Errorf("setting the deadline: %w", err)
	}
	if ctx.Err() != nil { // the deadline above may have undone that of the context's end
		return nil, fmt.Errorf("reading a request: %w", ctx.Err())
	}
	data, err := readFrame(conn)
	if errors.Is(err, errFrameSize) {
		return nil, malformed(errFrameSize.Error(), "another length").Because(err)
	}
	if err != nil {
		return nil, err
	}
	return parseRequest(data)
}

// Why a handler's context ends before the server's.
var (
	errGone   = errors.New("the peer went away before the reply")
	errSecond = errors.New("the peer sent more than one request")
)

// handle calls the handler, whose context ends when the peer goes away. Then there is nobody to reply to.
func (s *Server) handle(ctx context.Context, conn *net.UnixConn, r *request) (any, error) {
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("setting the deadline: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan error, 1)
	go func() {
		err := watch(conn)
		if err != nil {
			cancel(err)
		}
		watched <- err
	}()
	ok, err := s.dispatch(ctx, r)
	_ = conn.SetReadDeadline(time.Unix(1, 0)) // ends the watch; where it fails, so has the read
	if gone := <-watched; gone != nil {
		return nil, fmt.Errorf("answering %s: %w", r.Op, gone)
	}
	return ok, err
}

// watch returns when the peer hangs up or sends something, or nil when the read deadline passes.
func watch(conn *net.UnixConn) error {
	n, err := conn.Read(make([]byte, 1))
	switch {
	case n > 0:
		return errSecond
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return errGone
}

func (s *Server) dispatch(ctx context.Context, r *request) (any, error) {
	switch r.Op {
	case opStarted:
		return struct{}{}, s.Handler.Started(ctx, r.Started.value())
	case opAttest:
		return s.Handler.Attest(ctx, *r.Attest)
	case opStatus:
		return s.Handler.Status(ctx)
	}
	return nil, malformed("op started, attest or status", "another")
}

// positive gives v, or the default where there is none.
func positive[T int | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}
