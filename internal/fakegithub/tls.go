// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// certificateLife is how long the throw-away certificates last.
const certificateLife = 30 * 24 * time.Hour

// Authority is a throw-away certificate authority (P-256) with one leaf for all names of a server. Its key is dropped once the
// leaf is signed.
type Authority struct {
	root *x509.Certificate
	leaf tls.Certificate
	tls  []string
}

// NewAuthority makes an authority and a leaf for DNS names and the loopback addresses.
func NewAuthority(names []string, now time.Time) (*Authority, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating authority key: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "fakegithub throw-away root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateLife), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("signing authority: %w", err)
	}
	root, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("parsing authority: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating leaf key: %w", err)
	}
	all := append(slices.Clone(names), "localhost")
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: all[0]}, DNSNames: all,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), caKey)
	if err != nil {
		return nil, fmt.Errorf("signing leaf: %w", err)
	}
	return &Authority{root: root, leaf: tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}, tls: all}, nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

// PEM returns the root certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Pool returns a pool that holds the root certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// TLS serves the leaf for the authority's names and refuses a handshake for any other.
func (a *Authority) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != "" && !slices.Contains(a.tls, strings.ToLower(hello.ServerName)) {
				return nil, fmt.Errorf("no certificate for %s", hello.ServerName)
			}
			return &a.leaf, nil
		},
	}
}

// Serve answers on a listener until [Server.Close], over TLS when an authority is given. It returns at once.
func (s *Server) Serve(l net.Listener, a *Authority) {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	if a != nil {
		l = tls.NewListener(l, a.TLS())
	}
	s.mu.Lock()
	s.serving = append(s.serving, srv)
	s.mu.Unlock()
	go func() {
		if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.log.ErrorContext(context.Background(), "serving ended", "error", err)
		}
	}()
}

// Client returns a client that trusts the authority alone and reaches every name at one address, as a test on this machine
// needs it where no resolver knows the names.
func (a *Authority) Client(addr net.Addr) *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: a.Pool(), MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, addr.String())
		},
	}}
}
