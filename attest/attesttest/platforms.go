// SPDX-License-Identifier: Apache-2.0

package attesttest

import (
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/tdx/tdxtest"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// TD is a trust domain on a synthetic Intel.
type TD struct {
	pki   *tdxtest.PKI
	quote tdxtest.Quote

	// BootLog is sent along with every quote.
	BootLog []byte
}

// NewTD makes a trust domain on the chip whose PPID begins with ppid. All of one ppid are on one chip.
func NewTD(ppid byte) *TD {
	p := tdxtest.New(tdxtest.Config{At: Now().Add(-24 * time.Hour), PPID: [16]byte{ppid}})
	q := tdxtest.NewQuote()
	q.Body.RTMR[3] = [48]byte{} // nothing extended it yet
	return &TD{pki: p, quote: q}
}

// RootsPEM is the root that its quotes lead to, the same for every trust domain.
func (m *TD) RootsPEM() []byte { return m.pki.PEM(tdxtest.Root) }

// MRTD is what every trust domain measured at launch.
func MRTD() [48]byte { return tdxtest.NewQuote().Body.MRTD }

// Extend implements [Machine].
func (m *TD) Extend(d binding.Digest) {
	m.quote.Body.RTMR[3] = eventlog.ExtendRTMR(m.quote.Body.RTMR[3], d)
}

func (m *TD) signed(data [64]byte) []byte {
	q := m.quote
	q.Body.ReportData = data
	return m.pki.Quote(q)
}

// Quote implements [Machine].
func (m *TD) Quote(_ testing.TB, payload, context []byte) evidence.Evidence {
	return evidence.Evidence{
		Kind: evidence.TDX, Report: m.signed(binding.ReportData(payload, context)), BootLog: m.BootLog,
		Endorsements: evidence.Endorsements{Collateral: m.pki.Collateral(m.pki.NewCollateral()).JSON()},
	}
}

// Instance implements [Machine].
func (m *TD) Instance() statement.Instance {
	return statement.Instance{Platform: "sim", ChipID: hex.EncodeToString(m.pki.PPID[:])}
}

// TPM is a TPM that a provider certified, or that a paravisor in a trust domain holds.
type TPM struct {
	signer *vtpmtest.Signer
	pcr15  [sha256.Size]byte
	chain  []byte
	td     *TD // holds it, or nil
	hcl    []byte
	report []byte
}

// NewTPM makes a TPM that a certifies.
func NewTPM(t testing.TB, a *vtpmtest.Authority) *TPM {
	t.Helper()
	s, err := vtpmtest.NewECC(elliptic.P256())
	must(t, err)
	chain, err := a.AK(s.Public())
	must(t, err)
	m := &TPM{signer: s}
	for _, der := range chain {
		m.chain = append(m.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return m
}

// NewParavisor makes a TPM that a paravisor in a trust domain holds, as Azure does.
func NewParavisor(t testing.TB) *TPM {
	t.Helper()
	s, err := vtpmtest.NewRSA()
	must(t, err)
	public, ok := s.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	runtime := vtpmtest.Runtime{AK: public, SecureBoot: true}.JSON()
	m := &TPM{signer: s, td: NewTD(7), hcl: vtpmtest.HCL(vtpm.TDX, make([]byte, 1024), runtime)}
	m.report = m.td.signed(vtpmtest.ReportData(runtime))
	return m
}

// Reset is what the host does that starts the machine again: its key stays, its registers begin anew.
func (m *TPM) Reset() { m.pcr15 = [sha256.Size]byte{} }

// Extend implements [Machine].
func (m *TPM) Extend(d binding.Digest) { m.pcr15 = sha256.Sum256(append(m.pcr15[:], d[:]...)) }

// Quote implements [Machine].
func (m *TPM) Quote(t testing.TB, payload, context []byte) evidence.Evidence {
	t.Helper()
	pcrs := map[int][sha256.Size]byte{}
	for i := range 24 {
		pcrs[i] = [sha256.Size]byte{byte(i)}
	}
	pcrs[15] = m.pcr15
	extra := binding.ExtraData(payload, context)
	q, err := m.signer.Quote(vtpmtest.Quote{ExtraData: extra[:], PCRs: pcrs})
	if err != nil {
		t.Fatal(err)
	}
	e := evidence.Evidence{Kind: evidence.VTPM, TPMQuote: q.Attest, TPMSignature: q.Signature, PCRs: q.PCRs}
	e.AKCertificates = m.chain
	if m.td != nil {
		e.Kind, e.HCLReport, e.Report = evidence.AzureTDX, m.hcl, m.report
		e.Endorsements = evidence.Endorsements{Collateral: m.td.pki.Collateral(m.td.pki.NewCollateral()).JSON()}
	}
	return e
}

// Instance implements [Machine].
func (m *TPM) Instance() statement.Instance {
	key, err := x509.MarshalPKIXPublicKey(m.signer.Public())
	if err != nil {
		return statement.Instance{}
	}
	i := statement.Instance{Platform: "vtpm", AttestationKey: binding.Sum(key).String()}
	if m.td != nil {
		i.Platform, i.ChipID = "sim", hex.EncodeToString(m.td.pki.PPID[:])
	}
	return i
}

// OnPlatform gives the changes of [PolicyFile] with which it accepts a platform by the measurement and registers that these
// machines have.
func OnPlatform(platform string, measurement [48]byte) []string {
	changes := []string{
		"floor: strict", "floor: default\n  chips: any", Measurement(), hex.EncodeToString(measurement[:]),
		"builders/sim/", "builders/" + platform + "/", "platforms: [sim]", "platforms: [" + platform + "]",
	}
	if platform == "vtpm" {
		var registers []string
		for i := range 15 {
			if i != 10 {
				registers = append(registers, fmt.Sprintf("pcr%d: %q", i, fmt.Sprintf("%02x", i)+strings.Repeat("0", 62)))
			}
		}
		changes = append(changes, "  lateCompromise:", "  registers:\n    - {"+strings.Join(registers, ", ")+"}\n  lateCompromise:")
		changes[3] = Measurement() // a TPM has none
	}
	return changes
}
