// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"encoding/pem"
	"net/http"
	"testing"
	"time"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/dispatch/admission/admissiontest"
)

// environment is one that booted on a machine of any kind.
type environment struct {
	machine            attesttest.Machine
	key                *bundle.Key
	log                eventlog.Log
	boot, bootEvidence []byte
}

// started has an environment with a new key boot on a machine.
func started(t *testing.T, machine attesttest.Machine) *environment {
	t.Helper()
	key, err := bundle.NewKey()
	must(t, err)
	return startedAs(t, machine, key)
}

func startedAs(t *testing.T, machine attesttest.Machine, key *bundle.Key) *environment {
	t.Helper()
	e := &environment{machine: machine, key: key}
	for i, d := range []binding.Digest{attesttest.Configuration(), key.Digest()} {
		must(t, e.log.Append(eventlog.Once()[i], d))
		machine.Extend(d)
	}
	payload, err := (&statement.Boot{EnvironmentKey: key.Digest(), Conditions: statement.BootConditions{
		Instance: machine.Instance(), Configuration: attesttest.Configuration(), Software: map[string]string{"kettled": "1.0.0"},
		BootedOn: attesttest.Now().Add(-time.Minute),
	}}).Marshal()
	must(t, err)
	e.boot, e.bootEvidence = e.attest(t, payload, binding.Context{Purpose: binding.Boot})
	return e
}

func (e *environment) attest(t *testing.T, payload []byte, c binding.Context) (signed, line []byte) {
	t.Helper()
	c.V, c.EnvironmentKey = binding.Version, e.key.Digest()
	bound, err := c.Canonical()
	must(t, err)
	own := evidence.Collection{
		Binding: bound, PublicKey: e.key.SPKI(), EventLog: e.log.Bytes(), Evidence: e.machine.Quote(t, payload, bound),
	}
	line, err = own.Line()
	must(t, err)
	signed, err = bundle.Sign(t.Context(), e.key, payload)
	must(t, err)
	return signed, line
}

// asks has the environment ask g to be admitted.
func (e *environment) asks(t *testing.T, g *gate) (int, []byte) {
	t.Helper()
	hpke, err := wire.NewKey()
	must(t, err)
	nonce := g.challenge(e.key.Digest()).Conditions.Nonce
	payload, err := (&statement.AdmissionRequest{EnvironmentKey: e.key.Digest(), BootEvidence: binding.Sum(e.bootEvidence), Conditions: statement.RequestConditions{
		Nonce: nonce, HPKEKey: hpke.Public(), Instance: e.machine.Instance(), Prefix: admissiontest.Prefix,
	}}).Marshal()
	must(t, err)
	r := wire.Request{Boot: e.boot, BootEvidence: e.bootEvidence}
	r.Statement, r.Evidence = e.attest(t, payload, binding.Context{Purpose: binding.Admission, Nonce: nonce, HPKEKey: hpke.Digest()})
	body, err := r.Encode()
	must(t, err)
	return post(t, g.server, wire.PathAdmit, body)
}

func (e *environment) admitted(t *testing.T, g *gate) {
	t.Helper()
	if status, body := e.asks(t, g); status != http.StatusOK {
		t.Fatalf("%d: %s", status, body)
	}
}

// gateOf is a server for machines of another kind than SEV-SNP.
func gateOf(t *testing.T, platform string, roots func(appraise.Roots) (appraise.Roots, error)) *gate {
	t.Helper()
	text := attesttest.PolicyFile(t, attesttest.OnPlatform(platform, attesttest.MRTD())...)
	return newGate(t, text, func(c *admission.Config) {
		own, err := roots(appraise.Roots{})
		must(t, err)
		c.Judge.Roots = own
	})
}

func gateOfTDs(t *testing.T) *gate {
	t.Helper()
	return gateOf(t, "sim", func(r appraise.Roots) (appraise.Roots, error) { return r.WithPrivate(attesttest.NewTD(7).RootsPEM()) })
}

// TestTrustDomains admits two trust domains of one chip: they have the chip's name in common, and registers of their own.
func TestTrustDomains(t *testing.T) {
	t.Parallel()
	g := gateOfTDs(t)
	started(t, attesttest.NewTD(7)).admitted(t, g)
	started(t, attesttest.NewTD(7)).admitted(t, g)
}

// TestAttackTrustDomainTwice asks a second time from a trust domain, and from another one with the same key.
func TestAttackTrustDomainTwice(t *testing.T) {
	t.Parallel()
	g := gateOfTDs(t)
	e := started(t, attesttest.NewTD(7))
	e.admitted(t, g)
	status, body := e.asks(t, g)
	g.refused(status, body, refusal.Policy, "instance")
	status, body = startedAs(t, attesttest.NewTD(9), e.key).asks(t, g)
	g.refused(status, body, refusal.Policy, "instance")
}

// TestAttackTrustDomainOfMany boots a second environment in a trust domain whose register has taken in the first.
func TestAttackTrustDomainOfMany(t *testing.T) {
	t.Parallel()
	g := gateOfTDs(t)
	td := attesttest.NewTD(7)
	started(t, td).admitted(t, g)
	status, body := started(t, td).asks(t, g)
	g.refused(status, body, refusal.EventLogMismatch, "")
}

// still is a trust domain under a kernel that cannot extend a register.
type still struct{ *attesttest.TD }

func (still) Extend(binding.Digest) {}

// TestAttackStillRegister asks from a trust domain whose register was never extended: nothing tells it from its neighbours.
func TestAttackStillRegister(t *testing.T) {
	t.Parallel()
	g := gateOfTDs(t)
	status, body := started(t, still{attesttest.NewTD(7)}).asks(t, g)
	g.refused(status, body, refusal.Policy, "instance")
}

// TestAttackTPMStartedAgain asks from a machine whose TPM was admitted before the host started the machine again.
func TestAttackTPMStartedAgain(t *testing.T) {
	t.Parallel()
	a, err := vtpmtest.NewAuthority(attesttest.Now().Add(-time.Hour), attesttest.Now().Add(24*time.Hour))
	must(t, err)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Root().Raw})
	for name, row := range map[string]struct {
		platform string
		machine  func() *attesttest.TPM
		roots    func(appraise.Roots) (appraise.Roots, error)
	}{
		"vtpm": {"vtpm", func() *attesttest.TPM { return attesttest.NewTPM(t, a) }, func(r appraise.Roots) (appraise.Roots, error) { return r.WithTPM(root) }},
		"az-tdx": {"sim", func() *attesttest.TPM { return attesttest.NewParavisor(t) }, func(r appraise.Roots) (appraise.Roots, error) {
			return r.WithPrivate(attesttest.NewTD(7).RootsPEM())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gateOf(t, row.platform, row.roots)
			m := row.machine()
			started(t, m).admitted(t, g)
			m.Reset()
			status, body := started(t, m).asks(t, g)
			g.refused(status, body, refusal.Policy, "instance")
			started(t, row.machine()).admitted(t, g) // another machine is not refused with it
		})
	}
}
