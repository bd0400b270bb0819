// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"cmp"
	"slices"
	"sync"
)

// Reason is why a connection was denied.
type Reason string

// The reasons.
const (
	NoHello     Reason = "no TLS ClientHello"
	NoName      Reason = "no usable server name"
	NotPinned   Reason = "host not pinned"
	Unreachable Reason = "host not reachable"
	TooMany     Reason = "too many connections"
	OverBudget  Reason = "byte budget used up"
)

// maxDenied bounds how many names of the client's choice are kept; the rest is counted under no name.
const maxDenied = 256

// Verdict sums up the connections that were judged alike.
type Verdict struct {
	Host        string // empty when the client named none, or too many
	Allowed     bool
	Reason      Reason // empty when allowed
	Connections uint64
	Sent        uint64 // bytes from the sandbox to the host
	Received    uint64 // bytes from the host to the sandbox
}

type ledgerKey struct {
	host   string
	reason Reason
}

// ledger counts. Its entries never go away.
type ledger struct {
	mu      sync.Mutex
	entries map[ledgerKey]*Verdict
	denied  int   // entries that are denials
	left    int64 // bytes that may still be carried
}

func newLedger(bytes int64) *ledger {
	return &ledger{entries: map[ledgerKey]*Verdict{}, left: bytes}
}

func (l *ledger) deny(host string, reason Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := ledgerKey{host, reason}
	if l.entries[key] == nil {
		if l.denied >= maxDenied {
			key.host = ""
		}
		l.denied++
	}
	l.entry(key).Connections++
}

// account is the running count of one connection.
type account struct {
	ledger *ledger
	entry  *Verdict
}

func (l *ledger) allow(host string) account {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entry(ledgerKey{host: host})
	e.Allowed = true
	e.Connections++
	return account{l, e}
}

// entry finds or makes an entry; mu is held.
func (l *ledger) entry(key ledgerKey) *Verdict {
	e := l.entries[key]
	if e == nil {
		e = &Verdict{Host: key.host, Reason: key.reason}
		l.entries[key] = e
	}
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

// Verdicts sums up what happened so far, running connections included, sorted by host and reason.
func (g *Gate) Verdicts() []Verdict {
	g.ledger.mu.Lock()
	defer g.ledger.mu.Unlock()
	all := make([]Verdict, 0, len(g.ledger.entries))
	for _, e := range g.ledger.entries {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b Verdict) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// Hosts gives the bytes carried so far, both ways together, for every host that was let through.
func (g *Gate) Hosts() map[string]uint64 {
	hosts := map[string]uint64{}
	for _, v := range g.Verdicts() {
		if v.Allowed {
			hosts[v.Host] += v.Sent + v.Received
		}
	}
	return hosts
}
