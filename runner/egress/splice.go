// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errBudget ends a connection that would carry more than the gate may.
var errBudget = errors.New("byte budget used up")

// splice carries bytes both ways until both sides have finished or one fails, and closes both ends. What was read of the
// client goes first.
func (g *Gate) splice(ctx context.Context, f *flow, upstream net.Conn) {
	defer abort(upstream)
	stop := context.AfterFunc(ctx, func() { abort(upstream) })
	defer stop()
	count := g.ledger.allow(f.site)
	l := &line{ends: [2]net.Conn{f.client, upstream}, idle: g.config.Limits.Idle}
	var both sync.WaitGroup
	var sendErr, receiveErr error
	both.Go(func() {
		sendErr = l.copy(upstream, f.client, f.first, func(n int) bool { return count.spend(n, true) })
	})
	both.Go(func() {
		receiveErr = l.copy(f.client, upstream, nil, func(n int) bool { return count.spend(n, false) })
	})
	both.Wait()
	switch {
	case errors.Is(sendErr, errBudget) || errors.Is(receiveErr, errBudget):
		g.ledger.deny(f.site, OverBudget)
	case sendErr == nil && receiveErr == nil:
		for _, end := range l.ends {
			settle(ctx, end, l.idle)
			_ = end.Close()
		}
	}
}

// line is a pair of connections that are idle or busy together.
type line struct {
	ends [2]net.Conn
	idle time.Duration
}

// busy gives both ends a new deadline.
func (l *line) busy() {
	at := time.Now().Add(l.idle)
	for _, c := range l.ends {
		_ = c.SetDeadline(at)
	}
}

// cut ends both directions.
func (l *line) cut() {
	for _, c := range l.ends {
		abort(c)
	}
}

// copy carries first and then all of from, and hands the end of the stream on: the other direction may still be used.
// Any error ends both.
func (l *line) copy(to, from net.Conn, first []byte, spend func(int) bool) (err error) {
	defer func() {
		if err != nil {
			l.cut()
		}
	}()
	buf := make([]byte, 64<<10)
	pass := func(p []byte) error {
		if len(p) == 0 {
			return nil
		}
		if !spend(len(p)) {
			return errBudget
		}
		l.busy()
		_, err := to.Write(p)
		return err
	}
	l.busy()
	if err := pass(first); err != nil {
		return err
	}
	for {
		n, readErr := from.Read(buf)
		if err := pass(buf[:n]); err != nil {
			return err
		}
		if errors.Is(readErr, io.EOF) {
			return closeWrite(to)
		}
		if readErr != nil {
			return readErr
		}
	}
}

// closeWrite ends the stream to c. A connection that cannot do half of it is closed by the caller's error.
func closeWrite(c net.Conn) error {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the connection has no halves")
	}
	return half.CloseWrite()
}

// abort closes a connection at once. The kernel keeps nothing of it: what was not sent is lost.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// settle waits until the other side has every byte that was written. A side that never reads would otherwise leave a
// closed connection with full buffers to the kernel, and room for the next one.
func settle(ctx context.Context, c net.Conn, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for wait := time.Millisecond; !settled(c); wait = min(2*wait, 250*time.Millisecond) {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			abort(c)
			return
		}
	}
}

// settled says whether the kernel has nothing left to send. What cannot be asked has nothing.
func settled(c net.Conn) bool {
	conn, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return true
	}
	done := true
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		done = err != nil || info.State == unix.BPF_TCP_CLOSE || info.Unacked == 0 && info.Notsent_bytes == 0
	})
	return done
}
