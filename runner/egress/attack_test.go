// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// refused demands that a connection carries nothing in either direction.
func refused(t *testing.T, conn net.Conn, send []byte) {
	t.Helper()
	_, _ = conn.Write(send)
	got, err := io.ReadAll(conn)
	// At most the alert of a refused ClientHello.
	if len(got) > 7 {
		t.Errorf("got %q, %v", got, err)
	}
}

// reason demands that a host's only verdict is a refusal.
func (s *sandbox) reason(host string, want Reason) {
	s.t.Helper()
	if v := s.one(host); v.Allowed || v.Reason != want || v.Sent+v.Received > 0 {
		s.t.Errorf("got %+v, want %s", v, want)
	}
}

// open is a sandbox after the dispatch with everything open that can be.
func audited(t *testing.T, pinned string) *sandbox {
	t.Helper()
	s := start(t, config(pinned, After{Mode: Audit}))
	s.gate.Dispatched()
	return s
}

// An address that no name was given leads nowhere, however open the rules are: not to the internet, the metadata
// service, the launcher, the gate itself or the machine, nor to a resolver by TLS or HTTPS.
func TestAttackRawAddress(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const name = "there.raw.test"
	there := w.host(t, name)
	w.listen(there, 443, echoes)
	s := audited(t, "pinned.raw.test")
	for _, to := range []string{
		there.String() + ":443", "8.8.8.8:443", "8.8.8.8:853", "169.254.169.254:80", "168.63.129.16:80", "10.0.2.2:2222", "100.96.0.1:443", "100.96.0.1:1", "192.168.0.1:22",
		"198.18.200.1:443", // of the gate's own range, but given to nobody
	} {
		conn, err := s.dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, conn, helloFor(t, name))
		host, _, _ := net.SplitHostPort(to)
		eventually(t, func() bool {
			for _, v := range s.gate.Verdicts() {
				if v.Host == host && fmt.Sprint(host, ":", v.Port) == to && v.Reason == RawAddress && !v.Allowed {
					return true
				}
			}
			return false
		})
		if a := netip.MustParseAddr(host); w.was(a) {
			t.Errorf("%s was reached", a)
		}
	}
	if len(s.gate.Hosts()) > 0 {
		t.Errorf("got %+v", s.gate.Verdicts())
	}
}

// Before the dispatch nothing but the pinned hosts has an address; an address from after it does not exist before.
func TestAttackBeforeDispatch(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned, later = "pinned.before.test", "later.before.test"
	there := w.host(t, later)
	w.listen(there, 443, echoes)
	for _, after := range []After{{Mode: Audit}, {Mode: Allow, Allow: []Entry{{Host: later, Ports: []uint16{443}, Protocol: TLS}}}} {
		s := start(t, config(pinned, after))
		if a, code := s.lookup(later); a.IsValid() || code != dnsmessage.RCodeNameError {
			t.Errorf("%s: got %v, %v", after.Mode, a, code)
		}
		for _, guess := range []string{"198.18.0.1:80", "198.18.0.2:443", "198.18.0.3:443"} {
			conn, err := s.dial("tcp", guess)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, conn, helloFor(t, later))
		}
		if w.was(there) || w.heard(later) {
			t.Errorf("%s: it was reached", after.Mode)
		}
	}
}

// Even a name that has its address already is judged by the phase.
func TestAttackPhase(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned, later = "pinned.phase.test", "later.phase.test"
	w.listen(w.host(t, later), 443, echoes)
	s := start(t, config(pinned, After{Mode: Audit}))
	a, _ := s.gate.names.address(later)
	conn, err := s.dial("tcp", netip.AddrPortFrom(a, 443).String())
	if err != nil {
		t.Fatal(err)
	}
	refused(t, conn, helloFor(t, later))
	s.reason(later, NotAllowed)
}

// A pinned host has TLS on port 443 and nothing else, in every mode.
func TestAttackPinnedPort(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned = "pinned.port.test"
	there := w.host(t, pinned)
	ports := []uint16{22, 80, 853, 8443}
	for _, port := range append(ports, 443) {
		w.listen(there, port, echoes)
	}
	s := audited(t, pinned)
	for _, port := range ports {
		refused(t, s.reach(pinned, port), helloFor(t, pinned))
	}
	refused(t, s.reach(pinned, 443), []byte("GET / HTTP/1.1\r\nHost: "+pinned+"\r\n\r\n"))
	refused(t, s.reach(pinned, 443), []byte("SSH-2.0-test\r\n"))
	if w.was(there) {
		t.Error("it was reached")
	}
}

