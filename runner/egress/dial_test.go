// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func TestSpecialPurpose(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct{ found, fixed bool }{
		"93.184.215.14": {true, true}, "1.1.1.1": {true, true}, "100.63.255.255": {true, true}, "100.128.0.0": {true, true}, "172.15.0.1": {true, true}, "172.32.0.1": {true, true},
		"2606:2800:220:1::1": {true, true}, "::ffff:93.184.215.14": {true, true}, "2001:200::1": {true, true},

		"10.0.2.2": {false, true}, "172.16.0.1": {false, true}, "172.31.255.255": {false, true}, "192.168.1.1": {false, true}, "100.64.0.1": {false, true}, "100.96.0.1": {false, true},
		"198.18.0.1": {false, true}, "198.19.255.255": {false, true}, "192.0.2.1": {false, true}, "198.51.100.1": {false, true}, "203.0.113.1": {false, true}, "192.88.99.1": {false, true},
		"0.1.2.3": {false, true}, "240.0.0.1": {false, true}, "255.255.255.255": {false, true}, "192.0.0.1": {false, true},
		"fc00::1": {false, true}, "fd12::1": {false, true}, "2001:db8::1": {false, true}, "2002:7f00:1::1": {false, true}, "2001::1": {false, true}, "64:ff9b::7f00:1": {false, true},
		"64:ff9b:1::1": {false, true}, "3fff::1": {false, true}, "fec0::1": {false, true}, "100::1": {false, true}, "5f00::1": {false, true}, "::7f00:1": {false, true}, "::ffff:10.0.0.1": {false, true},

		"127.0.0.1": {false, false}, "127.255.0.1": {false, false}, "0.0.0.0": {false, false}, "169.254.169.254": {false, false}, "169.254.0.1": {false, false}, "224.0.0.1": {false, false}, "239.1.2.3": {false, false},
		"168.63.129.16": {false, false}, "100.100.100.200": {false, false}, "192.0.0.192": {false, false}, "::ffff:127.0.0.1": {false, false}, "::ffff:169.254.169.254": {false, false},
		"::1": {false, false}, "::": {false, false}, "fe80::1": {false, false}, "fe80::1%eth0": {false, false}, "ff02::1": {false, false}, "fd00:ec2::254": {false, false}, "fd20:ce::254": {false, false},
		"2606:2800:220:1::1%eth0": {false, false},
	} {
		a := netip.MustParseAddr(text)
		if err := checkFound(a); (err == nil) != want.found || err != nil && !errors.Is(err, errSpecialPurpose) {
			t.Errorf("found %s: got %v", text, err)
		}
		if err := checkFixed(a); (err == nil) != want.fixed || err != nil && !errors.Is(err, errSpecialPurpose) {
			t.Errorf("fixed %s: got %v", text, err)
		}
	}
	if err := checkFixed(netip.Addr{}); !errors.Is(err, errSpecialPurpose) {
		t.Errorf("no address: got %v", err)
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !errors.Is(checkFound(p.Addr()), errSpecialPurpose) {
			t.Errorf("the machine's own %s is allowed", p)
		}
	}
	for _, address := range []string{"", "example.com:443", "1.2.3.4", "[fe80::1%eth0]:443"} {
		if err := judge(checkFound)("tcp", address, nil); !errors.Is(err, errSpecialPurpose) {
			t.Errorf("%q: got %v", address, err)
		}
	}
}
