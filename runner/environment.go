// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/statement"
)

// record is one quoted statement as it goes to the sink and into bundle files.
type record struct {
	payload  []byte
	bundle   []byte // the signed statement, one line
	evidence []byte // its evidence, one line
}

func (r record) lines() []byte { return lines(r.bundle, r.evidence) }

// environment is one booted machine: its keys, its event log and its quoted statements. Owned by the run loop.
type environment struct {
	device Device
	appr   Appraiser
	now    func() time.Time

	key      *bundle.Key // nil once DISPATCH is signed
	keyID    binding.Digest
	self     Self
	log      eventlog.Log
	boot     record
	summary  []byte // VSA-SELF, one line
	admitted []byte // VSA-ENV, one line; nil where nobody outside was asked
	dispatch record
	buildID  string
	job      *Job
	began    time.Time // dispatch
}

// newEnvironment verifies the machine's own image, extends the register with the configuration, makes the environment key,
// extends the register with it, and quotes BOOT. Before the image is verified there is no key.
func newEnvironment(ctx context.Context, p Ports, c Config) (*environment, error) {
	e := &environment{device: p.Device, appr: p.Appraiser, now: p.Now}
	own, err := e.verifySelf(ctx, p.Image)
	if err != nil {
		return nil, err
	}
	if err := e.event(ctx, eventlog.Configuration, c.Configuration); err != nil {
		return nil, err
	}
	if e.key, err = bundle.NewKey(); err != nil {
		return nil, err
	}
	e.keyID = e.key.Digest()
	if err := e.event(ctx, eventlog.EnvironmentKey, e.keyID); err != nil {
		return nil, err
	}
	if e.summary, err = e.summarise(ctx, own, c.Software); err != nil {
		return nil, err
	}
	boot := statement.Boot{EnvironmentKey: e.keyID, Conditions: statement.BootConditions{
		Instance: e.self.Instance, Configuration: c.Configuration, Software: c.Software, BootedOn: e.now(),
	}}
	payload, err := boot.Marshal()
	if err != nil {
		return nil, err
	}
	e.boot, err = e.attest(ctx, e.key, payload, binding.Context{Purpose: binding.Boot})
	if err != nil {
		return nil, fmt.Errorf("quoting BOOT: %w", err)
	}
	return e, nil
}

// verifySelf asks what this machine is, and whether it runs the image that it should.
func (e *environment) verifySelf(ctx context.Context, verifier ImageVerifier) (Image, error) {
	probe, err := e.device.Quote(ctx, [64]byte{})
	if err != nil {
		return Image{}, fmt.Errorf("asking the secure processor: %w", err)
	}
	at := e.now()
	if e.self, err = e.appr.Appraise(probe, at); err != nil {
		return Image{}, fmt.Errorf("appraising this machine: %w", err)
	}
	own, err := verifier.VerifyImage(ctx, probe, at)
	if err != nil {
		return Image{}, fmt.Errorf("verifying the image that this machine runs: %w", err)
	}
	return own, nil
}

// summarise signs VSA-SELF: what the machine found about its own image.
func (e *environment) summarise(ctx context.Context, own Image, software map[string]string) ([]byte, error) {
	attested := func(name string, d binding.Digest) statement.ResourceDescriptor {
		return statement.ResourceDescriptor{Name: name, Digest: statement.SHA256(d)}
	}
	v := statement.SelfVSA{EnvironmentKey: e.keyID, Image: own.Files, Summary: statement.VSA{
		Verifier: statement.Verifier{ID: statement.SelfVerifier, Version: software}, TimeVerified: e.now(),
		Policy: statement.VSAPolicy{URI: policyURI, Digest: own.Policy}, Result: statement.Passed,
		Inputs: []statement.ResourceDescriptor{attested("image provenance", own.Provenance), attested("reference values", own.References)},
		Levels: append(slices.Clone(own.Levels), statement.PropertySelf, statement.PropertyRevocationNotChecked),
	}}
	payload, err := v.Marshal()
	if err != nil {
		return nil, fmt.Errorf("summarising the verification of the image: %w", err)
	}
	return bundle.Sign(ctx, e.key, payload)
}

// policyURI says where the policy lies that a machine judges itself by: in the image.
const policyURI = "file:///etc/kettle/policy.yaml"

// bind makes and quotes the DISPATCH statement and erases the environment key. It runs before the started hook is
// answered, so before any code of the job runs.
func (e *environment) bind(ctx context.Context, job *Job, nonce, policy binding.Digest) error {
	defer e.forget()
	e.began = e.now()
	s := statement.Dispatch{
		EnvironmentKey: e.keyID, BuildID: job.Facts.BuildID(), BootEvidence: evidence.Digest(e.boot.evidence),
		Conditions: statement.DispatchConditions{
			Instance: e.self.Instance, Facts: job.Facts, Token: job.Token, Policy: policy, DispatchedOn: e.began,
		},
	}
	payload, err := s.Marshal()
	if err != nil {
		return err
	}
	if err := e.event(ctx, eventlog.Dispatch, binding.Sum(payload)); err != nil {
		return err
	}
	e.dispatch, err = e.attest(ctx, e.key, payload, binding.Context{
		Purpose: binding.Dispatch, Nonce: nonce, BuildID: s.BuildID, BootEvidence: s.BootEvidence,
	})
	if err != nil {
		return fmt.Errorf("quoting DISPATCH: %w", err)
	}
	e.job, e.buildID = job, s.BuildID
	return nil
}

// forget erases the environment key; its digest stays as the environment's name.
func (e *environment) forget() {
	if e != nil && e.key != nil {
		e.key.Erase()
		e.key = nil
	}
}

