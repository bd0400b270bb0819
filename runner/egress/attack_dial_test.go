// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/dns/dnsmessage"
)

// A name that leads to an address which only this machine or its cloud has is not followed there.
func TestAttackSpecialPurpose(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for name, text := range map[string]string{
		"metadata": "169.254.169.254", "wireserver": "168.63.129.16", "private": "10.0.2.2", "lan": "192.168.1.1", "shared": "100.64.0.1", "linklocal": "169.254.0.1", "benchmark": "198.18.0.1",
		"alibaba": "100.100.100.200", "multicast": "224.0.0.1", "broadcast": "255.255.255.255", "documentation": "203.0.113.1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := name + ".special.test"
			a := netip.MustParseAddr(text)
			w.resolve(t, host, func() []netip.Addr { return []netip.Addr{a} })
			w.listen(a, 443, echoes)
			w.listen(a, 80, webServer("special"))
			s := start(t, config("pinned.special.test", After{Mode: Allow, Allow: []Entry{
				{Host: host, Ports: []uint16{22}, Protocol: TCP}, {Host: host, Ports: []uint16{80}, Protocol: HTTP}, {Host: host, Ports: []uint16{443}, Protocol: TLS},
			}}))
			s.gate.Dispatched()
			refused(t, s.reach(host, 443), helloFor(t, host))
			refused(t, s.reach(host, 22), []byte("hello"))
			if got, err := asks(s.reach(host, 80), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1); err != nil || got[0] != "502 " {
				t.Errorf("got %q, %v", got, err)
			}
			eventually(t, func() bool {
				n := 0
				for _, v := range s.gate.Verdicts() {
					if v.Host == host && v.Reason == SpecialPurpose {
						n++
					}
				}
				return n == 3
			})
			if w.was(a) {
				t.Error("it was reached")
			}
		})
	}
}

// A pinned host is not followed to a special address either; only the configuration may fix one.
func TestAttackPinnedSpecialPurpose(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned = "pinned.pinnedspecial.test"
	a := netip.MustParseAddr("10.0.2.77")
	w.resolve(t, pinned, func() []netip.Addr { return []netip.Addr{a} })
	w.listen(a, 443, echoes)
	s := start(t, config(pinned, After{Mode: None}))
	refused(t, s.reach(pinned, 443), helloFor(t, pinned))
	s.reason(pinned, SpecialPurpose)
	if w.was(a) {
		t.Error("it was reached")
	}
}

// The machine's own listeners are not there for the job: loopback, and a public address of its own.
func TestAttackOwnAddress(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	public := &netlink.Addr{IPNet: netlink.NewIPNet([]byte{93, 185, 0, 1})}
	if err := netlink.AddrReplace(lo, public); err != nil {
		t.Fatal(err)
	}
	listen := ownListener(t)
	for name, text := range map[string]string{"loopback": "127.0.0.1", "loop": "127.9.9.9", "own": "93.185.0.1", "any": "0.0.0.0", "loop6": "::1", "any6": "::", "mapped": "::ffff:127.0.0.1"} {
		host := name + ".own.test"
		w.resolve(t, host, func() []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} })
		s := start(t, config("pinned.own.test", After{Mode: Allow, Allow: []Entry{{Host: host, Ports: []uint16{listen.port}, Protocol: TCP}}}))
		s.gate.Dispatched()
		refused(t, s.reach(host, listen.port), []byte("hello"))
		s.reason(host, SpecialPurpose)
	}
	if listen.visited() {
		t.Error("the machine was reached")
	}
}

// A name server that says a public address first and another one when it counts gains nothing: what is dialled is judged.
func TestAttackRebinding(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "host.rebinding.test"
	public, private := netip.MustParseAddr("93.200.0.1"), netip.MustParseAddr("10.200.0.1")
	var asked atomic.Int64
	w.resolve(t, host, func() []netip.Addr {
		if asked.Add(1) <= 2 { // both families of the first look-up
			return []netip.Addr{public}
		}
		return []netip.Addr{private}
	})
	w.listen(public, 80, webServer("public"))
	w.listen(private, 80, webServer("private"))
	s := allowWeb(t, host)
	for i, want := range []string{"200 public: GET / of " + host, "502 ", "502 "} {
		if got, err := asks(s.reach(host, 80), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1); err != nil || got[0] != want {
			t.Errorf("%d: got %q, %v", i, got, err)
		}
	}
	if w.was(private) {
		t.Error("it was reached")
	}
}

// A name server that mixes a special address among public ones is followed to the public ones at most.
func TestAttackMixedAnswer(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "host.mixed.test"
	private, public := netip.MustParseAddr("10.201.0.1"), netip.MustParseAddr("93.201.0.1")
	w.resolve(t, host, func() []netip.Addr { return []netip.Addr{private, netip.MustParseAddr("::1"), public} })
	w.listen(public, 80, webServer("public"))
	w.listen(private, 80, webServer("private"))
	s := allowWeb(t, host)
	if got, err := asks(s.reach(host, 80), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1); err != nil || got[0] != "200 public: GET / of "+host {
		t.Errorf("got %q, %v", got, err)
	}
	if w.was(private) {
		t.Error("it was reached")
	}
}

// The machine's search list is not asked for what a job's name lacks.
func TestAttackSearchList(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "host.list.test"
	a := w.host(t, host+".search.test")
	w.listen(a, 80, webServer("found"))
	s := allowWeb(t, host)
	if got, err := asks(s.reach(host, 80), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 1); err != nil || got[0] != "502 " {
		t.Errorf("got %q, %v", got, err)
	}
	if w.was(a) || w.heard(host+".search") {
		t.Error("it was asked")
	}
}

// A question carries nothing out: no name server hears of it, whatever is asked, where and how.
func TestAttackDNSLeak(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	s := audited(t, "pinned.leak.test")
	for _, network := range []string{"udp", "tcp"} {
		for _, server := range []string{"100.96.0.1:53", "8.8.8.8:53", "10.0.2.3:53"} {
			for _, kind := range []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeTXT, dnsmessage.TypeMX, dnsmessage.TypeNS, dnsmessage.TypePTR, dnsmessage.TypeALL, dnsmessage.TypeAXFR, 65} {
				conn, err := s.dial(network, server)
				if err != nil {
					t.Fatal(err)
				}
				m := exchange(t, conn, question(t, "c2vjcmv0.leaked.test", kind))
				if kind != dnsmessage.TypeA && len(m.Answers) > 0 {
					t.Errorf("%v: got %v", kind, m.Answers)
				}
				_ = conn.Close()
			}
		}
	}
	if w.heard("leaked") {
		t.Error("a name server heard it")
	}
}
