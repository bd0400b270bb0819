// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/tdx/tdxtest"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// tdMachine is a trust domain on a synthetic Intel.
type tdMachine struct {
	pki   *tdxtest.PKI
	quote tdxtest.Quote
	log   []byte
}

func newTD(ppid byte) *tdMachine {
	p := tdxtest.New(tdxtest.Config{At: attesttest.Now().Add(-24 * time.Hour), PPID: [16]byte{ppid}})
	q := tdxtest.NewQuote()
	q.Body.RTMR[3] = [48]byte{} // nothing extended it yet
	return &tdMachine{pki: p, quote: q}
}

func (m *tdMachine) Extend(d binding.Digest) {
	m.quote.Body.RTMR[3] = eventlog.ExtendRTMR(m.quote.Body.RTMR[3], d)
}

func (m *tdMachine) signed(data [64]byte) []byte {
	q := m.quote
	q.Body.ReportData = data
	return m.pki.Quote(q)
}

func (m *tdMachine) Quote(_ testing.TB, payload, context []byte) evidence.Evidence {
	return evidence.Evidence{
		Kind: evidence.TDX, Report: m.signed(binding.ReportData(payload, context)), BootLog: m.log,
		Endorsements: evidence.Endorsements{Collateral: m.pki.Collateral(m.pki.NewCollateral()).JSON()},
	}
}

func (m *tdMachine) Instance() statement.Instance {
	return statement.Instance{Platform: "sim", ChipID: hex.EncodeToString(m.pki.PPID[:])}
}

// tpmMachine is a TPM that a provider certified, or that a paravisor in a trust domain holds.
type tpmMachine struct {
	signer *vtpmtest.Signer
	pcr15  [sha256.Size]byte
	chain  []byte
	td     *tdMachine // holds it, or nil
	hcl    []byte
	report []byte
}

func newTPM(t *testing.T, a *vtpmtest.Authority) *tpmMachine {
	t.Helper()
	s, err := vtpmtest.NewECC(elliptic.P256())
	fatal(t, err)
	chain, err := a.AK(s.Public())
	fatal(t, err)
	m := &tpmMachine{signer: s}
	for _, der := range chain {
		m.chain = append(m.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return m
}

func newParavisor(t *testing.T) *tpmMachine {
	t.Helper()
	s, err := vtpmtest.NewRSA()
	fatal(t, err)
	public, ok := s.Public().(*rsa.PublicKey)
	if !ok {
		t.Fatal("no RSA key")
	}
	runtime := vtpmtest.Runtime{AK: public, SecureBoot: true}.JSON()
	m := &tpmMachine{signer: s, td: newTD(7), hcl: vtpmtest.HCL(vtpm.TDX, make([]byte, 1024), runtime)}
	m.report = m.td.signed(vtpmtest.ReportData(runtime))
	return m
}

func (m *tpmMachine) Extend(d binding.Digest) { m.pcr15 = sha256.Sum256(append(m.pcr15[:], d[:]...)) }

func (m *tpmMachine) Quote(t testing.TB, payload, context []byte) evidence.Evidence {
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

func (m *tpmMachine) Instance() statement.Instance {
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

// platformPolicy accepts a platform by the measurement and registers that these machines have.
func platformPolicy(t *testing.T, platform string, measurement [48]byte, more ...string) attest.Request {
	t.Helper()
	changes := []string{
		"floor: strict", "floor: default\n  chips: any", attesttest.Measurement(), hex.EncodeToString(measurement[:]),
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
		changes[3] = attesttest.Measurement() // a TPM has none
	}
	return attest.Request{Policy: policyOf(t, append(changes, more...)...), Trust: trust(t), At: attesttest.Now().Add(time.Hour)}
}

// judgeLines verifies the chain that an environment on a machine wrote.
func judgeLines(t *testing.T, req attest.Request, lines attesttest.Lines) (*attest.Result, error) {
	t.Helper()
	f, err := bundle.ReadFile(strings.NewReader(string(lines.Bytes())))
	fatal(t, err)
	req.Artifact = attest.Artifact{Name: "widget.tar.gz", Digest: binding.Sum(lines.Artifact)}
	req.Files = []*bundle.File{f}
	r, _, err := attest.Verify(t.Context(), req)
	return r, err
}

func onPlatform(platform string, o attesttest.Options) attesttest.Options {
	o.Hooks.Provenance = func(p *statement.Provenance) {
		p.BuilderID = statement.BuilderID(platform, p.Internal.Kettle.Profile)
		p.Internal.Kettle.Platform = platform
	}
	return o
}

// kindsOfMachines gives for each kind how to make a machine, its platform's name, its roots and its measurement.
func kindsOfMachines(t *testing.T) map[string]struct {
	platform    string
	machine     func() attesttest.Machine
	roots       appraise.Roots
	measurement [48]byte
} {
	t.Helper()
	a, err := vtpmtest.NewAuthority(attesttest.Now().Add(-time.Hour), attesttest.Now().Add(24*time.Hour))
	fatal(t, err)
	tpmRoots, err := appraise.Roots{}.WithTPM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root().Raw}))
	fatal(t, err)
	tdRoots, err := appraise.Roots{}.WithPrivate(newTD(7).pki.PEM(tdxtest.Root))
	fatal(t, err)
	mrtd := tdxtest.NewQuote().Body.MRTD
	return map[string]struct {
		platform    string
		machine     func() attesttest.Machine
		roots       appraise.Roots
		measurement [48]byte
	}{
		"tdx":    {"sim", func() attesttest.Machine { return newTD(7) }, tdRoots, mrtd},
		"az-tdx": {"sim", func() attesttest.Machine { return newParavisor(t) }, tdRoots, mrtd},
		"vtpm":   {"vtpm", func() attesttest.Machine { return newTPM(t, a) }, tpmRoots, mrtd},
	}
}

// TestPlatforms verifies whole chains of machines of other kinds than SEV-SNP.
func TestPlatforms(t *testing.T) {
	t.Parallel()
	for name, k := range kindsOfMachines(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := platformPolicy(t, k.platform, k.measurement)
			req.Roots = k.roots
			lines := attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: k.machine(), EndorseOnce: true}))
			r, err := judgeLines(t, req, lines)
			if err != nil {
				t.Fatal(err)
			}
			if r.Platform() != k.platform {
				t.Errorf("platform %s", r.Platform())
			}
		})
	}
}

