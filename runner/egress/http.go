// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync"
	"time"
)

// maxHeader bounds the header of a request and of an answer, in bytes.
const maxHeader = 64 << 10

// web carries HTTP/1 in the clear: it reads each request, demands that it is for the flow's host, and makes it anew. One
// server serves all flows; it listens to what carry gives it.
type web struct {
	gate   *Gate
	server *http.Server
	conns  chan net.Conn
	done   chan struct{}
	once   sync.Once
}

func newWeb(g *Gate) *web {
	w := &web{gate: g, conns: make(chan net.Conn), done: make(chan struct{})}
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.server = &http.Server{
		ReadHeaderTimeout: g.config.Limits.Hello, IdleTimeout: g.config.Limits.Idle, MaxHeaderBytes: maxHeader, ErrorLog: quiet,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, requestsKey{}, c) },
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(requestsKey{}).(*requests); ok {
				c.ServeHTTP(rw, r)
			}
		}),
	}
	return w
}

type requestsKey struct{}

// serve serves until close.
func (w *web) serve() { _ = w.server.Serve(w) }

func (w *web) close() { _ = w.server.Close() }

// Accept implements [net.Listener].
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (w *web) Close() error {
	w.once.Do(func() { close(w.done) })
	return nil
}

// Addr implements [net.Listener].
func (w *web) Addr() net.Addr { return w.gate.gateway.Connections.Addr() }

// carry implements handler.
func (w *web) carry(ctx context.Context, f *flow) {
	if err := f.client.SetDeadline(time.Time{}); err != nil {
		return
	}
	limits := w.gate.config.Limits
	ctx, cancel := context.WithCancel(ctx) // of connecting too, which the transport would let outlive its request
	defer cancel()
	c := &requests{Conn: f.client, gate: w.gate, flow: f, done: make(chan struct{}), count: w.gate.ledger.allow(f.site)}
	c.idle = time.AfterFunc(limits.Idle, func() { abort(f.client) })
	defer c.idle.Stop()
	c.transport = &http.Transport{
		DialContext:        func(context.Context, string, string) (net.Conn, error) { return w.gate.connect(ctx, f) },
		DisableCompression: true, MaxIdleConnsPerHost: 1, MaxResponseHeaderBytes: maxHeader, IdleConnTimeout: limits.Idle,
	}
	defer c.transport.CloseIdleConnections()
	select {
	case w.conns <- c:
	case <-ctx.Done():
		return
	}
	<-c.done
	settle(ctx, f.client, limits.Idle)
	_ = f.client.Close()
}

// requests is the sandbox's side of a flow of HTTP requests: it counts what is carried and watches that it is not idle.
type requests struct {
	net.Conn
	gate      *Gate
	flow      *flow
	transport *http.Transport
	count     account
	idle      *time.Timer
	done      chan struct{} // closed when the server has done with it
	once      sync.Once
}

// Read implements [net.Conn].
func (c *requests) Read(p []byte) (n int, err error) {
	if len(c.flow.first) > 0 {
		n = copy(p, c.flow.first)
		c.flow.first = c.flow.first[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 && !c.spend(n, true) {
		return 0, errBudget
	}
	return n, err
}

// Write implements [net.Conn].
func (c *requests) Write(p []byte) (int, error) {
	if !c.spend(len(p), false) {
		return 0, errBudget
	}
	return c.Conn.Write(p)
}

func (c *requests) spend(n int, sent bool) bool {
	c.idle.Reset(c.gate.config.Limits.Idle)
	if c.count.spend(n, sent) {
		return true
	}
	c.gate.ledger.deny(c.flow.site, OverBudget)
	abort(c.Conn)
	return false
}

// Close implements [net.Conn]. The connection is closed where it was opened.
func (c *requests) Close() error {
	c.once.Do(func() { close(c.done) })
	return nil
}

// ServeHTTP implements [http.Handler].
func (c *requests) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	reason, status := Reason(""), 0
	switch {
	case r.Method == http.MethodConnect || r.Header.Get("Upgrade") != "":
		reason, status = Tunnel, http.StatusNotImplemented
	case r.ProtoMajor != 1 || r.URL.IsAbs() && r.URL.Scheme != "http":
		reason, status = NoRequest, http.StatusBadRequest
	case !c.isFor(r.Host):
		reason, status = OtherHost, http.StatusMisdirectedRequest
	}
	if reason != "" {
		c.gate.ledger.deny(c.flow.site, reason)
		rw.Header().Set("Connection", "close")
		http.Error(rw, "refused: "+string(reason), status)
		return
	}
	c.proxy().ServeHTTP(rw, r)
}

// authority is the host as a request names it.
func (c *requests) authority() string {
	if c.flow.port == portHTTP {
		return c.flow.host
	}
	return net.JoinHostPort(c.flow.host, strconv.Itoa(int(c.flow.port)))
}

// isFor compares the Host of a request, whose letters may be of either case: what is sent on is spelt by the gate.
func (c *requests) isFor(host string) bool {
	host = strings.ToLower(host)
	return host == c.flow.host || host == net.JoinHostPort(c.flow.host, strconv.Itoa(int(c.flow.port)))
}

// proxy sends a request to the flow's host and brings the answer.
func (c *requests) proxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: c.transport, FlushInterval: -1, ErrorLog: c.gate.web.server.ErrorLog,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", c.authority(), c.authority()
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it was, not as it was understood
		},
		ModifyResponse: func(answer *http.Response) error {
			if answer.StatusCode == http.StatusSwitchingProtocols {
				c.gate.ledger.deny(c.flow.site, Tunnel)
				return errors.New("the host changes the protocol")
			}
			return nil
		},
		ErrorHandler: func(rw http.ResponseWriter, _ *http.Request, _ error) {
			rw.Header().Set("Connection", "close")
			rw.WriteHeader(http.StatusBadGateway)
		},
	}
}
