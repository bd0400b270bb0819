// SPDX-License-Identifier: Apache-2.0

// Package attesttest makes whole, valid chains of evidence for tests: a simulated processor, an environment that
// boots, is dispatched and responds, GitHub's token, and a policy and trust file that accept all of it.
//
// Every part can be changed on the way by a hook, so that a test of a verifier breaks one thing and nothing else. The
// package proves nothing and is never linked into a program.
package attesttest

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
)

// Now is the time of every chain unless a test says otherwise.
func Now() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

// LaunchDigest is what every processor measured unless a test says otherwise.
func LaunchDigest() [48]byte {
	var d [48]byte
	for i := range d {
		d[i] = 0x5a
	}
	return d
}

// Measurement is LaunchDigest as a policy writes it.
func Measurement() string {
	d := LaunchDigest()
	return hex.EncodeToString(d[:])
}

// Processor makes a processor of the shared authority.
func Processor(t testing.TB, launch [48]byte) *sim.Processor {
	t.Helper()
	p, err := Authority().NewProcessor(launch, Now())
	must(t, err)
	return p
}

// Hooks change one part each, just before it is encoded, signed or quoted. A nil hook changes nothing.
type Hooks struct {
	Boot             func(*statement.Boot)
	BootContext      func(*binding.Context)
	BootEvidence     func(*evidence.Collection)
	Dispatch         func(*statement.Dispatch)
	DispatchContext  func(*binding.Context)
	DispatchEvidence func(*evidence.Collection)
	Provenance       func(*statement.Provenance)
	ResponseContext  func(*binding.Context)
	ResponseEvidence func(*evidence.Collection)
	Response         func(*statement.Response)

	// Quoter replaces the processor that quotes for a purpose.
	Quoter func(binding.Purpose) *sim.Processor
	// Claims changes GitHub's token before GitHub signs it.
	Claims func(map[string]any)
	// Signer replaces the key that signs a payload, which the quote does not name then.
	Signer func(kind string, own *bundle.Key) *bundle.Key

	// Payload replaces the bytes of a statement after it was encoded: they are signed, quoted and named from there on.
	// The kinds are boot, dispatch, provenance and response.
	Payload func(kind string, payload []byte) []byte
	// Context replaces the bytes of a context after it was encoded.
	Context func(purpose binding.Purpose, context []byte) []byte
}

// Machine is what quotes for an environment in place of a simulated processor: hardware of another kind.
type Machine interface {
	Quote(t testing.TB, payload, context []byte) evidence.Evidence
	Extend(digest binding.Digest)
	Instance() statement.Instance
}

// Options describe an environment.
type Options struct {
	Processor *sim.Processor // default: a new one of the shared authority
	Machine   Machine        // quotes instead of Processor, if there is one
	NoToken   bool           // the job has no permission id-token: write
	Facts     *statement.Facts
	Nonce     binding.Digest // default: the same for every environment
	// Configuration is what the event log says of it; BOOT says the same unless a hook changes it.
	Configuration binding.Digest // default: Configuration()
	// EndorseOnce leaves the certificate out of all evidence but BOOT's, as kettled does. Without it every evidence
	// brings its own, so that an attack with evidence of two machines is not stopped for want of one.
	EndorseOnce bool
	Hooks       Hooks
}

// Environment is one booted build environment. Its methods are called in the order of a job's life.
type Environment struct {
	Key       *bundle.Key
	Processor *sim.Processor
	Log       eventlog.Log
	Nonce     binding.Digest
	Facts     statement.Facts

	o        Options
	lines    Lines
	dispatch binding.Digest
	sequence int
}

// Lines are the lines of one bundle file.
type Lines struct {
	Boot, BootEvidence, Dispatch, DispatchEvidence   []byte
	Provenance, Response, ResponseEvidence, Artifact []byte // Artifact is no line: it is what was built
}

// List gives the lines of the file in the order in which kettled writes them.
func (l Lines) List() [][]byte {
	return [][]byte{l.Provenance, l.Response, l.ResponseEvidence, l.Dispatch, l.DispatchEvidence, l.Boot, l.BootEvidence}
}

// Bytes gives the file; a line that is empty is left out.
func (l Lines) Bytes() []byte {
	var b []byte
	for _, line := range l.List() {
		if len(line) > 0 {
			b = append(append(b, line...), '\n')
		}
	}
	return b
}

