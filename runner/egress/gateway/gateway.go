// SPDX-License-Identifier: Apache-2.0

// Package gateway is the wire between a sandbox and the egress gate: one veth pair that ends in a network namespace
// where nothing is but the gate's two sockets.
//
// The sandbox's end is eth0 with [SandboxAddress], a default route and no IPv6. The other end lies in the gateway, a
// namespace of kettled without a name and without any other interface but lo. There every IPv4 address is local: a
// packet to any address ends in the gateway and cannot go on, because nothing is forwarded and there is no interface to
// forward it to. A program of the kernel (sk_lookup) gives every TCP connection, whatever address and port it is for, to
// one listener; the connection's local address is the address that the sandbox asked for. UDP has one socket, on port
// 53 of every address. Everything else is answered by nobody.
//
// It guarantees that a packet of the sandbox reaches these two sockets or none, whatever the sandbox does to its own end
// as root: readdress, reroute, rename, bridge, delete or move it. It trusts the kernel. It judges nothing: what the
// sockets say is the caller's business.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Names of the wire's ends. Inside is the sandbox's only interface beside lo.
const (
	Inside = "eth0"
	ours   = "gate0"
)

// Address is the gateway's own address: the sandbox's router and its name server. It is from the shared range (RFC 6598),
// where no host of the internet is.
func Address() netip.Addr { return netip.AddrFrom4([4]byte{100, 96, 0, 1}) }

// SandboxAddress is what the sandbox's end of the wire has, with its length.
func SandboxAddress() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 96, 0, 2}), 30)
}

// Gateway is an open gateway. Its sockets belong to it.
type Gateway struct {
	Connections net.Listener     // every TCP connection; LocalAddr of one is where the sandbox wanted to go
	Queries     *ipv4.PacketConn // every datagram to port 53; its control message says the address

	namespace *os.File
	steering  *steering
}

// Open makes the gateway of a sandbox's network namespace, which must not have an eth0. sandbox is only used during the
// call. Nothing of it is left behind after an error.
func Open(ctx context.Context, sandbox *os.File) (_ *Gateway, err error) {
	g := &Gateway{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening the gateway: %w", errors.Join(err, g.Close()))
		}
	}()
	if g.namespace, err = newNamespace(); err != nil {
		return nil, err
	}
	if err := within(g.namespace, func() error { return g.listen(ctx) }); err != nil {
		return nil, err
	}
	if g.steering, err = steer(g.namespace, g.Connections); err != nil {
		return nil, err
	}
	// The sockets are there before the first packet can be.
	if err := within(g.namespace, func() error { return raiseOurs(sandbox) }); err != nil {
		return nil, err
	}
	if err := within(sandbox, raiseInside); err != nil {
		return nil, err
	}
	if err := within(g.namespace, func() error { return awaitCarrier(ctx) }); err != nil {
		return nil, err
	}
	return g, nil
}

// Close takes the wire, the sockets, the program and the namespace away. Connections that were accepted end with the
// wire; the namespace lasts until they are closed. A second call does nothing.
func (g *Gateway) Close() error {
	var errs []error
	if g.steering != nil {
		errs = append(errs, g.steering.close())
	}
	if g.Connections != nil {
		errs = append(errs, closed(g.Connections.Close()))
	}
	if g.Queries != nil {
		errs = append(errs, closed(g.Queries.Close()))
	}
	if g.namespace != nil {
		errs = append(errs, within(g.namespace, cut), g.namespace.Close())
	}
	g.steering, g.namespace = nil, nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the gateway: %w", err)
	}
	return nil
}

// closed ignores that something was closed before.
func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// listen opens the two sockets. The calling thread is in the gateway.
func (g *Gateway) listen(ctx context.Context) error {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talking to the kernel: %w", err)
	}
	defer links.Close()
	if err := raise(links, "lo"); err != nil {
		return err
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	// No packet is for 127.0.0.1 on a wire: what reaches the listener was steered to it.
	if g.Connections, err = config.Listen(ctx, "tcp4", "127.0.0.1:1"); err != nil {
		return err
	}
	queries, err := config.ListenPacket(ctx, "udp4", "0.0.0.0:53")
	if err != nil {
		return err
	}
	g.Queries = ipv4.NewPacketConn(queries)
	if err := g.Queries.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return fmt.Errorf("asking for the address of a query: %w", err)
	}
	return nil
}