// The server name is the name that the address was given for, to the letter.
func TestAttackServerName(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host, other = "front.name.test", "other.name.test"
	dot := renamed(t, helloFor(t, host+"x"), host+"x", host+".")
	for name, tc := range map[string]struct {
		hello  []byte
		reason Reason
	}{
		"another allowed host": {helloFor(t, other), OtherName},
		"upper case":           {helloFor(t, "Front.name.test"), OtherName},
		"final dot":            {dot, NoHello},
		"below it":             {helloFor(t, "a."+host), OtherName},
		"above it":             {helloFor(t, "name.test"), OtherName},
		"none":                 {helloFor(t, ""), NoName},
		"an address":           {helloFor(t, "192.0.2.1"), NoName},
		"NUL after it":         {renamed(t, helloFor(t, host+"x"), host+"x", host+"\x00"), OtherName},
		"encrypted second":     {hiding(t, host, other), HiddenName},
		"no TLS":               {[]byte("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"), NoHello},
		"endless":              {bytes.Repeat(append([]byte{22, 3, 1, 0x40, 0}, make([]byte, 0x4000)...), 12), NoHello},
		"version 2":            {[]byte{0x80, 0x2e, 1, 0, 2, 0, 21, 0, 0, 0, 16}, NoHello},
		"an alert first":       {append([]byte{21, 3, 3, 0, 2, 1, 0}, helloFor(t, host)...), NoHello},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := w.host(t, host+".for."+fmt.Sprintf("%p", t)) // never asked for
			s := start(t, config("pinned.name.test", After{Mode: Allow, Allow: []Entry{{Host: "*.name.test", Ports: []uint16{443}, Protocol: TLS}}}))
			s.gate.Dispatched()
			refused(t, s.reach(host, 443), tc.hello)
			s.reason(host, tc.reason)
			if w.was(there) || w.heard(host+".\x00") || w.heard(other) {
				t.Error("it was looked for")
			}
		})
	}
}

// In the mode audit too TLS is to the name that was looked up.
func TestAttackAuditedServerName(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "front.audited.test"
	there := w.host(t, host)
	w.listen(there, 443, echoes)
	s := audited(t, "pinned.audited.test")
	refused(t, s.reach(host, 443), helloFor(t, "behind.audited.test"))
	s.reason(host, OtherName)
	if w.was(there) {
		t.Error("it was reached")
	}
}

// A pinned host is not a front for a name in the encrypted part of a ClientHello, in the mode audit neither.
func TestAttackHiddenName(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const pinned = "pinned.hidden.test"
	there := w.host(t, pinned)
	w.listen(there, 443, echoes)
	s := audited(t, pinned)
	refused(t, s.reach(pinned, 443), hiding(t, pinned, "behind.hidden.test"))
	s.reason(pinned, HiddenName)
	if w.was(there) {
		t.Error("it was reached")
	}
}

// What is not on the list is not there: resolvers that speak TLS or HTTPS, other ports, names around a wildcard.
func TestAttackNotListed(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const listed = "a.cdn.listed.test"
	w.listen(w.host(t, listed), 853, echoes)
	s := start(t, config("pinned.listed.test", After{Mode: Allow, Allow: []Entry{{Host: "*.cdn.listed.test", Ports: []uint16{443}, Protocol: TLS}}}))
	s.gate.Dispatched()
	for _, name := range []string{
		"dns.resolver.test", "one.one.one.one.test", "cdn.listed.test", "evilcdn.listed.test", "a.cdn.listed.test.evil.test", "listed.test", "xn--cdn.listed.test",
		"-.cdn.listed.test", "a..cdn.listed.test", "*.cdn.listed.test", "a_b.cdn.listed.test", "a\\.cdn.listed.test", "cdn.listed.test.", "wpad", "local",
	} {
		n, err := dnsmessage.NewName(name + ".")
		if err != nil {
			t.Fatal(err)
		}
		m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1}, Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
		query, err := m.Pack()
		if err != nil {
			continue // it cannot even be asked
		}
		var answer dnsmessage.Message
		if err := answer.Unpack(s.gate.answer(query)); err != nil || answer.RCode == dnsmessage.RCodeSuccess || len(answer.Answers) > 0 {
			t.Errorf("%s: got %+v, %v", name, answer, err)
		}
	}
	refused(t, s.reach(listed, 853), helloFor(t, listed))
	s.reason(listed, NotAllowed)
}

// A hello that is good, but to a protocol of the list that is another.
func TestAttackOtherProtocol(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	const host = "host.protocol.test"
	there := w.host(t, host)
	w.listen(there, 80, echoes)
	s := allowWeb(t, host)
	for _, send := range [][]byte{
		helloFor(t, host), []byte("SSH-2.0-test\r\n"), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), clientHello(t, &tls.Config{ServerName: host, NextProtos: []string{"h2"}}), //nolint:gosec // a hello only.
	} {
		conn := s.reach(host, 80)
		_, _ = conn.Write(send)
		_, _ = io.ReadAll(conn)
	}
	if w.was(there) {
		t.Error("it was reached")
	}
}