// Whole boots an environment, dispatches the job and attests one artifact.
func Whole(t testing.TB, o Options) Lines {
	t.Helper()
	e := Boot(t, o)
	e.Dispatch(t)
	return e.Respond(t, "widget.tar.gz", []byte("what was built"))
}

// Boot makes an environment: its key, its BOOT statement and the quote of it.
func Boot(t testing.TB, o Options) *Environment {
	t.Helper()
	key, err := bundle.NewKey()
	must(t, err)
	e := &Environment{Key: key, Processor: o.Processor, Nonce: o.Nonce, Facts: Facts(), o: o}
	if e.Processor == nil {
		e.Processor = Processor(t, LaunchDigest())
	}
	if e.Nonce.IsZero() {
		e.Nonce = binding.Sum([]byte("nonce"))
	}
	if o.Facts != nil {
		e.Facts = *o.Facts
	}
	if o.NoToken {
		e.Facts.IdentitySource = statement.IdentityJobsAPI
	}
	if e.o.Configuration.IsZero() {
		e.o.Configuration = Configuration()
	}
	for n, d := range []binding.Digest{e.o.Configuration, key.Digest()} {
		must(t, e.Log.Append(eventlog.Once()[n], d))
		e.extend(d)
	}
	s := &statement.Boot{EnvironmentKey: key.Digest(), Conditions: statement.BootConditions{
		Instance: e.Instance(t), Configuration: e.o.Configuration, BootedOn: Now().Add(-time.Minute),
		Software: map[string]string{"kettled": "1.0.0"},
	}}
	apply(o.Hooks.Boot, s)
	payload, err := s.Marshal()
	must(t, err)
	payload = e.payload("boot", payload)
	e.lines.Boot = e.sign(t, "boot", key, payload)
	e.lines.BootEvidence = e.quote(t, quoteOf{key, payload, binding.Context{Purpose: binding.Boot}, o.Hooks.BootContext, o.Hooks.BootEvidence})
	return e
}

// Instance is the machine that the environment runs on, as its processor reports it.
func (e *Environment) Instance(t testing.TB) statement.Instance {
	t.Helper()
	if e.o.Machine != nil {
		return e.o.Machine.Instance()
	}
	r, err := e.Processor.Report([64]byte{})
	must(t, err)
	return statement.Instance{Platform: "sim", ReportID: hex.EncodeToString(r[0x140:0x160]), ChipID: hex.EncodeToString(r[0x1a0:0x1e0])}
}

// Configuration is what the environment's event log says of its configuration.
func (e *Environment) Configuration() binding.Digest { return e.o.Configuration }

func (e *Environment) extend(d binding.Digest) {
	if e.o.Machine != nil {
		e.o.Machine.Extend(d)
		return
	}
	e.Processor.Extend(d)
}

// Dispatch binds the environment to its one job and erases the environment key.
func (e *Environment) Dispatch(t testing.TB) {
	t.Helper()
	s := &statement.Dispatch{
		EnvironmentKey: e.Key.Digest(), BuildID: e.Facts.BuildID(), BootEvidence: evidence.Digest(e.lines.BootEvidence),
		Conditions: statement.DispatchConditions{
			Instance: e.Instance(t), Facts: e.Facts, Policy: binding.Sum([]byte("policy")), DispatchedOn: Now(),
		},
	}
	if !e.o.NoToken {
		s.Conditions.Token = e.Token(t)
	}
	apply(e.o.Hooks.Dispatch, s)
	payload, err := s.Marshal()
	must(t, err)
	payload = e.payload("dispatch", payload)
	e.dispatch = binding.Sum(payload)
	must(t, e.Log.Append(eventlog.Dispatch, e.dispatch))
	e.extend(e.dispatch)
	e.lines.Dispatch = e.sign(t, "dispatch", e.Key, payload)
	e.lines.DispatchEvidence = e.quote(t, quoteOf{e.Key, payload, binding.Context{
		Purpose: binding.Dispatch, Nonce: e.Nonce, BuildID: s.BuildID, BootEvidence: s.BootEvidence,
	}, e.o.Hooks.DispatchContext, e.o.Hooks.DispatchEvidence})
}

