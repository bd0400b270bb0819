// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Mode is how much is open after the dispatch.
type Mode string

// The modes.
const (
	None  Mode = "none"  // nothing beside the pinned hosts
	Allow Mode = "allow" // what is listed
	Audit Mode = "audit" // any name and port, recorded
)

// Protocol is how a connection is carried. An [Entry] demands one of the first three; the others only stand in verdicts.
type Protocol string

// The protocols.
const (
	TLS  Protocol = "tls"  // the server name of the ClientHello equals the host; the bytes are not touched
	HTTP Protocol = "http" // each request is parsed, and its Host equals the host
	TCP  Protocol = "tcp"  // the bytes are not looked at

	Opaque Protocol = "opaque" // verdict: carried without a look
	DNS    Protocol = "dns"    // verdict: a question that was answered with no

	sniffed Protocol = "sniffed" // decided by the first bytes
)

const (
	maxName   = 253 // bytes of a DNS name (RFC 1035, section 2.3.4)
	portHTTPS = 443
	portHTTP  = 80
	portDNS   = 53
)

// Entry opens ports of one host, or of every name below a suffix.
type Entry struct {
	Host     string // exact, or "*." and a suffix, which stands for names of one or more labels before it
	Ports    []uint16
	Protocol Protocol
}

// After is what is open after the dispatch.
type After struct {
	Mode  Mode
	Allow []Entry // with the mode allow, and only with it
}

// Rules say what the gate lets through. The pinned hosts are open in both phases, with TLS on port 443 and nothing else.
type Rules struct {
	Pinned []string // exact names, lower case
	After  After
}

var (
	hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
	// numericEnd finds what some resolvers read as an IPv4 address in disguise: "1.2.3.4", "10.1", "0x7f.0x1".
	numericEnd = regexp.MustCompile(`\.([0-9]+|0x[0-9a-f]*)$`)
)

// isHost says whether name is a host name of two or more labels, in lower case, and no address.
func isHost(name string) bool {
	return len(name) <= maxName && hostPattern.MatchString(name) && !numericEnd.MatchString(name)
}

// Validate names everything that is missing or wrong.
func (r Rules) Validate() error {
	var errs []error
	if len(r.Pinned) == 0 {
		errs = append(errs, errors.New("pinned: want at least one host"))
	}
	for _, h := range r.Pinned {
		if !isHost(h) {
			errs = append(errs, fmt.Errorf("pinned %q: want a lower-case DNS name", h))
		}
	}
	switch r.After.Mode {
	case None, Audit:
		if len(r.After.Allow) > 0 {
			errs = append(errs, fmt.Errorf("after: mode %s has no list", r.After.Mode))
		}
	case Allow:
		if len(r.After.Allow) == 0 {
			errs = append(errs, errors.New("after: mode allow wants at least one entry"))
		}
	default:
		errs = append(errs, fmt.Errorf("after: mode %q is not known", r.After.Mode))
	}
	return errors.Join(append(errs, r.validateEntries()...)...)
}

func (r Rules) validateEntries() (errs []error) {
	type door struct {
		host string
		port uint16
	}
	seen := map[door]bool{}
	for i, e := range r.After.Allow {
		fault := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("after.allow[%d] %q: %w", i, e.Host, fmt.Errorf(format, args...)))
		}
		if !isHost(strings.TrimPrefix(e.Host, "*.")) {
			fault(`want a lower-case DNS name, or "*." before one`)
		}
		if slices.Contains(r.Pinned, e.Host) {
			fault("a pinned host has no further rule")
		}
		if e.Protocol != TLS && e.Protocol != HTTP && e.Protocol != TCP {
			fault("protocol %q is not known", e.Protocol)
		}
		if len(e.Ports) == 0 {
			fault("ports: want at least one")
		}
		for _, p := range e.Ports {
			switch {
			case p == 0:
				fault("port 0 cannot be connected to")
			case p == portDNS:
				fault("port 53 is the gate's own")
			case seen[door{e.Host, p}]:
				fault("port %d stands there twice", p)
			}
			seen[door{e.Host, p}] = true
		}
	}
	return errs
}

// matches says whether the entry is about a name.
func (e Entry) matches(name string) bool {
	if suffix, ok := strings.CutPrefix(e.Host, "*"); ok {
		return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	}
	return e.Host == name
}

// protocol is how name's port may be reached in a phase; false means not at all.
func (r Rules) protocol(name string, port uint16, dispatched bool) (Protocol, bool) {
	if slices.Contains(r.Pinned, name) {
		return TLS, port == portHTTPS
	}
	if !dispatched || port == 0 || port == portDNS {
		return "", false
	}
	switch r.After.Mode {
	case Audit:
		return sniffed, true
	case Allow:
		for _, e := range r.After.Allow {
			if e.matches(name) && slices.Contains(e.Ports, port) {
				return e.Protocol, true
			}
		}
	case None:
	}
	return "", false
}

// open says whether any port of name may be reached in a phase.
func (r Rules) open(name string, dispatched bool) bool {
	if slices.Contains(r.Pinned, name) {
		return true
	}
	return dispatched && (r.After.Mode == Audit ||
		r.After.Mode == Allow && slices.ContainsFunc(r.After.Allow, func(e Entry) bool { return e.matches(name) }))
}
