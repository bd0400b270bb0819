// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// errBudget ends a connection that would carry more than the gate may.
var errBudget = errors.New("byte budget used up")

// splice carries bytes both ways until both sides have finished or one fails. hello goes first.
func (g *Gate) splice(client, upstream net.Conn, hello []byte, count account) {
	l := &line{ends: [2]net.Conn{client, upstream}, idle: g.config.Limits.Idle}
	var both sync.WaitGroup
	var sendErr, receiveErr error
	both.Go(func() {
		sendErr = l.copy(upstream, client, hello, func(n int) bool { return count.spend(n, true) })
	})
	both.Go(func() {
		receiveErr = l.copy(client, upstream, nil, func(n int) bool { return count.spend(n, false) })
	})
	both.Wait()
	if errors.Is(sendErr, errBudget) || errors.Is(receiveErr, errBudget) {
		g.ledger.deny(count.entry.Host, OverBudget)
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
		_ = c.Close()
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