// TestAttackOtherMachine quotes a chain's parts on two machines of one kind, and on one whose register took in more.
func TestAttackOtherMachine(t *testing.T) {
	t.Parallel()
	for name, k := range kindsOfMachines(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for attack, machine := range map[string]attesttest.Machine{
				"the second quote on another": &changing{machines: []attesttest.Machine{k.machine(), k.machine()}, after: 1},
				"the third quote on another":  &changing{machines: []attesttest.Machine{k.machine(), k.machine()}, after: 2},
				"more in the register":        &extending{k.machine()},
			} {
				lines := attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: machine}))
				for _, required := range []string{"[register-replay, token]", "[token]"} {
					req := platformPolicy(t, k.platform, k.measurement, "[register-replay, token]", required)
					req.Roots = k.roots
					r, err := judgeLines(t, req, lines)
					if !errors.Is(err, refusal.ErrNotVerified) || r != nil {
						t.Errorf("%s, required %s: %v", attack, required, err)
					}
				}
			}
		})
	}
}

// TestAttackOtherTPM quotes a chain's parts on two TPMs whose registers took in the same.
func TestAttackOtherTPM(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"vtpm", "az-tdx"} {
		k := kindsOfMachines(t)[name]
		req := platformPolicy(t, k.platform, k.measurement)
		req.Roots = k.roots
		two := &changing{machines: []attesttest.Machine{k.machine(), k.machine()}, after: 1, told: true}
		r, err := judgeLines(t, req, attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: two})))
		if !errors.Is(err, refusal.ErrBinding) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// changing quotes on its second machine after so many quotes. The second is told of events only where that is said.
type changing struct {
	machines []attesttest.Machine
	after    int
	quotes   int
	told     bool
}

func (c *changing) Extend(d binding.Digest) {
	c.machines[0].Extend(d)
	if c.told {
		c.machines[1].Extend(d)
	}
}

func (c *changing) Instance() statement.Instance { return c.machines[0].Instance() }
func (c *changing) Quote(t testing.TB, payload, context []byte) evidence.Evidence {
	t.Helper()
	c.quotes++
	if c.quotes > c.after {
		return c.machines[1].Quote(t, payload, context)
	}
	return c.machines[0].Quote(t, payload, context)
}

// extending extends its register by something that the log does not tell.
type extending struct{ attesttest.Machine }

func (e *extending) Extend(d binding.Digest) {
	e.Machine.Extend(d)
	e.Machine.Extend(binding.Sum([]byte("something else")))
}

// TestAttackBootLog sends a log of a boot along that is not the one of the registers.
func TestAttackBootLog(t *testing.T) {
	t.Parallel()
	k := kindsOfMachines(t)["tdx"]
	req := platformPolicy(t, k.platform, k.measurement)
	req.Roots = k.roots
	td := newTD(7)
	td.log = []byte("no log at all")
	r, err := judgeLines(t, req, attesttest.Whole(t, onPlatform(k.platform, attesttest.Options{Machine: td})))
	if !errors.Is(err, refusal.ErrMalformed) || r != nil {
		t.Errorf("%v", err)
	}
}
