// SPDX-License-Identifier: Apache-2.0

// Package egress is the only way out of a sandbox: a gate that passes TLS connections to pinned hosts and nothing else.
//
// The sandbox's network namespace has a loopback interface and no other. The gate listens inside it at [Address] and
// dials out from kettled's own namespace, so that there is no route, no forwarding and no rule to get around: what the
// gate does not carry stays inside. It reads the server name of the TLS ClientHello (RFC 6066, section 3), demands that
// it is one of the pinned hosts, connects to that host's port 443 itself, whatever the client wished, and carries bytes
// both ways without looking at them. TLS stays end to end.
//
// It guarantees that bytes leave only to the pinned hosts, and it counts them. It trusts those hosts and the resolver
// that the dialer uses. It does not see what is said: a pinned host that serves other people's content behind the same
// name, or that is reached by another name inside the TLS session, is a way to carry data out.
package egress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"sync"
	"time"
)

// Address is where the gate listens inside the sandbox: an address from the shared range (RFC 6598) that no host has.
func Address() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{100, 96, 0, 1}), port)
}

// port is HTTPS, on both sides.
const port = 443

// Limits bounds the gate. A zero field is refused.
type Limits struct {
	Connections int           // at one time
	Bytes       int64         // in both directions, over the life of the gate
	Hello       time.Duration // from accepting to a whole ClientHello
	Dial        time.Duration // of one connection to a host
	Idle        time.Duration // without a byte in either direction
}

// Dialer connects from kettled's own network namespace.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Config says what the gate passes. Every field but Logger is required.
type Config struct {
	Hosts  []string // exact names, lower case
	Dialer Dialer
	Limits Limits
	Logger *slog.Logger
}

var hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)

// Validate names everything that is missing or wrong.
func (c Config) Validate() error {
	var errs []error
	if len(c.Hosts) == 0 {
		errs = append(errs, errors.New("hosts: want at least one"))
	}
	for _, h := range c.Hosts {
		if !hostPattern.MatchString(h) || len(h) > maxName {
			errs = append(errs, fmt.Errorf("host %q: want a lower-case DNS name", h))
		}
	}
	if c.Dialer == nil {
		errs = append(errs, errors.New("dialer: absent"))
	}
	l := c.Limits
	if l.Connections <= 0 || l.Bytes <= 0 || l.Hello <= 0 || l.Dial <= 0 || l.Idle <= 0 {
		errs = append(errs, fmt.Errorf("limits: want positive ones, got %+v", l))
	}
	return errors.Join(errs...)
}

// Gate is an open gate. [Gate.Serve] is called once; the other methods may be called from any goroutine.
type Gate struct {
	config   Config
	hosts    map[string]bool
	listener net.Listener
	log      *slog.Logger
	ledger   *ledger
	free     chan struct{} // one token for each connection that may be open
}

// Open raises the loopback interface of the network namespace, gives it the gate's address and listens there. netns is
// only used during the call.
func Open(ctx context.Context, netns *os.File, config Config) (*Gate, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("checking the gate's configuration: %w", err)
	}
	listener, err := listenIn(ctx, netns, Address())
	if err != nil {
		return nil, fmt.Errorf("opening the gate: %w", err)
	}
	g := &Gate{
		config: config, hosts: map[string]bool{}, listener: listener, log: config.Logger,
		ledger: newLedger(config.Limits.Bytes), free: make(chan struct{}, config.Limits.Connections),
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	for _, h := range config.Hosts {
		g.hosts[h] = true
	}
	return g, nil
}

// Close closes the gate to new connections. It is for a gate that is not served; Serve closes by itself.
func (g *Gate) Close() error {
	if err := g.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing the gate: %w", err)
	}
	return nil
}

// Serve passes connections until ctx ends, then closes the gate and every connection and returns nil when all is over.
func (g *Gate) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = g.listener.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()
	for {
		conn, err := g.listener.Accept()
		switch {
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err != nil:
			g.log.WarnContext(ctx, "accepting a connection", slog.Any("error", err))
			if !pause(ctx) {
				return nil
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
			_ = conn.Close()
			g.ledger.deny("", TooMany)
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

// carry serves one connection from its ClientHello to its end.
func (g *Gate) carry(ctx context.Context, client net.Conn) {
	defer func() { _ = client.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	host, hello, err := g.admit(ctx, client)
	if err != nil {
		return
	}
	dialCtx, cancel := context.WithTimeout(ctx, g.config.Limits.Dial)
	upstream, err := g.config.Dialer.DialContext(dialCtx, "tcp", net.JoinHostPort(host, "443"))
	cancel()
	if err != nil {
		g.log.WarnContext(ctx, "connecting to a host", slog.String("host", host), slog.Any("error", err))
		g.ledger.deny(host, Unreachable)
		refuse(client, alertInternalError)
		return
	}
	defer func() { _ = upstream.Close() }()
	stopUpstream := context.AfterFunc(ctx, func() { _ = upstream.Close() })
	defer stopUpstream()
	g.splice(client, upstream, hello, g.ledger.allow(host))
}

// admit reads the ClientHello and decides. The bytes that it read go to the host unchanged.
func (g *Gate) admit(ctx context.Context, client net.Conn) (host string, hello []byte, err error) {
	if err := client.SetDeadline(time.Now().Add(g.config.Limits.Hello)); err != nil {
		return "", nil, err
	}
	name, hello, err := peek(ctx, client)
	if err == nil && !g.hosts[name] {
		err = deniedError{NotPinned, alertUnrecognizedName}
	}
	var denied deniedError
	if errors.As(err, &denied) {
		g.log.WarnContext(ctx, "refused a connection", slog.String("name", name), slog.String("reason", string(denied.reason)))
		g.ledger.deny(name, denied.reason)
		refuse(client, denied.alert)
	}
	return name, hello, err
}
