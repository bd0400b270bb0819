// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/egress"
)

// Limits of the gate that no configuration needs to change yet.
const (
	gateConnections = 1024
	gateRate        = 1000 // connections a second
	gateQueries     = 1000 // questions a second
	gateBytes       = 1 << 40
	gateHello       = 10 * time.Second
	gateDial        = 30 * time.Second
	gateIdle        = 10 * time.Minute // the runner's long polls are quiet for most of a minute
)

// gate is the sandbox's way to the network. It opens once the sandbox has a network namespace.
type gate struct {
	config egress.Config
	opened chan *egress.Gate // for serve
	open   *egress.Gate      // owned by the run loop
}

var _ runner.Gate = (*gate)(nil)

func newGate(c *config.Config) (*gate, error) {
	fixed := map[string]netip.Addr{}
	for host, text := range c.Network.Resolve {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("reading network.resolve: %w", err)
		}
		fixed[host] = addr
	}
	after := egress.After{Mode: egress.Mode(c.Egress.After.Mode)}
	for _, a := range c.Egress.After.Allow {
		entry := egress.Entry{Host: a.Host, Protocol: egress.Protocol(a.Protocol)}
		for _, port := range a.Ports {
			entry.Ports = append(entry.Ports, uint16(port)) //nolint:gosec // the configuration has checked it.
		}
		after.Allow = append(after.Allow, entry)
	}
	g := &gate{
		opened: make(chan *egress.Gate, 1),
		config: egress.Config{
			Rules: egress.Rules{Pinned: c.GitHub.Hosts, After: after}, Resolve: fixed,
			Limits: egress.Limits{
				Connections: gateConnections, Rate: gateRate, Queries: gateQueries, Bytes: gateBytes, Hello: gateHello, Dial: gateDial, Idle: gateIdle,
			},
		},
	}
	return g, g.config.Validate()
}

// join opens the gate of a network namespace.
func (g *gate) join(ctx context.Context, netns *os.File) (err error) {
	if g.open != nil {
		return errors.New("opening the gate: it is open")
	}
	if g.open, err = egress.Open(ctx, netns, g.config); err != nil {
		return err
	}
	g.opened <- g.open
	return nil
}

// serve carries the sandbox's connections until ctx ends.
func (g *gate) serve(ctx context.Context) error {
	select {
	case open := <-g.opened:
		return open.Serve(ctx)
	case <-ctx.Done():
		return nil
	}
}

// Dispatched implements [runner.Gate].
func (g *gate) Dispatched() { g.open.Dispatched() }

// Flows implements [runner.Gate].
func (g *gate) Flows() []statement.Flow {
	if g.open == nil {
		return nil
	}
	var flows []statement.Flow
	for _, v := range g.open.Verdicts() {
		flows = append(flows, statement.Flow{
			Host: v.Host, Port: int(v.Port), Protocol: string(v.Protocol), Refused: string(v.Reason),
			Connections: v.Connections, Sent: v.Sent, Received: v.Received,
		})
	}
	return flows
}

func (g *gate) close() error {
	if g.open == nil {
		return nil
	}
	return g.open.Close()
}
