// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"net/netip"
	"sync"
)

// maxNames bounds how many names have an address. It is far below the size of the range.
const maxNames = 16384

// names gives each name an address of its own that no host has: 198.18.0.0/15, kept for benchmarks (RFC 2544). An
// address stays with its name as long as the gate lives, so that a connection to it can only mean that name.
type names struct {
	mu     sync.Mutex
	byName map[string]netip.Addr
	byAddr map[netip.Addr]string
	next   netip.Addr
}

func newNames() *names {
	return &names{byName: map[string]netip.Addr{}, byAddr: map[netip.Addr]string{}, next: netip.AddrFrom4([4]byte{198, 18, 0, 1})}
}

// address gives name's address; false means that there are too many names.
func (n *names) address(name string) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a, ok := n.byName[name]; ok {
		return a, true
	}
	if len(n.byName) >= maxNames {
		return netip.Addr{}, false
	}
	a := n.next
	n.next = a.Next()
	n.byName[name], n.byAddr[a] = a, name
	return a, true
}

// name gives the name that an address was given to.
func (n *names) name(a netip.Addr) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name, ok := n.byAddr[a]
	return name, ok
}
