// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
)

// The tests here name the holes known in verifiers of SNP reports, go-sev-guest's among them, and show each closed.

// TestRootsNeverComeFromEvidence: go-sev-guest up to v0.14.1 took ARK and ASK from the evidence as roots.
func TestRootsNeverComeFromEvidence(t *testing.T) {
	t.Parallel()
	v := snpVector(t, "neg-snp-test-root")
	chain := slices.Concat(toPEM(v.leaf), toPEM(v.file(t, "ask")), toPEM(v.file(t, "ark")))
	leaf, err := snp.EndorsementKey(chain)
	if err != nil {
		t.Fatal(err)
	}
	_, err = snp.Verify(v.report, leaf, amdRoots(t), v.At)
	wantFirst(t, err, refusal.Chain)

	// The same chain named by the caller is accepted, and is no AMD platform.
	named, err := snp.ParseRoots(slices.Concat(toPEM(v.file(t, "ask")), toPEM(v.file(t, "ark"))))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.Verify(v.report, leaf, append(amdRoots(t), named...), v.At.AddDate(0, 0, 1)) // made on that day
	if err != nil {
		t.Fatal(err)
	}
	if r.Platform() != snp.PlatformSim {
		t.Errorf("platform %s", r.Platform())
	}
}

// TestTrailingBytes: go-sev-guest's parser reads the first 1184 bytes of anything longer.
func TestTrailingBytes(t *testing.T) {
	t.Parallel()
	v := snpVector(t, "snp-milan-v3")
	long := append(slices.Clone(v.report), 0)
	if _, err := abi.ReportToProto(long); err != nil {
		t.Logf("go-sev-guest refuses trailing bytes now: %v", err)
	}
	_, err := snp.Verify(long, v.leaf, amdRoots(t), v.At)
	wantFirst(t, err, refusal.Malformed)
}

// TestForeignChipAndTCB: go-sev-guest's verification never compares certificate and report.
func TestForeignChipAndTCB(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(b *bench){
		"chip": func(b *bench) { b.report[0x1a0] ^= 1 },
		"tcb":  func(b *bench) { b.report[0x180] = 3 },
	} {
		b := newBench("Milan", "VCEK")
		change(b)
		if err := libraryVerify(t, b.signed(t), b.leafDER(t), b); err != nil {
			t.Logf("go-sev-guest refuses another %s now: %v", name, err)
		}
		_, err := b.verify(t)
		wantFirst(t, err, refusal.EndorsementsMismatch)
	}
}

// TestTimeIsRequired: go-sev-guest takes the clock when no time is given.
func TestTimeIsRequired(t *testing.T) {
	t.Parallel()
	v := snpVector(t, "snp-milan-v3")
	_, err := snp.Verify(v.report, v.leaf, amdRoots(t), time.Time{})
	wantFirst(t, err, refusal.Missing)
}

// TestTurinAndVLEKAreJudged: go-sev-guest v0.15.0 cannot read Turin's VCEK and lacks VLEK intermediates by default.
func TestTurinAndVLEKAreJudged(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"snp-turin-v5": "VCEK", "snp-milan-v3-vlek-aws": "VLEK"} {
		v := snpVector(t, name)
		r, err := snp.Verify(v.report, v.leaf, amdRoots(t), v.At)
		if err != nil {
			t.Fatal(err)
		}
		if r.SigningKey() != key {
			t.Errorf("%s: %s", name, r.SigningKey())
		}
	}
}

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

func libraryVerify(t testing.TB, report, leaf []byte, b *bench) error {
	t.Helper()
	roots := trust.AMDRootCertsProduct(b.line)
	roots.ProductCerts = &trust.ProductCerts{Ark: parsed(t, b.arkDER(t)), Ask: parsed(t, b.askDER(t))}
	return libraryRun(report, leaf, b.line, roots, b.at)
}

func libraryAMD(t testing.TB, report, leaf []byte, at time.Time) error {
	t.Helper()
	milan, genoa := trust.AMDRootCertsProduct("Milan"), trust.AMDRootCertsProduct("Genoa")
	for _, l := range []struct {
		to        *trust.AMDRootCerts
		ask, asvk []byte
	}{
		{milan, trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
		{genoa, trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
	} {
		both := &trust.ProductCerts{}
		if err := both.FromKDSCertBytes(l.ask); err != nil {
			t.Fatal(err)
		}
		if err := both.FromKDSCertBytes(l.asvk); err != nil {
			t.Fatal(err)
		}
		l.to.ProductCerts = both
	}
	if err := libraryRun(report, leaf, "Milan", milan, at); err == nil {
		return nil
	}
	return libraryRun(report, leaf, "Genoa", genoa, at)
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
