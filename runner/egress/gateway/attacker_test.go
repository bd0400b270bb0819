// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// patience is how long an attack waits for an answer that must not come.
const patience = 200 * time.Millisecond

// answered is how long one waits for an answer that must come.
const answered = 10 * time.Second

func dials(address string, within time.Duration) error {
	conn, err := net.DialTimeout("tcp", address, within)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

// readdress tries every target from another address, then from its own with other routes.
func readdress(r *report) {
	link, err := netlink.LinkByName(Inside)
	r.must(err)
	own, _ := netlink.ParseAddr(SandboxAddress().String())
	other, _ := netlink.ParseAddr("10.0.2.99/8")
	r.must(netlink.AddrDel(link, own))
	r.must(netlink.AddrAdd(link, other))
	router := net.IPv4(10, 0, 2, 2)
	r.must(netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: router, HardwareAddr: hardware(1)}))
	r.must(netlink.RouteReplace(&netlink.Route{Gw: router}))
	for _, target := range r.targets {
		if dials(target, patience) == nil {
			r.gained("an answer from %s at another address", target)
		}
	}
	r.must(netlink.AddrAdd(link, own))
	r.must(netlink.AddrDel(link, other))
	r.must(netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: Address().AsSlice(), HardwareAddr: hardware(1)}))
	r.must(netlink.RouteReplace(&netlink.Route{Gw: Address().AsSlice()}))
	for _, target := range r.targets {
		if err := dials(target, answered); err != nil {
			r.broken("%s: %v", target, err)
		}
	}
}

// frames sends what no kernel would.
func frames(r *report) {
	w, err := openWire()
	r.must(err)
	me, there := SandboxAddress().Addr().String(), "8.8.8.8"
	if !w.answered(syn(me, there)) {
		r.broken("an honest frame was not answered")
	}
	for _, f := range []struct{ from, to string }{
		{"100.96.0.1", there}, {"100.96.0.3", there}, {"10.0.2.15", there}, {"127.0.0.1", there}, {"8.8.8.8", there}, {"0.0.0.0", there}, {"255.255.255.255", there},
		{"8.8.8.8", "100.96.0.1"},
		{me, "127.0.0.1"}, {me, "255.255.255.255"}, {me, "224.0.0.1"}, {me, "0.0.0.0"}, {me, me},
	} {
		if w.answered(syn(f.from, f.to)) {
			r.gained("an answer from %s to %s", f.to, f.from)
		}
	}
	if w.answered(tagged(syn(me, there))) {
		r.gained("an answer to a tagged frame")
	}
	if w.answered(routed(syn(me, there))) {
		r.gained("an answer to a source-routed packet")
	}
}

// arp asks for the hardware address of everything.
func arp(r *report) {
	w, err := openWire()
	r.must(err)
	if !w.answered(whoHas(Address())) {
		r.broken("the gateway does not answer for itself")
	}
	for _, a := range []string{"10.0.2.2", "8.8.8.8", "169.254.169.254", "198.18.0.1", "100.96.0.3", "127.0.0.1"} {
		if w.answered(whoHas(netip.MustParseAddr(a))) {
			r.gained("the hardware address of %s", a)
		}
	}
}

// ping sends echo requests.
func ping(r *report) {
	w, err := openWire()
	r.must(err)
	me := SandboxAddress().Addr().String()
	if !w.answered(datagram(me, "8.8.8.8", 9)) {
		r.broken("a datagram to a closed port was not refused")
	}
	for _, a := range []string{"100.96.0.1", "8.8.8.8", "10.0.2.2", "255.255.255.255"} {
		if w.answered(echo(me, a)) {
			r.gained("an echo from %s", a)
		}
	}
}

// datagrams tries UDP ports.
func datagrams(r *report) {
	try := func(address string) error {
		conn, err := net.Dial("udp", address) //nolint:noctx // at once.
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write([]byte("hello"))
		_, err = conn.Read(make([]byte, 1500))
		return err
	}
	r.must(try("8.8.8.8:53"))
	for _, a := range []string{"198.18.0.1:443", "8.8.8.8:443", "8.8.8.8:123", "10.0.2.2:69", "100.96.0.1:1", "100.96.0.1:5353", "8.8.8.8:54"} {
		// The kernel says at once that nobody is there: a client falls back to TCP without a delay.
		if err := try(a); !errors.Is(err, unix.ECONNREFUSED) {
			r.gained("%v from %s", err, a)
		}
	}
}

