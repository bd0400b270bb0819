// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// exchange is one request that is answered, or not.
type exchange struct {
	handler *Handler
	armed   *Armed // nil: no rule acts
	w       http.ResponseWriter
	r       *http.Request
	service string
}

// until returns a context that ends with the client and the rule.
func (x *exchange) until() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(x.r.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-x.armed.removed:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-watched }
}

// pass lets the server answer. A partition that begins meanwhile cuts the connection.
func (x *exchange) pass() {
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	cut := make(chan struct{})
	f := &flight{service: x.service, cut: sync.OnceFunc(func() { close(cut); cancel() })}
	h := x.handler
	if !h.depart(f) {
		x.reset()
		return
	}
	w := &severable{ResponseWriter: x.w, cut: cut}
	h.server.ServeHTTP(w, x.r.WithContext(ctx))
	h.land(f)
	if w.severed() {
		x.reset()
	}
}

// severable is a response that comes to nothing once it is cut.
type severable struct {
	http.ResponseWriter
	cut chan struct{}
}

var errCut = errors.New("the connection is cut")

func (s *severable) severed() bool {
	select {
	case <-s.cut:
		return true
	default:
		return false
	}
}

// WriteHeader implements [http.ResponseWriter].
func (s *severable) WriteHeader(status int) {
	if !s.severed() {
		s.ResponseWriter.WriteHeader(status)
	}
}

// Write implements [http.ResponseWriter].
func (s *severable) Write(p []byte) (int, error) {
	if s.severed() {
		return 0, errCut
	}
	return s.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] reach the real writer.
func (s *severable) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// captured is an answer that was not sent.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements [http.ResponseWriter].
func (c *captured) Header() http.Header { return c.header }

// WriteHeader implements [http.ResponseWriter].
func (c *captured) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

// Write implements [http.ResponseWriter].
func (c *captured) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(p)
}

// capture lets the server answer and keeps the answer.
func (x *exchange) capture() *captured {
	out := &captured{header: http.Header{}}
	x.handler.server.ServeHTTP(out, x.r)
	out.WriteHeader(http.StatusOK)
	return out
}

// head sends status and headers of an answer that has length bytes.
func (x *exchange) head(c *captured, length int) {
	for name, values := range c.header {
		x.w.Header()[name] = values
	}
	if c.status != http.StatusNoContent && c.status != http.StatusNotModified {
		x.w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	x.w.WriteHeader(c.status)
}

// drip sends an answer a byte at a time.
func (x *exchange) drip(c *captured, every time.Duration) {
	ctx, cancel := x.until()
	defer cancel()
	x.head(c, c.body.Len())
	flush := http.NewResponseController(x.w)
	for _, b := range c.body.Bytes() {
		if flush.Flush() != nil || x.handler.wait(ctx, every) != nil {
			x.reset()
			return
		}
		if _, err := x.w.Write([]byte{b}); err != nil {
			return
		}
	}
}

// reset ends the connection so that the client sees a reset where the transport can say so.
func (x *exchange) reset() {
	conn := x.sever()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // without it the client sees an orderly end
	}
	_ = conn.Close()
}

// end ends the connection in order: what was sent arrives.
func (x *exchange) end() {
	_ = x.sever().Close()
}

// sever takes the connection from net/http, below TLS.
func (x *exchange) sever() net.Conn {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the way net/http has to end an exchange it cannot hand over (HTTP/2)
	}
	if secured, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return secured.NetConn()
	}
	return conn
}
