// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/dispatch/admission/admissiontest"
	client "github.com/kettle/attest/runner/admission"
)

// port is a gate that serves over TLS.
type port struct {
	*gate
	url   string
	roots *x509.CertPool
}

func (g *gate) open() *port {
	g.t.Helper()
	cert, key := filepath.Join(g.dir, "tls.pem"), filepath.Join(g.dir, "tls.key")
	must(g.t, admission.SelfSign(cert, key, []string{"127.0.0.1", "localhost"}, g.now()))
	c, err := admission.LoadCertificate(cert, key, g.now, slog.New(slog.DiscardHandler))
	must(g.t, err)
	l, err := (&net.ListenConfig{}).Listen(g.t.Context(), "tcp", "127.0.0.1:0")
	must(g.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(ctx, l, c.Get) }()
	g.t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			g.t.Error(err)
		}
	})
	text, err := os.ReadFile(cert) //nolint:gosec // the test's own.
	must(g.t, err)
	p := &port{gate: g, url: "https://" + l.Addr().String(), roots: x509.NewCertPool()}
	p.roots.AppendCertsFromPEM(text)
	return p
}

func (p *port) client() *client.Client {
	p.t.Helper()
	c, err := client.New(client.Config{
		URL: p.url, Roots: p.roots, Operators: [][]byte{p.key.SPKI()}, Prefix: admissiontest.Prefix, Tolerance: time.Minute, Now: p.now,
	})
	must(p.t, err)
	return c
}

// TestBothSides has the real client ask the real server over TLS.
func TestBothSides(t *testing.T) {
	t.Parallel()
	p := newGate(t, nil, nil).open()
	m := p.boot(nil)
	c := p.client()
	line, err := c.Admit(t.Context(), m)
	must(t, err)
	r, ok := c.Released()
	if !ok || r.Credential.Token.Reveal() != releasedToken || len(line) == 0 || r.Summary.Summary.Policy.Digest.IsZero() {
		t.Errorf("%+v", r)
	}
	if _, err := p.client().Admit(t.Context(), m); !errors.Is(err, refusal.ErrPolicy) {
		t.Errorf("a second time: %v", err)
	}
}

// TestAttackPlain speaks without TLS, and with an old one.
func TestAttackPlain(t *testing.T) {
	t.Parallel()
	p := newGate(t, nil, nil).open()
	resp, err := http.Post("http://"+p.url[len("https://"):]+wire.PathChallenge, wire.MediaJSON, nil) //nolint:noctx,gosec // the attack.
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			t.Error("it answers in the clear")
		}
	}
}

// TestMany admits a thousand machines at once over TLS, each with a connection of its own. Its log has the figures for
// docs/performance.md.
func TestMany(t *testing.T) {
	const machines = many
	p := newGate(t, nil, nil).open()
	all := make([]*admissiontest.Machine, machines)
	for i := range all {
		all[i] = p.boot(nil)
	}
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	peak := make(chan uint64)
	done := make(chan struct{})
	go func() {
		var most uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var now runtime.MemStats
			runtime.ReadMemStats(&now)
			most = max(most, now.HeapInuse+now.StackInuse)
			select {
			case <-tick.C:
			case <-done:
				peak <- most
				return
			}
		}
	}()
	took, errs := make([]time.Duration, machines), make([]error, machines)
	began := time.Now()
	var group sync.WaitGroup
	for i, m := range all {
		group.Go(func() {
			start := time.Now()
			_, errs[i] = p.client().Admit(t.Context(), m)
			took[i] = time.Since(start)
		})
	}
	group.Wait()
	whole := time.Since(began)
	close(done)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(p.dir, "ledger"))
	must(t, err)
	if len(files) != 2*machines || p.issuer.issued != machines {
		t.Errorf("%d files in the ledger, %d credentials", len(files), p.issuer.issued)
	}
	slices.Sort(took)
	t.Logf("%d machines in %s: %.0f a second; 50%% in %s, 99%% in %s; heap and stacks at most %d MiB, of both sides, %d MiB before",
		machines, whole.Round(time.Millisecond), float64(machines)/whole.Seconds(), took[machines/2].Round(time.Millisecond),
		took[machines*99/100].Round(time.Millisecond), <-peak>>20, (before.HeapInuse+before.StackInuse)>>20)
}

// TestBusy: what does not fit into memory waits, and is told to come again when that takes too long.
func TestBusy(t *testing.T) {
	t.Parallel()
	g := newGate(t, nil, func(c *admission.Config) {
		c.Limits.Wait, c.Limits.UsedNonces = 50*time.Millisecond, 1
	})
	g.admitted(g.boot(nil), talk{})
	status, body := g.ask(g.boot(nil), talk{})
	r, err := wire.ParseRefusal(body)
	if err != nil || status != http.StatusServiceUnavailable || r.Final {
		t.Errorf("%d %s", status, body)
	}
	later := g.now().Add(3 * time.Minute)
	g.now = func() time.Time { return later } // the first nonce is forgotten
	g.admitted(g.boot(nil), talk{})
}

// BenchmarkAdmission is one admission on the server, challenge included, without a network and with the disk.
func BenchmarkAdmission(b *testing.B) {
	g := newGate(b, nil, nil)
	const batch = 64
	var bodies [][]byte
	b.ReportAllocs()
	for b.Loop() {
		if len(bodies) == 0 {
			b.StopTimer()
			for range batch {
				bodies = append(bodies, g.message(g.boot(nil), &talk{}))
			}
			b.StartTimer()
		}
		if status, body := post(b, g.server, wire.PathAdmit, bodies[0]); status != http.StatusOK {
			b.Fatalf("%d: %s", status, body)
		}
		bodies = bodies[1:]
	}
}

// BenchmarkChallenge is one challenge on the server.
func BenchmarkChallenge(b *testing.B) {
	g := newGate(b, nil, nil)
	m := g.boot(nil)
	b.ReportAllocs()
	for b.Loop() {
		g.challenge(m.Key())
	}
}
