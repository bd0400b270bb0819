// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// Peer is the process at the other end, as the kernel recorded it when the process connected (SO_PEERCRED, unix(7)).
// PID and UID are those of kettled's own namespaces; the process may be gone by the time they are read.
type Peer struct {
	PID int32
	UID uint32
	GID uint32
}

// Handler answers requests. An error that holds a [refusal.Refusal] is sent as that refusal. Any other error is logged
// and the connection closed without a word, so that nothing of kettled's inside reaches the sandbox.
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
	// ReadTimeout bounds how long a peer may take to send its request; zero means five seconds.
	ReadTimeout time.Duration
	// Log gets what went wrong; nil discards. No content of a request is ever logged.
	Log *slog.Logger
}

// Serve answers one request at a time until ctx ends, which is no error. It closes the listener. While a request is
// handled others wait in the listener's queue.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	if s.Handler == nil || s.Check == nil {
		return errors.New("serving the door: handler and peer check are required")
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close() //nolint:errcheck // closed twice on the way out.
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil // the end that was asked for
			}
			return fmt.Errorf("accepting at the door: %w", err)
		}
		if err := s.serve(ctx, conn); err != nil {
			s.log().WarnContext(ctx, "door request ended in an error", slog.Any("error", err))
		}
	}
}

// serve handles one connection from its peer check to its reply.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) error {
	defer conn.Close() //nolint:errcheck // the reply is written; nothing is left to lose.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	ok, err := s.answer(ctx, conn)
	var refused *refusal.Refusal
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	frame, err := encodeReply(ok, refused)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("setting the deadline: %w", err)
	}
	return writeFrame(conn, frame)
}

// answer checks the peer, reads its request and calls the handler.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn) (any, error) {
	peer, err := peerOf(conn)
	if err != nil {
		return nil, err
	}
	if err := s.Check(ctx, peer); err != nil {
		return nil, refusePeer(err)
	}
	timeout := s.ReadTimeout
	if timeout <= 0 {
		timeout = defaultReadTimeout
	}
	if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("setting the deadline: %w", err)
	}
	if ctx.Err() != nil { // the deadline above may have undone that of the context's end
		return nil, fmt.Errorf("reading a request: %w", ctx.Err())
	}
	data, err := readFrame(conn)
	if err != nil {
		if errors.Is(err, errFrameSize) {
			return nil, malformed(errFrameSize.Error(), "another length").Because(err)
		}
		return nil, err
	}
	r, err := parseRequest(data)
	if err != nil {
		return nil, err
	}
	return s.dispatch(ctx, r)
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

// refusePeer keeps the refusal of a check and turns any other error into one.
func refusePeer(err error) error {
	if len(refusal.All(err)) > 0 {
		return err
	}
	return (&refusal.Refusal{
		Link: link, Code: refusal.Identity, Want: "a process of this environment's sandbox", Got: "another process",
		Next: "call kettle-action from a step of the job.",
	}).Because(err)
}

// peerOf reads the credentials of the process that connected.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return Peer{}, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	return Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}, nil
}

func (s *Server) log() *slog.Logger {
	if s.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Log
}
