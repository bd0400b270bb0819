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
	"sync/atomic"
	"time"
)

// certificateLife is how long the throw-away certificates last.
const certificateLife = 30 * 24 * time.Hour

// Flaw is what is wrong with the certificate that an [Authority] presents.
type Flaw int32

// The flaws.
const (
	Sound            Flaw = iota // nothing
	Expired                      // over since an hour before the authority was made
	NotYetValid                  // begins a year after the authority was made
	WrongName                    // for another DNS name
	UnknownAuthority             // of another authority, which nobody trusts
	NoHandshake                  // none: the handshake is refused
)

// Authority is a throw-away certificate authority (P-256) with one leaf for all names of a server, and one more for each [Flaw].
// Its key is dropped once the leaves are signed. It is safe for concurrent use.
type Authority struct {
	root   *x509.Certificate
	leaves map[Flaw]tls.Certificate
	tls    []string
	flaw   atomic.Int32
}

// signer is an authority while it still has its key.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newSigner(now time.Time) (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating authority key: %w", err)
	}
	ca := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "fakegithub throw-away root"},
		NotBefore: now.Add(-2 * certificateLife), NotAfter: now.Add(certificateLife), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing authority: %w", err)
	}
	root, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("parsing authority: %w", err)
	}
	return &signer{root, key}, nil
}

// leaf signs a certificate for names and the loopback addresses; without names it is for one that nobody asks for.
func (s *signer) leaf(names []string, begins, ends time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("generating leaf key: %w", err)
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "fakegithub"}, DNSNames: names, NotBefore: begins, NotAfter: ends,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if len(names) == 0 {
		leaf.DNSNames = []string{"elsewhere.invalid"}
	} else {
		leaf.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, s.cert, key.Public(), s.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing leaf: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, nil
}

// NewAuthority makes an authority and its leaves for DNS names and the loopback addresses.
func NewAuthority(names []string, now time.Time) (*Authority, error) {
	own, err := newSigner(now)
	if err != nil {
		return nil, err
	}
	stranger, err := newSigner(now)
	if err != nil {
		return nil, err
	}
	all := append(slices.Clone(names), "localhost")
	begins, ends := now.Add(-time.Hour), now.Add(certificateLife)
	a := &Authority{root: own.cert, leaves: map[Flaw]tls.Certificate{}, tls: all}
	for _, l := range []struct {
		flaw         Flaw
		by           *signer
		names        []string
		begins, ends time.Time
	}{
		{Sound, own, all, begins, ends},
		{Expired, own, all, now.Add(-certificateLife), begins},
		{NotYetValid, own, all, now.AddDate(1, 0, 0), now.AddDate(2, 0, 0)},
		{WrongName, own, nil, begins, ends},
		{UnknownAuthority, stranger, all, begins, ends},
	} {
		if a.leaves[l.flaw], err = l.by.leaf(l.names, l.begins, l.ends); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Present says which certificate new connections get. Those that are open stay open.
func (a *Authority) Present(f Flaw) { a.flaw.Store(int32(f)) }

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

// TLS serves the leaf that [Authority.Present] chose for the authority's names and refuses a handshake for any other.
func (a *Authority) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != "" && !slices.Contains(a.tls, strings.ToLower(hello.ServerName)) {
				return nil, fmt.Errorf("no certificate for %s", hello.ServerName)
			}
			leaf, ok := a.leaves[Flaw(a.flaw.Load())]
			if !ok {
				return nil, errors.New("no certificate at all")
			}
			return &leaf, nil
		},
	}
}

// Serve answers on a listener until [Server.Close], over TLS when an authority is given. It returns at once.
func (s *Server) Serve(l net.Listener, a *Authority) { s.ServeWith(l, a, s) }

// ServeWith is [Server.Serve] with a handler in the server's place, such as one that wraps it.
func (s *Server) ServeWith(l net.Listener, a *Authority, h http.Handler) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
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