// Response is what one attest request yields.
type Response struct {
	Sequence  int
	Subjects  []statement.Subject
	Statement []byte // the provenance payload
	Bundle    []byte // the whole bundle file, JSON Lines
	Signed    []byte // the provenance's own Sigstore bundle, one line
	BuildID   string
	BuilderID string
	Platform  string
	Facts     statement.Facts

	Measurement    [48]byte
	EnvironmentKey binding.Digest
	StatementKey   binding.Digest
}

// respond quotes and signs provenance. The caller holds the sandbox frozen: the statement key lives inside this call.
func (e *environment) respond(ctx context.Context, p *statement.Provenance, sequence int) (*Response, error) {
	payload, err := p.Marshal()
	if err != nil {
		return nil, err
	}
	key, err := bundle.NewKey()
	if err != nil {
		return nil, err
	}
	defer key.Erase()
	rec, err := e.attest(ctx, key, payload, binding.Context{
		Purpose: binding.Response, BuildID: e.buildID, Dispatch: binding.Sum(e.dispatch.payload),
		StatementKey: key.Digest(), Sequence: sequence, EventLogHead: e.log.Head(),
	})
	if err != nil {
		return nil, fmt.Errorf("quoting provenance: %w", err)
	}
	response := statement.Response{
		Subjects: p.Subjects, Provenance: binding.Sum(payload), Evidence: evidence.Digest(rec.evidence),
		BuildID: e.buildID, Sequence: sequence,
	}
	responsePayload, err := response.Marshal()
	if err != nil {
		return nil, err
	}
	responseLine, err := bundle.Sign(ctx, key, responsePayload)
	if err != nil {
		return nil, err
	}
	if err := e.event(ctx, eventlog.Response, binding.Sum(payload)); err != nil {
		return nil, err
	}
	return &Response{
		Sequence: sequence, Subjects: p.Subjects, Statement: payload, Signed: rec.bundle, BuildID: e.buildID,
		BuilderID: p.BuilderID, Platform: e.self.Instance.Platform, Facts: e.job.Facts,
		Measurement: e.self.Measurement, EnvironmentKey: e.keyID, StatementKey: key.Digest(),
		Bundle: bytes.Join([][]byte{rec.lines(), lines(responseLine), e.dispatch.lines(), e.boot.lines(), lines(e.admission()...)}, nil),
	}, nil
}

// finalise quotes the FINAL statement. The caller has seen the sandbox dead.
func (e *environment) finalise(ctx context.Context, c statement.FinalConditions) (record, error) {
	key, err := bundle.NewKey()
	if err != nil {
		return record{}, err
	}
	defer key.Erase()
	s := statement.Final{EnvironmentKey: e.keyID, BuildID: e.buildID, Conditions: c}
	payload, err := s.Marshal()
	if err != nil {
		return record{}, err
	}
	rec, err := e.attest(ctx, key, payload, binding.Context{
		Purpose: binding.Final, BuildID: e.buildID, Dispatch: binding.Sum(e.dispatch.payload),
		StatementKey: key.Digest(), EventLogHead: e.log.Head(),
	})
	if err != nil {
		return record{}, fmt.Errorf("quoting FINAL: %w", err)
	}
	return rec, nil
}

// attest quotes a payload under a context and signs it with the key that the context names.
func (e *environment) attest(ctx context.Context, key *bundle.Key, payload []byte, c binding.Context) (record, error) {
	c.V, c.EnvironmentKey = binding.Version, e.keyID
	bound, err := c.Canonical()
	if err != nil {
		return record{}, err
	}
	q, err := e.device.Quote(ctx, binding.ReportData(payload, bound))
	if err != nil {
		return record{}, fmt.Errorf("asking the secure processor: %w", err)
	}
	self, err := e.appr.Appraise(q, e.now())
	if err != nil {
		return record{}, fmt.Errorf("appraising the quote: %w", err)
	}
	if self != e.self {
		return record{}, fmt.Errorf("appraising the quote: it is from instance %v, not from this machine", self.Instance)
	}
	collection := evidence.Collection{
		Evidence: q.Evidence, Binding: bound, PublicKey: key.SPKI(), EventLog: e.log.Bytes(),
	}
	if c.Purpose != binding.Boot && c.Purpose != binding.Final { // theirs travel with BOOT
		collection.Endorsements, collection.BootLog = evidence.Endorsements{}, nil
	}
	line, err := collection.Line()
	if err != nil {
		return record{}, err
	}
	signed, err := bundle.Sign(ctx, key, payload)
	if err != nil {
		return record{}, err
	}
	return record{payload: payload, bundle: signed, evidence: line}, nil
}

// event logs an event and extends the register when its type does. The log leads: if the device then fails, the
// environment ends.
func (e *environment) event(ctx context.Context, t eventlog.Type, d binding.Digest) error {
	before := e.log.Register()
	if err := e.log.Append(t, d); err != nil {
		return err
	}
	if e.log.Register() == before {
		return nil
	}
	if err := e.device.Extend(ctx, d); err != nil {
		return fmt.Errorf("extending the run-time register: %w", err)
	}
	return nil
}

// newNonce draws 32 fresh bytes.
func newNonce() (binding.Digest, error) {
	var n binding.Digest
	if _, err := rand.Read(n[:]); err != nil {
		return n, fmt.Errorf("drawing a nonce: %w", err)
	}
	return n, nil
}

func lines(ls ...[]byte) []byte {
	var b bytes.Buffer
	for _, l := range ls {
		b.Write(l)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
