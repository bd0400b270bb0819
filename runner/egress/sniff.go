// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"strings"
	"time"
)

const (
	// sniffWait is how long a client may be silent before the host is let to speak first.
	sniffWait = 500 * time.Millisecond
	// sniffBytes decide every protocol that is known.
	sniffBytes = 8
)

// bySight carries a connection as what its first bytes look like.
type bySight struct{ gate *Gate }

func (b bySight) carry(ctx context.Context, f *flow) {
	if err := f.client.SetDeadline(time.Now().Add(sniffWait)); err != nil {
		return
	}
	buf := make([]byte, sniffBytes)
	protocol, decided := sight(nil)
	n := 0
	for !decided && n < len(buf) {
		more, err := f.client.Read(buf[n:])
		n += more
		protocol, decided = sight(buf[:n])
		if err != nil {
			break // the end, or silence: it goes on as what was seen
		}
	}
	f.first, f.protocol = buf[:n], protocol
	if protocol == TLS {
		byServerName{gate: b.gate, hidden: true}.carry(ctx, f)
		return
	}
	if h := b.gate.handler(protocol); h != nil {
		h.carry(ctx, f)
	}
}

// sight says what first bytes look like, and whether more of them could change that. TCP is what looks like nothing.
func sight(first []byte) (p Protocol, decided bool) {
	const handshake, version = 22, 3 // RFC 8446, section 5.1
	switch {
	case len(first) == 0 || len(first) == 1 && first[0] == handshake:
		return TCP, false
	case first[0] == handshake && first[1] == version:
		return TLS, true
	}
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "PATCH ", "DELETE ", "OPTIONS ", "CONNECT ", "TRACE "} {
		switch text := string(first[:min(len(first), len(method))]); {
		case text == method:
			return HTTP, true
		case strings.HasPrefix(method, text):
			return TCP, false
		}
	}
	return TCP, true
}
