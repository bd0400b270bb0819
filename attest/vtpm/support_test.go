// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// world is what most tests need; making RSA keys takes longest, so they are made once and never changed.
type world struct {
	rsa, otherRSA, p256, p384 *vtpmtest.Signer
	authority                 *vtpmtest.Authority
}

func theWorld(t testing.TB) *world {
	t.Helper()
	w, err := makeWorld()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var makeWorld = sync.OnceValues(func() (w *world, err error) {
	w = &world{}
	for _, s := range []**vtpmtest.Signer{&w.rsa, &w.otherRSA} {
		if *s, err = vtpmtest.NewRSA(); err != nil {
			return nil, err
		}
	}
	if w.p256, err = vtpmtest.NewECC(elliptic.P256()); err != nil {
		return nil, err
	}
	if w.p384, err = vtpmtest.NewECC(elliptic.P384()); err != nil {
		return nil, err
	}
	w.authority, err = vtpmtest.NewAuthority(issued, expires)
	return w, err
})

var (
	issued  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now     = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	expires = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
)

func (w *world) roots() []*x509.Certificate { return []*x509.Certificate{w.authority.Root()} }

// certified gives the signer's key as one that the world's authority certified.
func (w *world) certified(t testing.TB, s *vtpmtest.Signer) *vtpm.AK {
	t.Helper()
	chain, err := w.authority.AK(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	ak, err := vtpm.CertifiedAK(chain, w.roots(), now)
	if err != nil {
		t.Fatal(err)
	}
	return ak
}

// runtime is good runtime data for the signer's key.
func (w *world) runtime(s *vtpmtest.Signer) vtpmtest.Runtime {
	key, _ := s.Public().(*rsa.PublicKey)
	ek, _ := w.otherRSA.Public().(*rsa.PublicKey)
	return vtpmtest.Runtime{AK: key, EK: ek, SecureBoot: true, UniqueID: "11111111-2222-4333-8444-555555555555"}
}

// registers gives distinct values for the registers.
func registers(indices ...int) map[int][sha256.Size]byte {
	out := map[int][sha256.Size]byte{}
	for _, i := range indices {
		out[i] = sha256.Sum256([]byte{byte(i)})
	}
	return out
}

func quote(t testing.TB, s *vtpmtest.Signer, q vtpmtest.Quote) *vtpmtest.Evidence {
	t.Helper()
	e, err := s.Quote(q)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// wantFirst demands a refusal whose first and gravest reason has the code, in full sentences.
func wantFirst(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	all := refusal.All(err)
	if len(all) == 0 {
		t.Fatalf("want a refusal with code %s, got %v", code, err)
	}
	if all[0].Code != code {
		t.Fatalf("want code %s first, got: %v", code, err)
	}
	for _, r := range all {
		if r.Link == "" || !r.Code.Valid() || r.Want == "" || r.Got == "" || r.Next == "" {
			t.Errorf("refusal with a gap: %+v", r)
		}
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"paravisor": vtpm.Paravisor.String(), "certificate": vtpm.Certificate.String(), "activation": vtpm.Activated.String(),
		"none": vtpm.Origin(9).String(), "snp": vtpm.SNP.String(), "tdx": vtpm.TDX.String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if vtpm.Hardware(3).String() != "none" {
		t.Error("hardware without a name has one")
	}
}
