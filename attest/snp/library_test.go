// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/validate"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

// go-sev-guest is a second reader of reports in these tests, and nowhere else: it knows less (no Turin, no Siena or
// Bergamo) and compares less (neither chip nor TCB of the certificate, unless asked). What both read, they must judge alike.

// TestDifferential: whatever this package accepts, go-sev-guest accepts too, on every vector that it can read; and
// where it refuses, so does this package.
func TestDifferential(t *testing.T) {
	t.Parallel()
	compared := 0
	for _, v := range snpVectors(t) {
		if v.Facts["product line"] == "Turin" {
			continue // cannot read the certificate
		}
		_, ours := snp.Verify(v.report, v.leaf, amdRoots(t), v.At)
		theirs := libraryAMD(t, v.report, v.leaf, v.At)
		if (ours == nil) != (theirs == nil) {
			t.Errorf("%s: ours %v, go-sev-guest %v", v.Name, ours, theirs)
		}
		compared++
	}
	if compared < 5 {
		t.Errorf("only %d vectors compared", compared)
	}
}

// TestDifferentialSynthetic does it with what the signer makes, one thing changed at a time: whatever go-sev-guest
// refuses, this package refuses too. The reverse does not hold, see the holes.
func TestDifferentialSynthetic(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *snptest.Machine){
		"nothing":         func(*snptest.Machine) {},
		"version 2":       func(b *snptest.Machine) { b.SetVersion(2) },
		"version 5":       func(b *snptest.Machine) { b.SetVersion(5) },
		"policy bit 26":   func(b *snptest.Machine) { b.Report[0x0b] = 4 },
		"policy bit 17":   func(b *snptest.Machine) { b.Report[0x0a] = 1 },
		"reserved 0x4c":   func(b *snptest.Machine) { b.Report[0x4c] = 1 },
		"reserved 0x18b":  func(b *snptest.Machine) { b.Report[0x18b] = 1 },
		"reserved 0x1eb":  func(b *snptest.Machine) { b.Report[0x1eb] = 1 },
		"reserved 0x208":  func(b *snptest.Machine) { b.Report[0x208] = 1 },
		"signing key 2":   func(b *snptest.Machine) { b.Report[0x48] = 8 },
		"signature":       func(b *snptest.Machine) { b.AfterSign = func(r []byte) { r[0x2a0] ^= 1 } },
		"measurement":     func(b *snptest.Machine) { b.AfterSign = func(r []byte) { r[0x90] ^= 1 } },
		"leaf's name":     func(b *snptest.Machine) { b.Leaf.Subject.CommonName = "SEV-VLEK" },
		"leaf's place":    func(b *snptest.Machine) { b.Leaf.Subject.Locality = []string{"Elsewhere"} },
		"leaf's key":      func(b *snptest.Machine) { b.LeafPublic = &snptest.ECDSAKey(elliptic.P256()).PublicKey },
		"leaf's validity": func(b *snptest.Machine) { b.Leaf.NotAfter = b.At.Add(-time.Second) },
		"structure 2":     func(b *snptest.Machine) { b.Structure = 2 },
		"no chip":         func(b *snptest.Machine) { b.HWID = nil },
		"no bootloader":   func(b *snptest.Machine) { delete(b.SPL, 1) },
		"level 260":       func(b *snptest.Machine) { b.SPL[1] = 260 },
		"product":         func(b *snptest.Machine) { b.Product = nil; b.Extra = amdExtension(2, 2, 1, 1) },
	} {
		for _, line := range []string{"Milan", "Genoa"} {
			b := snptest.New(line, "VCEK")
			change(b)
			report, leaf := b.Signed(t), b.LeafDER(t)
			_, ours := snp.Verify(report, leaf, b.Roots(t), b.At)
			if theirs := libraryVerify(t, report, leaf, b); ours == nil && theirs != nil {
				t.Errorf("%s, %s: accepted, and go-sev-guest says %v", line, name, theirs)
			}
		}
	}
}

