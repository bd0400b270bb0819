// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/runner/egress"
)

// oneServer is the outside: a TLS server on a unix socket, whatever is asked for.
type oneServer string

func (s oneServer) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", string(s))
}

// serveTLS greets every client.
func serveTLS(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"github.demo.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("unix", path, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("welcome"))
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

// The sandbox reaches a pinned host through the gate in its own network namespace, and no other name.
//
//nolint:paralleltest // see TestGuestRun.
func TestGuestGate(t *testing.T) {
	r := load(t, "gate", "connect", "github.demo.test", "other.demo.test")
	serveTLS(t, "/run/outside.sock")
	ns, err := r.NetNS()
	if err != nil {
		t.Fatal(err)
	}
	gate, err := egress.Open(t.Context(), ns, egress.Config{
		Hosts: []string{"github.demo.test"}, Dialer: oneServer("/run/outside.sock"),
		Limits: egress.Limits{Connections: 8, Bytes: 1 << 20, Hello: 20 * time.Second, Dial: 5 * time.Second, Idle: 20 * time.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = ns.Close()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- gate.Serve(ctx) }()
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	said := r.out.String()
	if !strings.Contains(said, "github.demo.test says welcome") || !strings.Contains(said, "other.demo.test refused: remote error: tls: unrecognized name") {
		t.Errorf("it said:\n%s", said)
	}
	verdicts := gate.Verdicts()
	if len(verdicts) != 2 || !verdicts[0].Allowed || verdicts[1].Reason != egress.NotPinned {
		t.Errorf("got %+v", verdicts)
	}
	t.Logf("%+v", verdicts)
}