// version6 turns IPv6 on and listens for any answer.
func version6(r *report) {
	for name, value := range map[string]string{"accept_dad": "0", "disable_ipv6": "0"} {
		r.must(os.WriteFile("/proc/sys/net/ipv6/conf/"+Inside+"/"+name, []byte(value), 0))
	}
	link, err := netlink.LinkByName(Inside)
	r.must(err)
	mine, _ := netlink.ParseAddr("fd00::2/64")
	mine.Flags = unix.IFA_F_NODAD
	r.must(netlink.AddrAdd(link, mine))
	router := net.ParseIP("fd00::1")
	linkLocal := net.ParseIP("fe80::64ff:fe60:1") // of the gateway's hardware address
	for _, ip := range []net.IP{router, linkLocal} {
		r.must(netlink.NeighSet(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: ip, HardwareAddr: hardware(1)}))
	}
	all := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	r.must(netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: all, Gw: router}))
	w, err := openWire()
	r.must(err)
	for _, a := range []string{"[fd00::1]:443", "[2001:db8::1]:443", "[fe80::64ff:fe60:1%" + Inside + "]:443", "[fe80::64ff:fe60:1%" + Inside + "]:53"} {
		if dials(a, patience) == nil {
			r.gained("a connection to %s", a)
		}
		if w.hears() {
			r.gained("an answer from %s", a)
		}
	}
	if w.answered(solicit()) {
		r.gained("a neighbour")
	}
}

// otherNamespace asks the kernel to work in the gateway's namespace.
func otherNamespace(r *report) {
	link, err := netlink.LinkByName(Inside)
	r.must(err)
	id, peer := link.Attrs().NetNsID, link.Attrs().ParentIndex
	if id < 0 || peer <= 0 {
		r.broken("the namespace has number %d, the link %d", id, peer)
	}
	number := func(attribute, value int) *nl.RtAttr { return nl.NewRtAttr(attribute, nl.Uint32Attr(uint32(value))) } //nolint:gosec // small.
	kind := func(name string) *nl.RtAttr {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(name))
		return info
	}
	for name, tc := range map[string]struct {
		request, flags int
		index          int
		attributes     []nl.NetlinkRequestData
	}{
		"read its links": {unix.RTM_GETLINK, 0, peer, []nl.NetlinkRequestData{number(unix.IFLA_TARGET_NETNSID, id)}},
		"switch its end off": {unix.RTM_NEWLINK, unix.NLM_F_ACK, peer, []nl.NetlinkRequestData{
			number(unix.IFLA_TARGET_NETNSID, id), number(unix.IFLA_MTU, 68),
		}},
		"make a link there": {unix.RTM_NEWLINK, unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL, 0, []nl.NetlinkRequestData{
			number(unix.IFLA_TARGET_NETNSID, id), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("evil0")), kind("veth"),
		}},
		"make a link upon its end": {unix.RTM_NEWLINK, unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL, 0, []nl.NetlinkRequestData{
			number(unix.IFLA_LINK, peer), number(unix.IFLA_LINK_NETNSID, id), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("evil1")), kind("macvlan"),
		}},
		"move there": {unix.RTM_NEWLINK, unix.NLM_F_ACK, link.Attrs().Index, []nl.NetlinkRequestData{number(unix.IFLA_TARGET_NETNSID, id)}},
	} {
		request := nl.NewNetlinkRequest(tc.request, tc.flags)
		header := nl.NewIfInfomsg(unix.AF_UNSPEC)
		header.Index = int32(tc.index) //nolint:gosec // small.
		request.AddData(header)
		for _, a := range tc.attributes {
			request.AddData(a)
		}
		// A kernel without macvlan cannot make one at all.
		_, err := request.Execute(unix.NETLINK_ROUTE, 0)
		if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EOPNOTSUPP) {
			r.gained("%s: %v", name, err)
		}
	}
}
