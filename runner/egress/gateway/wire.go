// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// carrierWait is far more than the kernel takes.
const carrierWait = 10 * time.Second

// Hardware addresses of the two ends, locally administered. Ours never asks for the other's, which it is told.
func hardware(last byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 100, 96, 0, last} }

// raiseOurs makes the pair and raises the gateway's end. The calling thread is in the gateway.
func raiseOurs(sandbox *os.File) error {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talking to the kernel: %w", err)
	}
	defer links.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = ours, hardware(1)
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerHardwareAddr, pair.PeerNamespace = Inside, hardware(2), netlink.NsFd(sandbox.Fd())
	if err := links.LinkAdd(pair); err != nil {
		return fmt.Errorf("making the pair %s and %s: %w", ours, Inside, err)
	}
	if err := errors.Join(tune(gatewaySettings())...); err != nil {
		return err
	}
	if err := address(links, ours, netip.PrefixFrom(Address(), 32)); err != nil {
		return err
	}
	if err := raise(links, ours); err != nil {
		return err
	}
	return routeOurs(links)
}

// routeOurs makes every address local but the sandbox's. The way back to the sandbox stands in the table of local
// addresses too, because that table is asked first. A packet whose source is any other address claims to come from this
// machine, and is dropped for it.
func routeOurs(links *netlink.Handle) error {
	lo, err := links.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	wire, err := links.LinkByName(ours)
	if err != nil {
		return fmt.Errorf("finding %s: %w", ours, err)
	}
	all := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	inside := SandboxAddress().Addr().AsSlice()
	return errors.Join(
		wrap("making every address local", links.RouteAdd(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: all, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		})),
		wrap("adding the way to the sandbox", links.RouteAdd(&netlink.Route{
			LinkIndex: wire.Attrs().Index, Dst: &net.IPNet{IP: inside, Mask: net.CIDRMask(32, 32)}, Src: Address().AsSlice(),
			Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_UNICAST, Scope: netlink.SCOPE_LINK,
		})),
		wrap("adding the sandbox's hardware address", links.NeighSet(&netlink.Neigh{
			LinkIndex: wire.Attrs().Index, State: netlink.NUD_PERMANENT, IP: inside, HardwareAddr: hardware(2),
		})),
	)
}

// raiseInside raises the sandbox's end. The calling thread is in the sandbox's network namespace.
func raiseInside() error {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talking to the kernel: %w", err)
	}
	defer links.Close()
	if err := errors.Join(tune([]setting{{"ipv6/conf/" + Inside + "/disable_ipv6", "1"}})...); err != nil {
		return err
	}
	if err := address(links, Inside, SandboxAddress()); err != nil {
		return err
	}
	if err := errors.Join(raise(links, "lo"), raise(links, Inside)); err != nil {
		return err
	}
	return wrap("adding the sandbox's default route", links.RouteAdd(&netlink.Route{Gw: Address().AsSlice()}))
}

// awaitCarrier waits until the gateway's end carries packets: the kernel sees to that in its own time after the other end
// is up, and drops what comes before. The calling thread is in the gateway.
func awaitCarrier(ctx context.Context) error {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talking to the kernel: %w", err)
	}
	defer links.Close()
	ctx, cancel := context.WithTimeout(ctx, carrierWait)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		wire, err := links.LinkByName(ours)
		if err != nil {
			return fmt.Errorf("finding %s: %w", ours, err)
		}
		if wire.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to carry packets: %w", ours, ctx.Err())
		case <-tick.C:
		}
	}
}

// cut removes the wire, both ends at once. The calling thread is in the gateway. The sandbox may have done it before.
func cut() error {
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("talking to the kernel: %w", err)
	}
	defer links.Close()
	wire, err := links.LinkByName(ours)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = links.LinkDel(wire)
	}
	return wrap("removing "+ours, err)
}

func raise(links *netlink.Handle, name string) error {
	link, err := links.LinkByName(name)
	if err == nil {
		err = links.LinkSetUp(link)
	}
	return wrap("raising "+name, err)
}

func address(links *netlink.Handle, name string, prefix netip.Prefix) error {
	link, err := links.LinkByName(name)
	if err == nil {
		err = links.AddrReplace(link, &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}})
	}
	return wrap("giving "+name+" its address", err)
}

func wrap(doing string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// setting is one value below /proc/sys/net, which shows the namespace of the thread that looks.
type setting struct{ name, value string }

// gatewaySettings are set for "all" and for the wire: what all says adds to some of the wire's own and replaces others
// (ip-sysctl). A new namespace copies its values from the machine's, so none is left to chance.
func gatewaySettings() []setting {
	settings := []setting{
		{"ipv4/ip_forward", "0"},
		{"ipv4/icmp_echo_ignore_all", "1"},
		{"ipv4/icmp_ratelimit", "0"}, // of saying that nobody is there: a client that tries QUIC falls back at once
		{"ipv4/tcp_fastopen", "0"},
		{"ipv4/tcp_syncookies", "1"},
		// What one connection of the sandbox may hold of the kernel's memory.
		{"ipv4/tcp_rmem", "4096 131072 1048576"},
		{"ipv4/tcp_wmem", "4096 65536 1048576"},
	}
	for _, conf := range []string{"all", ours} {
		settings = append(settings,
			setting{"ipv6/conf/" + conf + "/disable_ipv6", "1"},
			setting{"ipv4/conf/" + conf + "/forwarding", "0"},
			setting{"ipv4/conf/" + conf + "/rp_filter", "1"},
			setting{"ipv4/conf/" + conf + "/accept_local", "0"},
			setting{"ipv4/conf/" + conf + "/route_localnet", "0"},
			setting{"ipv4/conf/" + conf + "/accept_source_route", "0"},
			setting{"ipv4/conf/" + conf + "/accept_redirects", "0"},
			setting{"ipv4/conf/" + conf + "/send_redirects", "0"},
			setting{"ipv4/conf/" + conf + "/proxy_arp", "0"},
			setting{"ipv4/conf/" + conf + "/arp_ignore", "1"}, // answers for the address of the wire alone, not for every local one
			setting{"ipv4/conf/" + conf + "/arp_accept", "0"},
			setting{"ipv4/conf/" + conf + "/log_martians", "0"}, // the sandbox does not write to the console
		)
	}
	return settings
}

// tune applies settings. A kernel without IPv6 needs nothing switched off.
func tune(settings []setting) (errs []error) {
	for _, s := range settings {
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.name), []byte(s.value), 0)
		if _, none := os.Stat("/proc/sys/net/ipv6"); s.name[:4] == "ipv6" && errors.Is(none, fs.ErrNotExist) {
			continue
		}
		errs = append(errs, wrap("setting "+s.name, err))
	}
	return errs
}
