// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"time"
)

// maxHello bounds what is read for one ClientHello: its own bound of 64 KiB, its record headers, and what came with it.
const maxHello = 96 << 10

// encryptedClientHello is the extension that hides a second server name (RFC 9849), or pretends to.
const encryptedClientHello = 0xfe0d

// TLS alerts (RFC 8446, section 6.2) that a refused client can show to a person.
const (
	alertHandshakeFailure = 40
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// hello is what a ClientHello says, and every byte that was read for it.
type hello struct {
	name   string // as the client spelt it
	hidden bool   // another name may stand in an encrypted part
	read   []byte
}

// byServerName carries TLS whose server name is the host's, spelt the same way. The bytes are not touched.
type byServerName struct {
	gate   *Gate
	hidden bool // a name in an encrypted part is let through, and the connection is recorded as opaque
}

func (b byServerName) carry(ctx context.Context, f *flow) {
	if err := f.client.SetDeadline(time.Now().Add(b.gate.config.Limits.Hello)); err != nil {
		return
	}
	h, err := peek(ctx, &replayed{Conn: f.client, first: f.first})
	f.first = h.read
	reason := Reason("")
	alert := byte(alertUnrecognizedName)
	switch {
	case err != nil:
		reason, alert = NoHello, alertHandshakeFailure
	case h.name == "":
		reason = NoName
	case h.name != f.host:
		reason = OtherName
	case h.hidden && b.hidden:
		f.protocol = Opaque
	case h.hidden:
		reason = HiddenName
	}
	if reason != "" {
		b.gate.ledger.deny(f.site, reason)
		refuse(f.client, alert)
		return
	}
	upstream, err := b.gate.connect(ctx, f)
	if err != nil {
		refuse(f.client, alertInternalError)
		return
	}
	b.gate.splice(ctx, f, upstream)
}

// errPeeked stops the handshake once the ClientHello is known.
var errPeeked = errors.New("peeked")

// peek reads a ClientHello with the parser of crypto/tls. It writes nothing.
func peek(ctx context.Context, conn net.Conn) (h hello, err error) {
	rec := &recorder{Conn: conn}
	seen := false
	server := tls.Server(rec, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(said *tls.ClientHelloInfo) (*tls.Config, error) {
			seen = true
			h.name, h.hidden = said.ServerName, slices.Contains(said.Extensions, encryptedClientHello)
			return nil, errPeeked
		},
	})
	if err := server.HandshakeContext(ctx); !seen || !errors.Is(err, errPeeked) {
		return hello{}, errors.New("no ClientHello")
	}
	h.read = rec.read.Bytes()
	return h, nil
}

// recorder keeps what is read, up to a bound, and swallows what is written.
type recorder struct {
	net.Conn
	read bytes.Buffer
}

// Read implements [net.Conn].
func (r *recorder) Read(p []byte) (int, error) {
	left := maxHello - r.read.Len()
	if left <= 0 {
		return 0, errors.New("the ClientHello is too long")
	}
	n, err := r.Conn.Read(p[:min(len(p), left)])
	r.read.Write(p[:n])
	return n, err
}

// Write implements [net.Conn].
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }

// Close implements [net.Conn].
func (r *recorder) Close() error { return nil }

// SetWriteDeadline implements [net.Conn].
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }

// replayed is a connection whose first bytes were read before.
type replayed struct {
	net.Conn
	first []byte
}

// Read implements [net.Conn].
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// refuse sends a fatal alert in a record of its own. The client's answer is of no interest.
func refuse(client net.Conn, alert byte) {
	const fatal, alertRecord = 2, 21
	_ = client.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = client.Write([]byte{alertRecord, 3, 3, 0, 2, fatal, alert})
	_ = closeWrite(client)
}
