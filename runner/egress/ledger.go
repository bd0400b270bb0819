// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"cmp"
	"slices"
	"sync"
)

// Reason is why something was denied.
type Reason string

// The reasons.
const (
	RawAddress     Reason = "address that no name was given"
	NotAllowed     Reason = "host or port not allowed"
	NoHello        Reason = "no TLS ClientHello"
	NoName         Reason = "no usable host name"
	OtherName      Reason = "server name is not the host's"
	HiddenName     Reason = "encrypted ClientHello"
	NoRequest      Reason = "no HTTP request"
	OtherHost      Reason = "request for another host"
	Tunnel         Reason = "request to change the protocol"
	SpecialPurpose Reason = "special-purpose address"
	Unreachable    Reason = "host not reachable"
	TooMany        Reason = "too many connections"
	TooManyNames   Reason = "too many names"
	TooFast        Reason = "too many questions at once"
	OverBudget     Reason = "byte budget used up"
)

// Bounds of what is kept. What goes beyond is counted without a host.
const (
	maxAllowed = 1024
	maxDenied  = 256
)

// Verdict sums up the connections, or the DNS questions, that were judged alike.
type Verdict struct {
	Host        string // a name, or the text of an address; empty when there was none, or there were too many
	Port        uint16 // zero when there were too many hosts
	Protocol    Protocol
	Allowed     bool
	Reason      Reason // empty when allowed
	Connections uint64
	Sent        uint64 // bytes from the sandbox to the host
	Received    uint64 // bytes from the host to the sandbox
}

// site is where a connection goes, and how.
type site struct {
	host     string
	port     uint16
	protocol Protocol
}

type ledgerKey struct {
	site
	reason Reason
}

// ledger counts. Its entries never go away.
type ledger struct {
	mu              sync.Mutex
	entries         map[ledgerKey]*Verdict
	allowed, denied int   // entries of either kind
	left            int64 // bytes that may still be carried
}

func newLedger(bytes int64) *ledger {
	return &ledger{entries: map[ledgerKey]*Verdict{}, left: bytes}
}

func (l *ledger) deny(where site, reason Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entry(ledgerKey{where, reason}, &l.denied, maxDenied).Connections++
}

// account is the running count of one connection.
type account struct {
	ledger *ledger
	entry  *Verdict
}

func (l *ledger) allow(where site) account {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(ledgerKey{site: where}, &l.allowed, maxAllowed)
	e.Connections++
	return account{l, e}
}

// entry finds or makes an entry of a kind of which there are count and may be most; mu is held.
func (l *ledger) entry(key ledgerKey, count *int, most int) *Verdict {
	if e := l.entries[key]; e != nil {
		return e
	}
	if *count >= most {
		key.host, key.port = "", 0
		if e := l.entries[key]; e != nil {
			return e
		}
	}
	*count++
	e := &Verdict{Host: key.host, Port: key.port, Protocol: key.protocol, Allowed: key.reason == "", Reason: key.reason}
	l.entries[key] = e
	return e
}

// spend takes n bytes from the budget before they are carried and counts them; false means that the budget is used up.
func (a account) spend(n int, sent bool) bool {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	if int64(n) > a.ledger.left {
		return false
	}
	a.ledger.left -= int64(n)
	if sent {
		a.entry.Sent += uint64(n) //nolint:gosec // a length.
	} else {
		a.entry.Received += uint64(n) //nolint:gosec // a length.
	}
	return true
}

// Verdicts sums up what happened so far, running connections included, sorted by host, port, protocol and reason.
func (g *Gate) Verdicts() []Verdict {
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	all := make([]Verdict, 0, len(g.ledger.entries))
	for _, e := range g.ledger.entries {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// Hosts gives the bytes carried so far, both ways together, for every host that was let through. The empty name stands
// for those that were too many.
func (g *Gate) Hosts() map[string]uint64 {
	hosts := map[string]uint64{}
	for _, v := range g.Verdicts() {
		if v.Allowed {
			hosts[v.Host] += v.Sent + v.Received
		}
	}
	return hosts
}