// BenchmarkVerify judges one genuine Milan report, the only kind that both can judge: chain, signature, and all that
// the default floor asks.
func BenchmarkVerify(b *testing.B) {
	v := snpVector(b, "snp-milan-v3")
	roots := amdRoots(b)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r, err := snp.Verify(v.report, v.leaf, roots, v.At)
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Meets(floor.Default); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-sev-guest", func(b *testing.B) {
		milan := libraryMilan(b)
		b.ReportAllocs()
		for b.Loop() {
			if err := libraryRun(v.report, v.leaf, "Milan", milan, v.At); err != nil {
				b.Fatal(err)
			}
			if err := libraryValidate(v.report, v.leaf); err != nil {
				b.Fatal(err)
			}
		}
	})
	turin := snpVector(b, "snp-turin-v5")
	b.Run("ours, Turin", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := snp.Verify(turin.report, turin.leaf, roots, turin.At); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkNotRevoked(b *testing.B) {
	m := snptest.New("Milan", "VCEK")
	r, err := m.Verify(b)
	if err != nil {
		b.Fatal(err)
	}
	list := m.CRL(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.NotRevoked(list, m.At); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAMDRoots(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := snp.AMDRoots(); err != nil {
			b.Fatal(err)
		}
	}
}

// libraryValidate asks of go-sev-guest what the default floor asks, as far as it can be told: the microcode of Milan B1.
func libraryValidate(report, leaf []byte) error {
	proto, err := abi.ReportToProto(report)
	if err != nil {
		return err
	}
	return validate.SnpAttestation(&spb.Attestation{Report: proto, CertificateChain: &spb.CertificateChain{VcekCert: leaf}}, &validate.Options{
		GuestPolicy: abi.SnpPolicy{SMT: true, ABIMinor: 31},
		MinimumTCB:  kds.TCBParts{BlSpl: 4, SnpSpl: 24, UcodeSpl: 219},
	})
}

func libraryVerify(t testing.TB, report, leaf []byte, b *snptest.Machine) error {
	t.Helper()
	roots := trust.AMDRootCertsProduct(b.Line)
	roots.ProductCerts = &trust.ProductCerts{Ark: parsed(t, b.ARKDER(t)), Ask: parsed(t, b.ASKDER(t))}
	return libraryRun(report, leaf, b.Line, roots, b.At)
}

func libraryAMD(t testing.TB, report, leaf []byte, at time.Time) error {
	t.Helper()
	if err := libraryRun(report, leaf, "Milan", libraryMilan(t), at); err == nil {
		return nil
	}
	return libraryRun(report, leaf, "Genoa", libraryRoots(t, "Genoa", trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes), at)
}

func libraryMilan(t testing.TB) *trust.AMDRootCerts {
	t.Helper()
	return libraryRoots(t, "Milan", trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes)
}

func libraryRoots(t testing.TB, line string, ask, asvk []byte) *trust.AMDRootCerts {
	t.Helper()
	roots := trust.AMDRootCertsProduct(line)
	roots.ProductCerts = &trust.ProductCerts{}
	if err := roots.ProductCerts.FromKDSCertBytes(ask); err != nil {
		t.Fatal(err)
	}
	if err := roots.ProductCerts.FromKDSCertBytes(asvk); err != nil {
		t.Fatal(err)
	}
	return roots
}

func libraryRun(report, leaf []byte, line string, roots *trust.AMDRootCerts, at time.Time) error {
	proto, err := abi.ReportToProto(report)
	if err != nil {
		return err
	}
	return verify.SnpAttestation(
		&spb.Attestation{Report: proto, CertificateChain: &spb.CertificateChain{VcekCert: leaf, VlekCert: leaf}},
		&verify.Options{DisableCertFetching: true, Now: at, TrustedRoots: map[string][]*trust.AMDRootCerts{line: {roots}}})
}

func parsed(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
