// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"
)

const (
	maxName  = 253      // bytes of a DNS name (RFC 1035, section 2.3.4)
	maxHello = 96 << 10 // bytes read for one ClientHello: its own bound of 64 KiB, its record headers, and what came with it
)

// TLS alerts (RFC 8446, section 6.2) that a refused client can show to a person.
const (
	alertHandshakeFailure = 40
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// deniedError is why a connection is refused, and what the client is told.
type deniedError struct {
	reason Reason
	alert  byte
}

func (e deniedError) Error() string { return string(e.reason) }

// errPeeked stops the handshake once the ClientHello is known.
var errPeeked = errors.New("peeked")

// peek reads a ClientHello with the parser of crypto/tls and returns its server name in lower case and every byte that it
// read from conn. It writes nothing.
func peek(ctx context.Context, conn net.Conn) (name string, read []byte, err error) {
	rec := &recorder{Conn: conn}
	seen := false
	server := tls.Server(rec, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			seen, name = true, hello.ServerName
			return nil, errPeeked
		},
	})
	if err := server.HandshakeContext(ctx); !seen || !errors.Is(err, errPeeked) {
		return "", nil, deniedError{NoHello, alertHandshakeFailure}
	}
	if name == "" {
		return "", nil, deniedError{NoName, alertUnrecognizedName}
	}
	name = strings.ToLower(name)
	if len(name) > maxName || !hostPattern.MatchString(name) {
		return "", nil, deniedError{NoName, alertUnrecognizedName}
	}
	return name, rec.read.Bytes(), nil
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

// refuse sends a fatal alert in a record of its own. The client's answer is of no interest.
func refuse(client net.Conn, alert byte) {
	const fatal, alertRecord = 2, 21
	_ = client.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = client.Write([]byte{alertRecord, 3, 3, 0, 2, fatal, alert})
}
