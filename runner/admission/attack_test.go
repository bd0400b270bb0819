// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// somePool is a root that nobody's certificate leads to.
func somePool(t testing.TB) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another"}, NotBefore: now().Add(-time.Hour), NotAfter: now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

func dialNothing(n *int) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		*n++
		return nil, errors.New("no route")
	}
}

// refused demands that a client takes nothing.
func refused(t *testing.T, c *Client, a *applicant, want error) {
	t.Helper()
	line, err := c.Admit(t.Context(), a)
	if !errors.Is(err, want) || line != nil {
		t.Errorf("%v, want %v", err, want)
	}
	if _, ok := c.Released(); ok {
		t.Error("something was taken")
	}
}

// TestAttackForeignServer puts a server between whose certificate does not lead to the configured roots, or has another
// name. It learns nothing of the environment.
func TestAttackForeignServer(t *testing.T) {
	t.Parallel()
	d := newDispatcher(t)
	d.before = func(http.ResponseWriter, string) bool { t.Error("it was spoken to"); return false }
	a := newApplicant(t)
	refused(t, d.client(func(c *Config) { c.Roots = somePool(t) }), a, refusal.ErrChain)
	addr := d.tls.Listener.Addr().String()
	refused(t, d.client(func(c *Config) {
		c.URL = "https://dispatch.test"
		c.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	}), a, refusal.ErrChain)
	if a.quoted != 0 {
		t.Error("something was quoted")
	}
}

// TestAttackForeignOperator has a server with the right certificate sign with another key than the configuration names:
// the challenge, the summary, or what is released.
func TestAttackForeignOperator(t *testing.T) {
	t.Parallel()
	thief, err := bundle.NewKey()
	must(t, err)
	for _, what := range []string{"challenge", "summary", "release"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := newDispatcher(t)
			d.signer = func(signs string) *bundle.Key {
				if signs == what {
					return thief
				}
				return nil
			}
			refused(t, d.client(nil), newApplicant(t), refusal.ErrSignature)
		})
	}
}

// TestAttackOtherConversation gives what an operator signed for another environment, machine, nonce, key or time.
func TestAttackOtherConversation(t *testing.T) {
	t.Parallel()
	x := binding.Sum([]byte("another"))
	otherKey, err := wire.NewKey()
	must(t, err)
	for name, tc := range map[string]struct {
		change func(*dispatcher)
		want   error
	}{
		"challenge for another environment": {func(d *dispatcher) { d.challenge = func(c *statement.Challenge) { c.EnvironmentKey = x } }, refusal.ErrBinding},
		"challenge of before":               {func(d *dispatcher) { d.challenge = func(c *statement.Challenge) { c.Conditions.Fresh = x } }, refusal.ErrBinding},
		"summary of another environment":    {func(d *dispatcher) { d.summary = func(v *statement.EnvironmentVSA) { v.EnvironmentKey = x } }, refusal.ErrBinding},
		"summary of another machine": {func(d *dispatcher) {
			d.summary = func(v *statement.EnvironmentVSA) { v.Instance.ReportID = strings.Repeat("33", 32) }
		}, refusal.ErrBinding},
		"summary that failed": {func(d *dispatcher) {
			d.summary = func(v *statement.EnvironmentVSA) {
				v.Summary.Result, v.Summary.Levels = statement.Failed, []string{"FAILED"}
			}
		}, refusal.ErrPolicy},
		"summary of before": {func(d *dispatcher) {
			d.summary = func(v *statement.EnvironmentVSA) { v.Summary.TimeVerified = now().Add(-time.Hour) }
		}, refusal.ErrExpired},
		"release for another environment": {func(d *dispatcher) { d.release = func(r *statement.Release) { r.EnvironmentKey = x } }, refusal.ErrBinding},
		"release for another nonce":       {func(d *dispatcher) { d.release = func(r *statement.Release) { r.Conditions.Nonce = x } }, refusal.ErrBinding},
		"release for another key":         {func(d *dispatcher) { d.release = func(r *statement.Release) { r.Conditions.HPKEKey = x } }, refusal.ErrBinding},
		"release for another summary":     {func(d *dispatcher) { d.release = func(r *statement.Release) { r.Summary = x } }, refusal.ErrBinding},
		"sealed for another nonce":        {func(d *dispatcher) { d.seal = func(tm *wire.Terms, _ *[]byte) { tm.Nonce = x } }, refusal.ErrBinding},
		"sealed for another summary":      {func(d *dispatcher) { d.seal = func(tm *wire.Terms, _ *[]byte) { tm.Summary = x } }, refusal.ErrBinding},
		"sealed to another key": {func(d *dispatcher) {
			d.seal = func(tm *wire.Terms, public *[]byte) { tm.HPKEKey, *public = otherKey.Digest(), otherKey.Public() }
		}, refusal.ErrBinding},
		"release in place of the summary": {func(d *dispatcher) { d.answer = func(a *wire.Answer) { a.Summary = a.Release } }, refusal.ErrMalformed},
		"summary in place of the release": {func(d *dispatcher) { d.answer = func(a *wire.Answer) { a.Release = a.Summary } }, refusal.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDispatcher(t)
			tc.change(d)
			refused(t, d.client(nil), newApplicant(t), tc.want)
		})
	}
}

// TestAttackClock gives the machine another time than it is: by years, which the server's certificate does not bear, and by
// minutes, which only the signed time shows.
func TestAttackClock(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for name, tc := range map[string]struct {
		apart time.Duration
		want  error
	}{
		"a minute ahead": {time.Minute, nil}, "a minute behind": {-time.Minute, nil},
		"two minutes ahead": {2 * time.Minute, refusal.ErrExpired}, "two minutes behind": {-2 * time.Minute, refusal.ErrExpired},
		"two years ahead": {2 * year, refusal.ErrExpired}, "two years behind": {-2 * year, refusal.ErrExpired},
		"a century ahead": {100 * year, refusal.ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDispatcher(t)
			c := d.client(func(c *Config) { c.Now = func() time.Time { return now().Add(tc.apart) } })
			a := newApplicant(t)
			if tc.want == nil {
				_, err := c.Admit(t.Context(), a)
				must(t, err)
				return
			}
			refused(t, c, a, tc.want)
			if a.quoted != 0 {
				t.Error("something was quoted")
			}
		})
	}
}