// SignAgain signs another payload with the environment key, as an honest environment never does.
func (e *Environment) SignAgain(t testing.TB, payload []byte) []byte {
	t.Helper()
	return e.sign(t, "again", e.Key, payload)
}

// Respond attests one artifact. It may be called again for the next one.
func (e *Environment) Respond(t testing.TB, name string, artifact []byte) Lines {
	t.Helper()
	key, err := bundle.NewKey()
	must(t, err)
	e.sequence++
	p := Provenance(e.Facts, e.Key.Digest(), e.dispatch, name, artifact)
	apply(e.o.Hooks.Provenance, p)
	payload, err := p.Marshal()
	must(t, err)
	payload = e.payload("provenance", payload)
	l := e.lines
	l.Artifact = artifact
	l.Provenance = e.sign(t, "provenance", key, payload)
	l.ResponseEvidence = e.quote(t, quoteOf{key, payload, binding.Context{
		Purpose: binding.Response, BuildID: e.Facts.BuildID(), StatementKey: key.Digest(), Dispatch: e.dispatch,
		Sequence: e.sequence, EventLogHead: e.Log.Head(),
	}, e.o.Hooks.ResponseContext, e.o.Hooks.ResponseEvidence})
	r := &statement.Response{
		Subjects: p.Subjects, Provenance: binding.Sum(payload), Evidence: evidence.Digest(l.ResponseEvidence),
		BuildID: e.Facts.BuildID(), Sequence: e.sequence,
	}
	apply(e.o.Hooks.Response, r)
	response, err := r.Marshal()
	must(t, err)
	l.Response = e.sign(t, "response", key, e.payload("response", response))
	must(t, e.Log.Append(eventlog.Response, binding.Sum(payload)))
	return l
}

func (e *Environment) payload(kind string, payload []byte) []byte {
	if e.o.Hooks.Payload == nil {
		return payload
	}
	return e.o.Hooks.Payload(kind, payload)
}

func (e *Environment) sign(t testing.TB, kind string, key *bundle.Key, payload []byte) []byte {
	t.Helper()
	if e.o.Hooks.Signer != nil {
		key = e.o.Hooks.Signer(kind, key)
	}
	line, err := bundle.Sign(t.Context(), key, payload)
	must(t, err)
	return line
}

// quoteOf is what a quote is made for.
type quoteOf struct {
	key      *bundle.Key
	payload  []byte
	context  binding.Context
	change   func(*binding.Context)
	evidence func(*evidence.Collection)
}

func (e *Environment) quote(t testing.TB, q quoteOf) []byte {
	t.Helper()
	q.context.V, q.context.EnvironmentKey = binding.Version, e.Key.Digest()
	purpose := q.context.Purpose
	apply(q.change, &q.context)
	context, err := q.context.Canonical()
	must(t, err)
	if e.o.Hooks.Context != nil {
		context = e.o.Hooks.Context(purpose, context)
	}
	processor := e.Processor
	if e.o.Hooks.Quoter != nil {
		if p := e.o.Hooks.Quoter(purpose); p != nil {
			processor = p
		}
	}
	c := &evidence.Collection{Binding: context, PublicKey: q.key.SPKI(), EventLog: e.Log.Bytes()}
	if e.o.Machine != nil {
		c.Evidence = e.o.Machine.Quote(t, q.payload, context)
	} else {
		Requote(t, processor, q.payload, c)
	}
	if purpose != binding.Boot && e.o.EndorseOnce {
		c.Endorsements = evidence.Endorsements{}
	}
	apply(q.evidence, c)
	line, err := c.Line()
	must(t, err)
	return line
}

// Requote asks a processor for a quote over any payload and the context that the evidence carries, as everybody can who
// runs inside its machine, and puts report and endorsement into the evidence. It is the oracle of a compromised machine.
func Requote(t testing.TB, p *sim.Processor, payload []byte, c *evidence.Collection) {
	t.Helper()
	var err error
	c.Kind = evidence.SNP
	c.Report, err = p.Report(binding.ReportData(payload, c.Binding))
	must(t, err)
	c.Leaf, err = snp.EndorsementKey(p.Endorsements())
	must(t, err)
}

func apply[T any](hook func(*T), v *T) {
	if hook != nil {
		hook(v)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
