// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// greeter is a TLS server of the world that says the server name it was called by, and the pool that trusts it.
func greeter(t testing.TB, names ...string) (func(net.Conn), *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	config := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	return func(c net.Conn) {
		conn := tls.Server(c, config)
		if err := conn.Handshake(); err == nil { //nolint:noctx // the connection ends with the test.
			_, _ = io.WriteString(conn, "you called "+conn.ConnectionState().ServerName)
			_ = conn.Close()
		}
	}, pool
}

// greet shakes hands through a connection and reads what the server says.
func greet(conn net.Conn, name string, pool *x509.CertPool) (string, error) {
	c := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: name, RootCAs: pool})
	if err := c.Handshake(); err != nil { //nolint:noctx // the connection has a deadline.
		return "", err
	}
	got, err := io.ReadAll(c)
	return string(got), err
}

// clientHello is a genuine ClientHello in one record.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		config.InsecureSkipVerify = true           //nolint:gosec // it never completes.
		_ = tls.Client(theirs, config).Handshake() //nolint:noctx // it never completes.
		_ = theirs.Close()
	}()
	header := make([]byte, 5)
	if _, err := io.ReadFull(ours, header); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(binary.BigEndian.Uint16(header[3:])))
	if _, err := io.ReadFull(ours, body); err != nil {
		t.Fatal(err)
	}
	_ = ours.Close()
	<-done
	return append(header, body...)
}

func helloFor(t testing.TB, name string) []byte {
	t.Helper()
	return clientHello(t, &tls.Config{ServerName: name}) //nolint:gosec // a hello only.
}

// renamed changes the server name inside a ClientHello to another of the same length, which the client would not send.
func renamed(t testing.TB, hello []byte, from, to string) []byte {
	t.Helper()
	if len(from) != len(to) || strings.Count(string(hello), from) != 1 {
		t.Fatalf("%q cannot become %q", from, to)
	}
	return []byte(strings.Replace(string(hello), from, to, 1))
}

// hiding is a genuine ClientHello to name with another name in its encrypted part.
func hiding(t testing.TB, name, hidden string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	vector := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) } //nolint:gosec // short.
	contents := slices.Concat(
		[]byte{7, 0, 0x20}, vector(key.PublicKey().Bytes()), vector([]byte{0, 1, 0, 1}), // X25519, HKDF-SHA256, AES-128-GCM
		[]byte{32, byte(len(name))}, []byte(name), vector(nil), //nolint:gosec // short.
	)
	list := vector(slices.Concat([]byte{0xfe, 0x0d}, vector(contents)))
	return clientHello(t, &tls.Config{MinVersion: tls.VersionTLS13, ServerName: hidden, EncryptedClientHelloConfigList: list})
}
