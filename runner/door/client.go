// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Errors of the client's side. A refusal of kettled is a [refusal.Refusal] and none of these.
var (
	// ErrNoDoor means that no kettled listens: this is not an attested runner.
	ErrNoDoor = errors.New("no door of kettled")
	// ErrNoAnswer means that kettled hung up without a word; its journal says why.
	ErrNoAnswer = errors.New("kettled gave no answer")

	errReplyShape = errors.New("neither one ok nor one complete refusal")
	errFrameSize  = fmt.Errorf("a frame holds 1 to %d bytes", MaxFrame)
)

// Times that the client waits when its context sets no earlier deadline. Attesting includes hashing every output while
// the sandbox, and this client with it, is frozen.
const (
	dialTimeout   = 5 * time.Second
	statusTimeout = 15 * time.Second
	startTimeout  = 3 * time.Minute // more than kettled takes to dispatch a job
	attestTimeout = 30 * time.Minute
)

// Client is the sandbox's side of the door.
type Client struct {
	Path string // of the socket; [SocketPath] in a sandbox
}

// Started tells kettled that the started hook runs and waits for its yes. It knocks whatever s holds: a claim or an ID
// token that the door cannot carry is left out, since kettled checks every claim against GitHub anyway.
func (c Client) Started(ctx context.Context, s Started) error {
	var ok struct{}
	return c.do(ctx, startTimeout, request{V: Version, Op: opStarted, Started: s.carried().wire()}, &ok)
}

// Attest asks for files to be attested and waits until that is done.
func (c Client) Attest(ctx context.Context, a Attest) (*Attested, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	var ok Attested
	if err := c.do(ctx, attestTimeout, request{V: Version, Op: opAttest, Attest: &a}, &ok); err != nil {
		return nil, err
	}
	return &ok, nil
}

// Status asks for the state of the environment.
func (c Client) Status(ctx context.Context) (*Status, error) {
	var ok Status
	if err := c.do(ctx, statusTimeout, request{V: Version, Op: opStatus}, &ok); err != nil {
		return nil, err
	}
	return &ok, nil
}

// do sends one request over a connection of its own and decodes the reply into out.
func (c Client) do(ctx context.Context, limit time.Duration, r request, out any) error {
	data, err := encodeRequest(r)
	if err != nil {
		return err
	}
	if len(data) > MaxFrame {
		return malformed(fmt.Sprintf("a request of at most %d bytes", MaxFrame), fmt.Sprintf("%d bytes", len(data)))
	}
	conn, err := dial(ctx, c.Path)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return fmt.Errorf("talking to kettled: %w", err)
	}
	answer, err := exchange(conn, data)
	if ctx.Err() != nil {
		return fmt.Errorf("talking to kettled: %w", ctx.Err())
	}
	if err != nil {
		return err
	}
	return parseReply(answer, out)
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR) {
			return nil, fmt.Errorf("opening %s: %w", path, ErrNoDoor)
		}
		return nil, fmt.Errorf("talking to kettled: %w", err)
	}
	return conn, nil
}

// exchange writes one frame and reads one. A refused peer is answered before its request is read, so a failure to write
// still leaves an answer to read.
func exchange(conn net.Conn, data []byte) ([]byte, error) {
	writeErr := writeFrame(conn, data)
	answer, err := readFrame(conn)
	switch {
	case err == nil:
		return answer, nil
	case writeErr != nil:
		return nil, fmt.Errorf("talking to kettled: %w", writeErr)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return nil, fmt.Errorf("talking to kettled: %w", ErrNoAnswer)
	default:
		return nil, fmt.Errorf("talking to kettled: %w", err)
	}
}
