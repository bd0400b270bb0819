// SPDX-License-Identifier: Apache-2.0

// Package egress is the only way out of a sandbox: a gate that carries connections to named hosts and nothing else.
//
// The sandbox has one wire, to a gateway where every packet ends (package gateway). Two sockets are there. One answers
// DNS: for a name that may be reached it makes up an address of its own, and it never asks anybody else. The other takes
// every TCP connection. An address that was made up means the name it was made up for; any other address is refused. The
// rules of the present phase say how that name's port may be used: with TLS whose server name equals the name, with HTTP
// whose every request is for that host, or as bytes. Then kettled connects, from its own network namespace, to an
// address that it looks up itself and that is not one of the special ones (RFC 6890, cloud metadata, its own), and carries
// bytes both ways.
//
// There are two phases. Until [Gate.Dispatched], only the pinned hosts are open. After it the rest of the rules holds too.
//
// It guarantees that nothing leaves but to the names that the rules open, and that every attempt is counted: refused
// ones too, bounded in number. It trusts the kernel, the name servers that kettled uses, and those hosts. It does not see
// what is said inside TLS: a host that serves other people's content, or one that answers to a second name inside the
// session, is a way to carry data out. In the mode audit everything with a name is open, and what a connection is taken
// for depends on its first bytes: the record says "opaque" where they said nothing.
//
// Each protocol is carried by a [handler]. A handler that terminates TLS and records what is downloaded takes its place
// there.
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/kettle/attest/runner/egress/gateway"
)

// Resolver is the name server that the sandbox's programs use. It answers at every other address too.
func Resolver() netip.Addr { return gateway.Address() }

// Limits bounds the gate. A zero field is refused.
type Limits struct {
	Connections int           // at one time
	Rate        int           // new connections a second; the rest waits
	Queries     int           // DNS questions a second; the rest is lost
	Bytes       int64         // in both directions, over the life of the gate
	Hello       time.Duration // from accepting to a whole ClientHello or request header, or DNS question
	Dial        time.Duration // of one connection to a host
	Idle        time.Duration // without a byte in either direction
}

// Config says what the gate carries. Every field but Resolve and Logger is required.
type Config struct {
	Rules   Rules
	Resolve map[string]netip.Addr // hosts whose address is fixed; it need not be a public one
	Limits  Limits
	Logger  *slog.Logger
}

// Validate names everything that is missing or wrong.
func (c Config) Validate() error {
	var errs []error
	if err := c.Rules.Validate(); err != nil {
		errs = append(errs, err)
	}
	for host, address := range c.Resolve {
		if !isHost(host) {
			errs = append(errs, fmt.Errorf("resolve %q: want a lower-case DNS name", host))
		}
		if err := checkFixed(address); err != nil {
			errs = append(errs, fmt.Errorf("resolve %q: %w", host, err))
		}
	}
	l := c.Limits
	if l.Connections <= 0 || l.Rate <= 0 || l.Queries <= 0 || l.Bytes <= 0 || l.Hello <= 0 || l.Dial <= 0 || l.Idle <= 0 {
		errs = append(errs, fmt.Errorf("limits: want positive ones, got %+v", l))
	}
	return errors.Join(errs...)
}

// Gate is an open gate. [Gate.Serve] is called once; the other methods may be called from any goroutine.
type Gate struct {
	config     Config
	gateway    *gateway.Gateway
	log        *slog.Logger
	names      *names
	ledger     *ledger
	web        *web
	free       chan struct{} // one token for each connection that may be open
	accepts    *rate.Limiter
	queries    *rate.Limiter
	dispatched atomic.Bool
}

// Open makes the gateway of a sandbox's network namespace, which must not have an eth0 yet. netns is only used during the
// call.
func Open(ctx context.Context, netns *os.File, config Config) (*Gate, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("checking the gate's configuration: %w", err)
	}
	g := newGate(config)
	var err error
	if g.gateway, err = gateway.Open(ctx, netns); err != nil {
		return nil, fmt.Errorf("opening the gate: %w", err)
	}
	return g, nil
}

func newGate(config Config) *Gate {
	l := config.Limits
	g := &Gate{
		config: config, log: config.Logger, names: newNames(), ledger: newLedger(l.Bytes), free: make(chan struct{}, l.Connections),
		accepts: rate.NewLimiter(rate.Limit(l.Rate), 2*l.Rate), queries: rate.NewLimiter(rate.Limit(l.Queries), 2*l.Queries),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	// The pinned hosts have their addresses before a sandbox can use them all up.
	for _, host := range config.Rules.Pinned {
		g.names.address(host)
	}
	g.web = newWeb(g)
	return g
}

// Dispatched ends the first phase: from now on the rest of the rules holds too. There is no way back. Connections that
// are open stay.
func (g *Gate) Dispatched() { g.dispatched.Store(true) }

// Close takes the wire away, and the gateway with everything in it. It is called after Serve has returned, or without it.
func (g *Gate) Close() error {
	if err := g.gateway.Close(); err != nil {
		return fmt.Errorf("closing the gate: %w", err)
	}
	return nil
}
