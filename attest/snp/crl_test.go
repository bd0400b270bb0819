// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

func TestNotRevoked(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"Milan", "Genoa", "Turin"} {
		for _, key := range []string{"VCEK", "VLEK"} {
			b := snptest.New(line, key)
			r, err := b.Verify(t)
			if err != nil {
				t.Fatal(err)
			}
			for name, list := range map[string][]byte{
				"empty":             b.CRL(t),
				"others":            b.CRL(t, big.NewInt(1), big.NewInt(2)),
				"at its first hour": b.CRL(t),
			} {
				if err := r.NotRevoked(list, b.At); err != nil {
					t.Errorf("%s %s, %s: %v", line, key, name, err)
				}
			}
			if err := r.NotRevoked(b.CRL(t), b.CRLFrom); err != nil {
				t.Error(err)
			}
			if err := r.NotRevoked(b.CRL(t), b.CRLEnd); err != nil {
				t.Error(err)
			}
		}
	}
}

// deltaCRL makes a list one of changes since another.
func deltaCRL() pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}
}

func TestNotRevokedRefuses(t *testing.T) {
	t.Parallel()
	part := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x82, 1, 0xff}}
	tests := map[string]struct {
		list func(t *testing.T, b *snptest.Machine) []byte
		at   time.Time
		want refusal.Code
	}{
		"no time":       {func(t *testing.T, b *snptest.Machine) []byte { return b.CRL(t) }, time.Time{}, refusal.Missing},
		"nothing":       {func(*testing.T, *snptest.Machine) []byte { return nil }, snptest.Time(), refusal.EndorsementsMissing},
		"a certificate": {func(t *testing.T, b *snptest.Machine) []byte { return b.ARKDER(t) }, snptest.Time(), refusal.Malformed},
		"in pem": {func(t *testing.T, b *snptest.Machine) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: b.CRL(t)})
		}, snptest.Time(), refusal.Malformed},
		"a byte after it": {func(t *testing.T, b *snptest.Machine) []byte { return append(b.CRL(t), 0) }, snptest.Time(), refusal.Malformed},
		"cut short":       {func(t *testing.T, b *snptest.Machine) []byte { c := b.CRL(t); return c[:len(c)-1] }, snptest.Time(), refusal.Malformed},
		"too long":        {func(*testing.T, *snptest.Machine) []byte { return make([]byte, 5<<20) }, snptest.Time(), refusal.Malformed},
		"a delta": {func(t *testing.T, b *snptest.Machine) []byte {
			b.CRLExtra = []pkix.Extension{deltaCRL()}
			return b.CRL(t)
		}, snptest.Time(), refusal.Malformed},
		"a part": {func(t *testing.T, b *snptest.Machine) []byte {
			b.CRLExtra = []pkix.Extension{part}
			return b.CRL(t)
		}, snptest.Time(), refusal.Malformed},
		"without end": {func(t *testing.T, b *snptest.Machine) []byte {
			var list struct {
				TBS struct {
					Version            int
					Algorithm          pkix.AlgorithmIdentifier
					Issuer, ThisUpdate asn1.RawValue
					NextUpdate         asn1.RawValue `asn1:"optional"`
					Extensions         asn1.RawValue
				}
				Algorithm pkix.AlgorithmIdentifier
				Signature asn1.BitString
			}
			if _, err := asn1.Unmarshal(b.CRL(t), &list); err != nil {
				t.Fatal(err)
			}
			list.TBS.NextUpdate = asn1.RawValue{}
			der, err := asn1.Marshal(list)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}, snptest.Time(), refusal.Malformed},
		"of another line": {func(t *testing.T, b *snptest.Machine) []byte { return snptest.New("Genoa", "VCEK").CRL(t) }, snptest.Time(), refusal.EndorsementsMismatch},
		"of the ask": {func(t *testing.T, b *snptest.Machine) []byte {
			b.ARK = b.ASK
			return b.CRLBy(t, b.ASKKey, x509.SHA384WithRSAPSS)
		}, snptest.Time(), refusal.EndorsementsMismatch},
		"signed by the ask": {func(t *testing.T, b *snptest.Machine) []byte {
			return b.CRLBy(t, b.ASKKey, x509.SHA384WithRSAPSS)
		}, snptest.Time(), refusal.Chain},
		"signed pkcs1": {func(t *testing.T, b *snptest.Machine) []byte {
			return b.CRLBy(t, b.ARKKey, x509.SHA384WithRSA)
		}, snptest.Time(), refusal.Chain},
		"signed with sha-256": {func(t *testing.T, b *snptest.Machine) []byte {
			return b.CRLBy(t, b.ARKKey, x509.SHA256WithRSAPSS)
		}, snptest.Time(), refusal.Chain},
		"changed": {func(t *testing.T, b *snptest.Machine) []byte {
			list := b.CRL(t, big.NewInt(0x1234567))
			return bytes.Replace(list, []byte{0x01, 0x23, 0x45, 0x67}, []byte{0x01, 0x23, 0x45, 0x68}, 1)
		}, snptest.Time(), refusal.Chain},
		"of tomorrow":     {func(t *testing.T, b *snptest.Machine) []byte { return b.CRL(t) }, snptest.Time().Add(-61 * time.Minute), refusal.Expired},
		"of yesterday":    {func(t *testing.T, b *snptest.Machine) []byte { return b.CRL(t) }, snptest.Time().Add(61 * time.Minute), refusal.Expired},
		"ark revoked":     {func(t *testing.T, b *snptest.Machine) []byte { return b.CRL(t, b.ARK.SerialNumber) }, snptest.Time(), refusal.Revoked},
		"ask revoked":     {func(t *testing.T, b *snptest.Machine) []byte { return b.CRL(t, big.NewInt(1), b.ASK.SerialNumber) }, snptest.Time(), refusal.Revoked},
		"leaf's serial 0": {func(t *testing.T, b *snptest.Machine) []byte { return b.CRL(t, new(big.Int)) }, snptest.Time(), refusal.Revoked},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := snptest.New("Milan", "VCEK")
			r, err := b.Verify(t)
			if err != nil {
				t.Fatal(err)
			}
			wantFirst(t, r.NotRevoked(tt.list(t, b), tt.at), tt.want)
		})
	}
	var none *snp.Report
	wantFirst(t, none.NotRevoked(snptest.New("Milan", "VCEK").CRL(t), snptest.Time()), refusal.Missing)
	wantFirst(t, new(snp.Report).NotRevoked(snptest.New("Milan", "VCEK").CRL(t), snptest.Time()), refusal.Missing)
}

