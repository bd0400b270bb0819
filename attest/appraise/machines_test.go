// SPDX-License-Identifier: Apache-2.0

package appraise_test

import (
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"testing"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx/tdxtest"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// machine is synthetic evidence of one machine, the roots that it leads to and the time at which it is good.
type machine struct {
	evidence.Evidence
	roots appraise.Roots
	at    time.Time
}

// day is a time that suits every maker of synthetic evidence.
func day() time.Time { return snptest.Time() }

// reportData is what every machine here has signed where hardware takes 64 bytes.
func reportData() (d [64]byte) {
	copy(d[:], "quoted by hardware")
	return d
}

func extraData() []byte { return []byte("quoted by a TPM") }

func pcrValues() map[int][sha256.Size]byte {
	out := map[int][sha256.Size]byte{}
	for i := range 24 {
		out[i] = [sha256.Size]byte{byte(i + 1)}
	}
	return out
}

// machines makes one machine of each kind. seed decides keys and identities.
func machines(t testing.TB, seed string) map[evidence.Kind]machine {
	t.Helper()
	return map[evidence.Kind]machine{
		evidence.SNP:      snpMachine(t, seed, reportData()),
		evidence.TDX:      tdxMachine(t, seed, reportData()),
		evidence.AzureSNP: azureMachine(t, seed, evidence.AzureSNP),
		evidence.AzureTDX: azureMachine(t, seed, evidence.AzureTDX),
		evidence.VTPM:     tpmMachine(t, extraData()),
		evidence.Nitro:    nitroMachine(t, seed),
	}
}

func private(t testing.TB, text []byte) appraise.Roots {
	t.Helper()
	r, err := appraise.Roots{}.WithPrivate(text)
	fatal(t, err)
	return r
}

// snpMachine makes a machine of another line for another seed: within a line all have the same keys.
func snpMachine(t testing.TB, seed string, data [64]byte) machine {
	t.Helper()
	line := "Genoa"
	if seed != "one" {
		line = "Milan"
	}
	m := snptest.New(line, "VCEK")
	m.SetReportData(data)
	return machine{evidence.Evidence{
		Kind: evidence.SNP, Report: m.Signed(t), Endorsements: evidence.Endorsements{Leaf: m.LeafDER(t), CRL: m.CRL(t)},
	}, private(t, m.RootsPEM(t)), day()}
}

func tdxMachine(t testing.TB, seed string, data [64]byte) machine {
	t.Helper()
	p := tdxtest.New(tdxtest.Config{At: day().Add(-time.Hour), Seed: seed})
	q := tdxtest.NewQuote()
	q.Body.ReportData = data
	return machine{evidence.Evidence{
		Kind: evidence.TDX, Report: p.Quote(q), Endorsements: evidence.Endorsements{Collateral: p.Collateral(p.NewCollateral()).JSON()},
	}, private(t, p.PEM(tdxtest.Root)), p.Day()}
}

func nitroMachine(t testing.TB, seed string) machine {
	t.Helper()
	p := nitrotest.New(nitrotest.Config{At: day().Add(-time.Hour), Seed: seed})
	d := p.NewDocument().With("user_data", nitrotest.Bytes(extraData()))
	return machine{evidence.Evidence{Kind: evidence.Nitro, Report: p.Sign(d.Payload())}, private(t, p.PEM(nitrotest.Root)), p.Day()}
}

func signer(t testing.TB) *vtpmtest.Signer {
	t.Helper()
	s, err := vtpmtest.NewRSA()
	fatal(t, err)
	return s
}

// azureMachine puts a TPM's quote on hardware that vouches for the TPM.
func azureMachine(t testing.TB, seed string, kind evidence.Kind) machine {
	t.Helper()
	s := signer(t)
	public, ok := s.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	runtime := vtpmtest.Runtime{AK: public, SecureBoot: true, Console: false, UniqueID: seed}.JSON()
	var m machine
	var hcl []byte
	if kind == evidence.AzureSNP {
		m = snpMachine(t, seed, vtpmtest.ReportData(runtime))
		hcl = vtpmtest.HCL(vtpm.SNP, m.Report, runtime)
		m.Report = nil
	} else {
		m = tdxMachine(t, seed, vtpmtest.ReportData(runtime))
		hcl = vtpmtest.HCL(vtpm.TDX, make([]byte, 1024), runtime)
	}
	m.Kind, m.HCLReport = kind, hcl
	m.quote(t, s, extraData())
	return m
}

func (m *machine) quote(t testing.TB, s *vtpmtest.Signer, extra []byte) {
	t.Helper()
	q, err := s.Quote(vtpmtest.Quote{ExtraData: extra, PCRs: pcrValues()})
	fatal(t, err)
	m.TPMQuote, m.TPMSignature, m.PCRs = q.Attest, q.Signature, q.PCRs
}

func tpmMachine(t testing.TB, extra []byte) machine {
	t.Helper()
	s, err := vtpmtest.NewECC(elliptic.P256())
	fatal(t, err)
	a, err := vtpmtest.NewAuthority(day().Add(-time.Hour), day().Add(time.Hour))
	fatal(t, err)
	chain, err := a.AK(s.Public())
	fatal(t, err)
	m := machine{at: day()}
	m.Kind = evidence.VTPM
	m.quote(t, s, extra)
	for _, der := range chain {
		m.AKCertificates = append(m.AKCertificates, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	m.roots, err = appraise.Roots{}.WithTPM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root().Raw}))
	fatal(t, err)
	return m
}
