// SPDX-License-Identifier: Apache-2.0

// Package admissiontest has build environments that ask to be admitted: on a simulated processor, honest, and with each
// step of theirs open for a test to change. It proves nothing and is never linked into a program.
package admissiontest

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
)

// Processor is a secure processor with one guest. A [sim.Processor] is one.
//
// [sim.Processor]: https://pkg.go.dev/github.com/kettle/attest/attest/sim#Processor
type Processor interface {
	Report(reportData [64]byte) ([]byte, error)
	Extend(digest [32]byte) [32]byte
	Endorsements() []byte
}

// Prefix is what the names of every machine's runners begin with.
const Prefix = "kettle-0123456789abcdef"

// Machine is a booted environment.
type Machine struct {
	Processor Processor
	EnvKey    *bundle.Key
	Log       eventlog.Log

	boot, bootEvidence []byte
	instance           statement.Instance
}

var _ runner.Applicant = (*Machine)(nil)

// Boot makes an environment: configuration and key are in its log and register, and BOOT is quoted. More events go into
// the log and the register after that.
func Boot(ctx context.Context, p Processor, at time.Time, more ...binding.Digest) (*Machine, error) {
	m := &Machine{Processor: p}
	var err error
	if m.EnvKey, err = bundle.NewKey(); err != nil {
		return nil, err
	}
	return m, m.start(ctx, at, more)
}

// BootAs is [Boot] with a key that there is already.
func BootAs(ctx context.Context, p Processor, key *bundle.Key, at time.Time) (*Machine, error) {
	m := &Machine{Processor: p, EnvKey: key}
	return m, m.start(ctx, at, nil)
}

func (m *Machine) start(ctx context.Context, at time.Time, more []binding.Digest) error {
	configuration := binding.Sum([]byte("configuration"))
	for i, d := range append([]binding.Digest{configuration, m.EnvKey.Digest()}, more...) {
		if err := m.Log.Append(eventlog.Once()[i], d); err != nil {
			return err
		}
		m.Processor.Extend(d)
	}
	r, err := m.Processor.Report([64]byte{})
	if err != nil {
		return err
	}
	m.instance = statement.Instance{Platform: "sim", ReportID: hex.EncodeToString(r[0x140:0x160]), ChipID: hex.EncodeToString(r[0x1a0:0x1e0])}
	s := statement.Boot{EnvironmentKey: m.EnvKey.Digest(), Conditions: statement.BootConditions{
		Instance: m.instance, Configuration: configuration, Software: map[string]string{"kettled": "1.0.0"}, BootedOn: at,
	}}
	payload, err := s.Marshal()
	if err != nil {
		return err
	}
	m.boot, m.bootEvidence, err = m.Attest(ctx, payload, binding.Context{Purpose: binding.Boot}, true)
	return err
}

// Attest signs any payload with the environment key and has it quoted under any context, as everybody can who runs inside
// the machine and has the key.
func (m *Machine) Attest(ctx context.Context, payload []byte, c binding.Context, endorse bool) (signed, line []byte, err error) {
	c.V, c.EnvironmentKey = binding.Version, m.EnvKey.Digest()
	bound, err := c.Canonical()
	if err != nil {
		return nil, nil, err
	}
	e := evidence.Collection{Binding: bound, PublicKey: m.EnvKey.SPKI(), EventLog: m.Log.Bytes()}
	e.Kind = evidence.SNP
	if e.Report, err = m.Processor.Report(binding.ReportData(payload, bound)); err != nil {
		return nil, nil, err
	}
	if endorse {
		if e.Leaf, err = snp.EndorsementKey(m.Processor.Endorsements()); err != nil {
			return nil, nil, err
		}
	}
	if line, err = e.Line(); err != nil {
		return nil, nil, err
	}
	signed, err = bundle.Sign(ctx, m.EnvKey, payload)
	return signed, line, err
}

// Key implements [runner.Applicant].
func (m *Machine) Key() binding.Digest { return m.EnvKey.Digest() }

// Instance implements [runner.Applicant].
func (m *Machine) Instance() statement.Instance { return m.instance }

// Boot implements [runner.Applicant].
func (m *Machine) Boot() (signed, evidence []byte) { return m.boot, m.bootEvidence }

// Quote implements [runner.Applicant].
func (m *Machine) Quote(ctx context.Context, payload []byte, nonce, hpkeKey binding.Digest) (signed, evidence []byte, err error) {
	return m.Attest(ctx, payload, binding.Context{Purpose: binding.Admission, Nonce: nonce, HPKEKey: hpkeKey}, false)
}
