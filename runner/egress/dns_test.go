// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestAnswer(t *testing.T) {
	t.Parallel()
	g := newGate(config("pinned.test", After{Mode: Allow, Allow: []Entry{{Host: "*.wild.test", Ports: []uint16{443}, Protocol: TLS}}}))
	ask := func(name string, kind dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(question(t, name, kind)); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(&m)
		}
		out, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	again := func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }
	for _, tc := range []struct {
		name  string
		query []byte
		code  dnsmessage.RCode
		want  string // the answer
	}{
		{"pinned", ask("pinned.test", dnsmessage.TypeA, nil), dnsmessage.RCodeSuccess, "198.18.0.1"},
		{"upper case", ask("PINNED.Test", dnsmessage.TypeA, nil), dnsmessage.RCodeSuccess, "198.18.0.1"},
		{"IPv6", ask("pinned.test", dnsmessage.TypeAAAA, nil), dnsmessage.RCodeSuccess, ""},
		{"HTTPS", ask("pinned.test", dnsmessage.Type(65), nil), dnsmessage.RCodeSuccess, ""},
		{"SVCB", ask("pinned.test", dnsmessage.Type(64), nil), dnsmessage.RCodeSuccess, ""},
		{"TXT", ask("pinned.test", dnsmessage.TypeTXT, nil), dnsmessage.RCodeSuccess, ""},
		{"ANY", ask("pinned.test", dnsmessage.TypeALL, nil), dnsmessage.RCodeSuccess, ""},
		{"not allowed yet", ask("a.wild.test", dnsmessage.TypeA, nil), dnsmessage.RCodeNameError, ""},
		{"not allowed yet, IPv6", ask("a.wild.test", dnsmessage.TypeAAAA, nil), dnsmessage.RCodeNameError, ""},
		{"not allowed", ask("other.test", dnsmessage.TypeTXT, nil), dnsmessage.RCodeNameError, ""},
		{"below a pinned one", ask("a.pinned.test", dnsmessage.TypeA, nil), dnsmessage.RCodeNameError, ""},
		{"one label", ask("localhost", dnsmessage.TypeA, nil), dnsmessage.RCodeNameError, ""},
		{"an address", ask("1.2.3.4", dnsmessage.TypeA, nil), dnsmessage.RCodeNameError, ""},
		{"no host name", ask("a_b.test", dnsmessage.TypeA, nil), dnsmessage.RCodeNameError, ""},
		{"class CHAOS", ask("pinned.test", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }), dnsmessage.RCodeNotImplemented, ""},
		{"update", ask("pinned.test", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.OpCode = 5 }), dnsmessage.RCodeNotImplemented, ""},
		{"two questions", ask("pinned.test", dnsmessage.TypeA, again), dnsmessage.RCodeFormatError, ""},
		{"no question", ask("pinned.test", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = nil }), dnsmessage.RCodeFormatError, ""},
	} {
		var m dnsmessage.Message
		if err := m.Unpack(g.answer(tc.query)); err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got := ""
		for _, a := range m.Answers {
			got += netip.AddrFrom4(a.Body.(*dnsmessage.AResource).A).String() //nolint:forcetypeassert // nothing else is given.
			if a.Header.TTL != answerTTL {
				t.Errorf("%s: time to live %d", tc.name, a.Header.TTL)
			}
		}
		if m.ID != 4711 || !m.Response || m.RCode != tc.code || got != tc.want {
			t.Errorf("%s: got %+v, %q", tc.name, m.Header, got)
		}
	}
	for name, message := range map[string][]byte{
		"nothing": nil, "half a header": {1, 2, 3}, "an answer": ask("pinned.test", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Response = true }),
	} {
		if got := g.answer(message); got != nil {
			t.Errorf("%s: got %x", name, got)
		}
	}
	refused := map[string]uint64{}
	for _, v := range g.Verdicts() {
		if v.Allowed || v.Protocol != DNS || v.Port != 53 {
			t.Errorf("got %+v", v)
		}
		refused[v.Host+"/"+string(v.Reason)] = v.Connections
	}
	want := map[string]uint64{
		"a.wild.test/" + string(NotAllowed): 2, "other.test/" + string(NotAllowed): 1, "a.pinned.test/" + string(NotAllowed): 1, "/" + string(NoName): 3,
	}
	if fmt.Sprint(refused) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", refused, want)
	}
	g.Dispatched()
	var m dnsmessage.Message
	if err := m.Unpack(g.answer(question(t, "a.wild.test", dnsmessage.TypeA))); err != nil || len(m.Answers) != 1 {
		t.Errorf("after the dispatch: %+v, %v", m, err)
	}
}

// Both transports answer the same, whatever address was asked.
func TestTransports(t *testing.T) {
	t.Parallel()
	const name = "pinned.transports.test"
	s := start(t, config(name, After{Mode: None}))
	for _, address := range []string{"100.96.0.1:53", "8.8.8.8:53", "198.18.0.1:53"} {
		for _, network := range []string{"udp", "tcp"} {
			conn, err := s.dial(network, address)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if m := exchange(t, conn, question(t, name, dnsmessage.TypeA)); len(m.Answers) != 1 {
					t.Errorf("%s %s: got %+v", network, address, m)
				}
			}
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	n := newNames()
	seen := map[netip.Addr]bool{}
	for i := range maxNames {
		a, ok := n.address(fmt.Sprintf("h%d.test", i))
		if !ok || seen[a] || !netip.MustParsePrefix("198.18.0.0/15").Contains(a) {
			t.Fatalf("%d: got %v, %v", i, a, ok)
		}
		seen[a] = true
	}
	if a, ok := n.address("more.test"); ok {
		t.Errorf("got %v", a)
	}
	first, ok := n.address("h0.test")
	if name, known := n.name(first); !ok || !known || name != "h0.test" {
		t.Errorf("got %v, %q", first, name)
	}
	if name, ok := n.name(netip.MustParseAddr("198.19.255.255")); ok {
		t.Errorf("got %q", name)
	}
}

// FuzzAnswer: whatever a sandbox sends, an answer is a DNS message to the same question, and small.
func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"pinned.test", "PINNED.test", "other.test", "a_b", strings.Repeat("a.", 120) + "test"} {
		f.Add(question(f, name, dnsmessage.TypeA))
	}
	f.Add(append(question(f, "pinned.test", dnsmessage.TypeA), 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0))
	g := newGate(config("pinned.test", After{Mode: None}))
	f.Fuzz(func(t *testing.T, message []byte) {
		out := g.answer(message)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Fatalf("%x: %v", out, err)
		}
		if len(out) > 512 || !m.Response || m.ID != binary.BigEndian.Uint16(message) || len(m.Answers) > 1 || len(m.Questions) > 1 {
			t.Fatalf("got %+v", m)
		}
		if len(m.Answers) == 1 && !strings.EqualFold(m.Questions[0].Name.String(), "pinned.test.") {
			t.Fatalf("got %+v", m)
		}
	})
}
