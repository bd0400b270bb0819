// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Serve answers and carries until ctx ends, then closes every connection and returns nil when all is over.
func (g *Gate) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = g.gateway.Connections.Close()
		_ = g.gateway.Queries.Close()
	})
	defer stop()
	var around, open sync.WaitGroup
	around.Go(func() { g.serveDatagrams(ctx, g.gateway.Queries) })
	around.Go(g.web.serve)
	g.accept(ctx, &open)
	cancel()
	open.Wait()
	g.web.close() // no connection is left that it could serve
	around.Wait()
	return nil
}

// accept takes connections until ctx ends.
func (g *Gate) accept(ctx context.Context, open *sync.WaitGroup) {
	for g.accepts.Wait(ctx) == nil {
		conn, err := g.gateway.Connections.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				abort(conn)
			}
			return
		case err != nil:
			g.log.WarnContext(ctx, "accepting a connection", slog.Any("error", err))
			if !pause(ctx) {
				return
			}
			continue
		}
		select {
		case g.free <- struct{}{}:
			open.Go(func() {
				defer func() { <-g.free }()
				g.carry(ctx, conn)
			})
		default:
			abort(conn)
			g.ledger.deny(site{}, TooMany)
		}
	}
}

// pause waits a moment before the next try, which lacks a descriptor or memory; false means that ctx has ended.
func pause(ctx context.Context) bool {
	t := time.NewTimer(50 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// flow is one connection of the sandbox to a name.
type flow struct {
	site
	client net.Conn
	first  []byte // what was read from client before the handler
}

// handler carries a connection by the rules of one protocol, to its end. What it refuses it writes down.
type handler interface {
	carry(ctx context.Context, f *flow)
}

// handler gives the one for a protocol. There is none for a protocol that is not known.
func (g *Gate) handler(p Protocol) handler {
	switch p {
	case TLS:
		return byServerName{gate: g}
	case HTTP:
		return g.web
	case TCP:
		return unseen{g}
	case sniffed:
		return bySight{g}
	default:
		return nil
	}
}

// carry serves one connection from its first byte to its last.
func (g *Gate) carry(ctx context.Context, client net.Conn) {
	defer abort(client) // whoever carries it to a good end has closed it before
	stop := context.AfterFunc(ctx, func() { abort(client) })
	defer stop()
	to, ok := client.LocalAddr().(*net.TCPAddr)
	if !ok {
		return
	}
	wanted := netip.AddrPortFrom(to.AddrPort().Addr().Unmap(), to.AddrPort().Port())
	if wanted.Port() == portDNS {
		g.serveQueries(client)
		return
	}
	f, ok := g.admit(wanted)
	if !ok {
		return
	}
	f.client = client
	if h := g.handler(f.protocol); h != nil {
		h.carry(ctx, f)
	}
}

// admit decides by address, name, port and phase.
func (g *Gate) admit(wanted netip.AddrPort) (*flow, bool) {
	where := site{host: wanted.Addr().String(), port: wanted.Port()}
	name, ok := g.names.name(wanted.Addr())
	if !ok {
		g.ledger.deny(where, RawAddress)
		return nil, false
	}
	where.host = name
	if where.protocol, ok = g.config.Rules.protocol(name, where.port, g.dispatched.Load()); !ok {
		g.ledger.deny(where, NotAllowed)
		return nil, false
	}
	return &flow{site: where}, true
}

// connect dials the flow's host; a failure is written down.
func (g *Gate) connect(ctx context.Context, f *flow) (net.Conn, error) {
	upstream, err := g.dial(ctx, f.host, f.port)
	if err != nil && ctx.Err() == nil {
		reason := Unreachable
		if errors.Is(err, errSpecialPurpose) {
			reason = SpecialPurpose
		}
		g.log.DebugContext(ctx, "connecting to a host", slog.String("host", f.host), slog.Any("error", err))
		g.ledger.deny(f.site, reason)
	}
	return upstream, err
}

// unseen carries bytes without looking at them.
type unseen struct{ gate *Gate }

func (u unseen) carry(ctx context.Context, f *flow) {
	f.protocol = Opaque
	upstream, err := u.gate.connect(ctx, f)
	if err != nil {
		return
	}
	u.gate.splice(ctx, f, upstream)
}