// A genuine report is judged by AMD's ARK alone: a list that somebody else signed in AMD's name is none.
func TestAttackForgedRevocationList(t *testing.T) {
	t.Parallel()
	v := snpVector(t, "snp-milan-v3")
	r, err := snp.Verify(v.report, v.leaf, amdRoots(t), v.At)
	if err != nil {
		t.Fatal(err)
	}
	forged := snptest.New("Milan", "VCEK")
	forged.CRLFrom, forged.CRLEnd = v.At.Add(-time.Hour), v.At.Add(time.Hour)
	block, _ := pem.Decode(trust.AskArkMilanVcekBytes[bytes.LastIndex(trust.AskArkMilanVcekBytes, []byte("-----BEGIN")):])
	forged.ARK = parsed(t, block.Bytes)
	wantFirst(t, r.NotRevoked(forged.CRL(t), v.At), refusal.Chain)
}

// TestHoleCRL: go-sev-guest looks for the ASK alone, never for an ASVK, and takes a fetched list without asking whether
// it is still current.
func TestHoleCRL(t *testing.T) {
	t.Parallel()
	b := snptest.New("Milan", "VLEK")
	r, err := b.Verify(t)
	if err != nil {
		t.Fatal(err)
	}
	wantFirst(t, r.NotRevoked(b.CRL(t, b.ASK.SerialNumber), b.At), refusal.Revoked) // the ASVK
	old := b.CRL(t)
	wantFirst(t, r.NotRevoked(old, b.At.AddDate(1, 0, 0)), refusal.Expired)

	ask := snptest.New("Milan", "VCEK")
	ask.ASK.CRLDistributionPoints = []string{"list"}
	roots := trust.AMDRootCertsProduct("Milan")
	roots.ProductCerts = &trust.ProductCerts{Ark: parsed(t, b.ARKDER(t)), Ask: parsed(t, ask.ASKDER(t)), Asvk: parsed(t, b.ASKDER(t))}
	late := &verify.Options{Now: b.At.AddDate(1, 0, 0), Getter: getter(b.CRL(t, b.ASK.SerialNumber))}
	if _, err := verify.GetCrlAndCheckRoot(roots, late); err != nil {
		t.Logf("go-sev-guest refuses a revoked ASVK on a list of last year now: %v", err)
	}
}

type getter []byte

func (g getter) Get(string) ([]byte, error) { return g, nil }

// FuzzNotRevoked: nobody here can sign for AMD, so no list is ever accepted. The seeds are lists in AMD's name.
func FuzzNotRevoked(f *testing.F) {
	v := snpVector(f, "snp-milan-v3")
	r, err := snp.Verify(v.report, v.leaf, amdRoots(f), v.At)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		err := r.NotRevoked(der, v.At)
		if len(refusal.All(err)) == 0 {
			t.Fatalf("want a refusal, got %v", err)
		}
		if slices.ContainsFunc(refusal.All(err), func(r *refusal.Refusal) bool { return r.Link == "" || r.Next == "" }) {
			t.Fatalf("a refusal with a gap: %v", err)
		}
	})
}
