// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

// errSpecialPurpose refuses an address that no host of the internet has, or that only this machine reaches as itself.
var errSpecialPurpose = errors.New("special-purpose address")

// dial connects to a host from kettled's own network namespace. The address that is judged is the one that is connected
// to, after every lookup: a name server that changes its answer gains nothing.
func (g *Gate) dial(ctx context.Context, host string, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, g.config.Limits.Dial)
	defer cancel()
	if fixed, ok := g.config.Resolve[host]; ok {
		d := net.Dialer{Control: judge(checkFixed)}
		return d.DialContext(ctx, "tcp", netip.AddrPortFrom(fixed, port).String())
	}
	d := net.Dialer{Control: judge(checkFound), Resolver: &net.Resolver{PreferGo: true}}
	// The dot at the end keeps a search list away from the name.
	return d.DialContext(ctx, "tcp", net.JoinHostPort(host+".", strconv.Itoa(int(port))))
}

// judge makes a [net.Dialer] ask check before it connects.
func judge(check func(netip.Addr) error) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %q is no address", errSpecialPurpose, address)
		}
		return check(to.Addr())
	}
}

// checkFixed judges an address that the measured configuration names: any host's, but never this machine as itself, its
// link or what speaks for the cloud that it runs in.
func checkFixed(a netip.Addr) error {
	bare := a.Unmap()
	if !bare.IsValid() || bare.Zone() != "" || bare.IsUnspecified() || bare.IsLoopback() || bare.IsMulticast() ||
		bare.IsLinkLocalUnicast() || within(metadata[:], bare) {
		return fmt.Errorf("%w: %s", errSpecialPurpose, a)
	}
	return nil
}

// checkFound judges an address that a name server said: it must be public, and not one of this machine's own.
func checkFound(a netip.Addr) error {
	if err := checkFixed(a); err != nil {
		return err
	}
	bare := a.Unmap()
	if within(reserved[:], bare) || bare.Is6() && !globalUnicast.Contains(bare) {
		return fmt.Errorf("%w: %s", errSpecialPurpose, a)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("%w: the machine's own addresses are not known: %w", errSpecialPurpose, err)
	}
	for _, o := range own {
		if p, ok := o.(*net.IPNet); ok && p.IP.Equal(bare.AsSlice()) {
			return fmt.Errorf("%w: %s is this machine's", errSpecialPurpose, a)
		}
	}
	return nil
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// metadata are addresses at which clouds tell a machine who it is, beyond the link-local ones.
var metadata = [...]netip.Prefix{
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure: WireServer, in a public range
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud
	netip.MustParsePrefix("fd00:ec2::/32"),      // Amazon EC2
	netip.MustParsePrefix("fd20:ce::/32"),       // Google Cloud
}

// globalUnicast is all of IPv6 that is routed between hosts today (RFC 4291, section 2.4; RFC 3587).
var globalUnicast = netip.MustParsePrefix("2000::/3")

// reserved are the networks of the IANA special-purpose registries (RFC 6890) that are not globally reachable, or that
// wrap another address.
var reserved = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network
	netip.MustParsePrefix("10.0.0.0/8"),      // private
	netip.MustParsePrefix("100.64.0.0/10"),   // shared
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback
	netip.MustParsePrefix("169.254.0.0/16"),  // link-local
	netip.MustParsePrefix("172.16.0.0/12"),   // private
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("192.168.0.0/16"),  // private
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks, and this gate's names
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("224.0.0.0/4"),     // multicast
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
	netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo among them
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4: wraps an IPv4 address
	netip.MustParsePrefix("3fff::/20"),       // documentation
}
