// SPDX-License-Identifier: Apache-2.0

//go:build !race

package attest_test

import (
	"fmt"
	"testing"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/token"
)

// The rows of this file are those of whoever takes over a machine after dispatch. The machine was honest until then. From
// then on it is an oracle: it quotes any report data, at any time, for any new key. It cannot sign with the environment
// key, which was erased (unless a row says that it leaked), and can only extend the register. The attacker also has the
// bundle of another build, the victim's, whose machine stays honest.
//
// He asks for an artifact that nobody built. Nothing can stop him from having his own machine's job say so: that is
// accepted, under his own job's name. Everything else is refused where the platform has a register. Where it has none,
// what a policy requires in lateCompromise decides; the same rows run in such a world under the build tag mutants.

// lateRow is one way to put a chain together: whose key, job and statements.
type lateRow struct {
	key      string // new, erased (the own, cannot sign), leaked (the own), or victim
	job      string // own or victim
	boot     string // forged, own, victim, or requoted: the victim's statement with a new quote
	dispatch string // the same
	token    string // of a forged DISPATCH: none, own, victim, or minted for it by GitHub; otherwise -
	log      string // true, or forged to fit
}

func (r lateRow) String() string {
	return fmt.Sprintf("key %s, job %s, BOOT %s, DISPATCH %s, token %s, log %s", r.key, r.job, r.boot, r.dispatch, r.token, r.log)
}

// lateRows are all combinations that can mean anything.
func lateRows() []lateRow {
	var out []lateRow
	made := []string{"forged", "own", "victim", "requoted"}
	for _, key := range []string{"new", "erased", "leaked", "victim"} {
		for _, job := range []string{"own", "victim"} {
			for _, boot := range made {
				for _, dispatch := range made {
					tokens := []string{"-"}
					if dispatch == "forged" {
						tokens = []string{"none", "own", "victim", "minted"}
					}
					for _, tok := range tokens {
						out = append(out, lateRow{key, job, boot, dispatch, tok, "forged"})
					}
					if dispatch != "forged" { // the true log has another DISPATCH than a forged one
						out = append(out, lateRow{key, job, boot, dispatch, "-", "true"})
					}
				}
			}
		}
	}
	return out
}

// own reports a chain of nothing but the own build's statements: whatever a broken machine says of its own job.
func (r lateRow) own() bool {
	return (r.key == "erased" || r.key == "leaked") && r.job == "own" && r.boot == "own" && r.dispatch == "own"
}

// accepted is what the threat model says of a row: it knows nothing of how the verifier works.
func (r lateRow) accepted(register bool, required requirement) bool {
	if r.own() {
		return register || !required.register
	}
	signs := r.key == "new" || r.key == "leaked"
	forged := signs && r.dispatch == "forged" && (r.boot == "forged" || r.boot == "own" && r.key == "leaked") && r.log == "forged"
	token := r.token == "minted" || r.token == "own" && r.key == "leaked" && r.job == "own"
	return forged && !register && !required.register && (token || r.token == "none" && !required.token)
}

// requirement is what a policy asks for in lateCompromise.
type requirement struct {
	name            string
	register, token bool
}

func requirements() []requirement {
	return []requirement{
		{"none", false, false}, {"[token]", false, true}, {"[register-replay]", true, false}, {"[register-replay, token]", true, true},
	}
}

// compromised is the attacker: a machine that was honest until after dispatch, and a victim's bundle.
type compromised struct {
	machine        *attesttest.Environment
	own, victim    attesttest.Lines
	instance       statement.Instance
	key, statement *bundle.Key // his own
	facts          map[string]statement.Facts
	tokens         map[string]string
	request        attest.Request // of somebody who takes artifacts of both builds
	policies       map[requirement]*policy.Policy
}

func takeOver(t testing.TB) *compromised {
	t.Helper()
	c := &compromised{
		victim: whole(t, attesttest.Options{}, "widget"), machine: attesttest.Boot(t, otherBuild()),
		request: asking(t), policies: map[requirement]*policy.Policy{},
	}
	for _, required := range requirements() {
		c.policies[required] = bothAllowed(t, required.name)
	}
	c.machine.Dispatch(t)
	c.own = c.machine.Respond(t, "gadget", []byte("honest until here"))
	c.instance = c.machine.Instance(t)
	var err error
	c.key, err = bundle.NewKey()
	fatal(t, err)
	c.statement, err = bundle.NewKey()
	fatal(t, err)
	tokenIn := func(dispatch []byte) string {
		s, err := statement.ParseDispatch(payloadOf(t, dispatch))
		fatal(t, err)
		return s.Conditions.Token
	}
	c.facts = map[string]statement.Facts{"own": c.machine.Facts, "victim": attesttest.Facts()}
	c.tokens = map[string]string{"own": tokenIn(c.own.Dispatch), "victim": tokenIn(c.victim.Dispatch)}
	return c
}

// TestAttackLateCompromise puts every chain together that a compromised machine can.
func TestAttackLateCompromise(t *testing.T) {
	t.Parallel()
	c := takeOver(t)
	register := hasRegister(t, c.own.BootEvidence)
	file := "late-compromise.txt"
	if !register {
		file = "late-compromise-without-register.txt"
	}
	const residual = "what a broken machine says of its own job"
	always := map[string]string{
		"key erased, job own, BOOT own, DISPATCH own": residual, "key leaked, job own, BOOT own, DISPATCH own": residual,
	}
	if !register {
		always = nil // something refuses every row: a register may be required
	}
	m := newMatrix(always)
	for _, r := range lateRows() {
		m.add(t, r.String(), c.try(t, r, register))
	}
	m.check(t, file)
}

// TestAttackLateExtension lets the machine extend its register by what a forged log says, before it quotes.
func TestAttackLateExtension(t *testing.T) {
	t.Parallel()
	c := takeOver(t)
	if !hasRegister(t, c.own.BootEvidence) {
		return // nothing can be extended, and TestAttackLateCompromise has the rows
	}
	for _, r := range lateRows() {
		if r.boot != "forged" || r.dispatch != "forged" || r.log != "forged" {
			continue
		}
		chain, artifact := c.forge(t, r, true)
		if got := judge(t, c.request, artifact, chain...); got != "event-log: event-log-mismatch" {
			t.Errorf("%s: %s", r, got)
		}
	}
}

// try verifies a row under every policy. A stronger requirement is asked for only where the weaker one accepts.
func (c *compromised) try(t *testing.T, r lateRow, register bool) string {
	t.Helper()
	chain, artifact := c.forge(t, r, false)
	out, all := "", true
	for _, required := range requirements() {
		req := c.request
		req.Policy = c.policies[required]
		got := judge(t, req, artifact, chain...)
		if (got == accepted) != r.accepted(register, required) {
			t.Errorf("%s, requiring %s: %s", r, required.name, got)
		}
		if all = all && got == accepted; got != accepted && required.name == "none" {
			return got
		}
		out += ", " + required.name + " " + got
	}
	if all {
		return accepted
	}
	return "requiring" + out[1:]
}

// hasRegister reports whether the platform of these tests has a run-time register. It has, unless a mutant takes it away.
func hasRegister(t *testing.T, line []byte) bool {
	t.Helper()
	e, err := evidence.Parse(line)
	fatal(t, err)
	q, err := appraise.Verify(&e.Evidence, nil, roots(t), attesttest.Now())
	fatal(t, err)
	a, err := q.Meets(policyOf(t).Environments(), attesttest.Now())
	fatal(t, err)
	log, err := eventlog.Parse(e.EventLog)
	fatal(t, err)
	has, err := a.Replays(log)
	fatal(t, err)
	return has
}

// link is a statement's line, its evidence's line and the digest of its payload.
type link struct {
	line, evidence []byte
	payload        binding.Digest
}

// forge puts a chain together around an artifact that nobody built.
func (c *compromised) forge(t testing.TB, r lateRow, extend bool) (chain [][]byte, artifact []byte) {
	t.Helper()
	f := forgery{compromised: c, row: r, facts: c.facts[r.job], signer: c.key, spki: c.key.SPKI(), extend: extend,
		policy: binding.Sum([]byte("policy")), configured: c.machine.Configuration()}
	switch r.key {
	case "erased":
		f.spki = c.machine.Key.SPKI()
	case "leaked":
		f.signer, f.spki = c.machine.Key, c.machine.Key.SPKI()
	case "victim":
		e, err := evidence.Parse(c.victim.BootEvidence)
		fatal(t, err)
		f.spki = e.PublicKey
	}
	f.environment = binding.Sum(f.spki)
	boot := f.statementOf(t, r.boot, binding.Boot, func() link { return f.boot(t) })
	dispatch := f.statementOf(t, r.dispatch, binding.Dispatch, func() link { return f.dispatch(t, boot) })
	artifact = []byte("nobody built this")
	provenance, response, quote := f.respond(t, dispatch.payload, artifact)
	return [][]byte{provenance, response, quote, dispatch.line, dispatch.evidence, boot.line, boot.evidence}, artifact
}

// forgery is a chain in the making.
type forgery struct {
	*compromised
	row         lateRow
	facts       statement.Facts
	signer      *bundle.Key // of what is forged
	spki        []byte      // of the environment key that the chain claims
	environment binding.Digest
	log         eventlog.Log
	extend      bool
	policy      binding.Digest // as DISPATCH has it
	configured  binding.Digest // as BOOT has it
}

// statementOf gives the statement of a row: forged, the own, the victim's, or the victim's with a new quote.
func (f *forgery) statementOf(t testing.TB, from string, purpose binding.Purpose, forged func() link) link {
	t.Helper()
	pick := func(l attesttest.Lines) link {
		if purpose == binding.Boot {
			return link{l.Boot, l.BootEvidence, binding.Sum(payloadOf(t, l.Boot))}
		}
		return link{l.Dispatch, l.DispatchEvidence, binding.Sum(payloadOf(t, l.Dispatch))}
	}
	var out link
	switch from {
	case "own":
		out = pick(f.own)
	case "victim":
		out = pick(f.victim)
	case "requoted":
		out = pick(f.victim)
		e, err := evidence.Parse(out.evidence)
		fatal(t, err)
		attesttest.Requote(t, f.machine.Processor, payloadOf(t, out.line), e)
		out.evidence, err = e.Line()
		fatal(t, err)
	default:
		return forged()
	}
	f.keep(t, purpose, out)
	return out
}

// keep takes over what the provenance has to repeat of a statement that was not forged, and logs it.
func (f *forgery) keep(t testing.TB, purpose binding.Purpose, l link) {
	t.Helper()
	if purpose == binding.Boot {
		s, err := statement.ParseBoot(payloadOf(t, l.line))
		fatal(t, err)
		f.configured = s.Conditions.Configuration
		f.append(t, eventlog.Configuration, f.configured)
		f.append(t, eventlog.EnvironmentKey, f.environment)
		return
	}
	s, err := statement.ParseDispatch(payloadOf(t, l.line))
	fatal(t, err)
	f.policy = s.Conditions.Policy
	f.append(t, eventlog.Dispatch, l.payload)
}

// append adds to the forged log, and to the register where the row says so.
func (f *forgery) append(t testing.TB, typ eventlog.Type, digest binding.Digest) {
	t.Helper()
	fatal(t, f.log.Append(typ, digest))
	if f.extend {
		f.machine.Processor.Extend(digest)
	}
}

// boot claims that the environment key was made on the machine.
func (f *forgery) boot(t testing.TB) link {
	t.Helper()
	f.append(t, eventlog.Configuration, f.configured)
	f.append(t, eventlog.EnvironmentKey, f.environment)
	s := statement.Boot{EnvironmentKey: f.environment, Conditions: statement.BootConditions{
		Instance: f.instance, Configuration: f.configured, BootedOn: attesttest.Now(), Software: map[string]string{"kettled": "1.0.0"},
	}}
	payload, err := s.Marshal()
	fatal(t, err)
	return f.quoted(t, payload, binding.Context{Purpose: binding.Boot})
}

// dispatch claims that the environment runs the row's job.
func (f *forgery) dispatch(t testing.TB, boot link) link {
	t.Helper()
	s := statement.Dispatch{
		EnvironmentKey: f.environment, BuildID: f.facts.BuildID(), BootEvidence: evidence.Digest(boot.evidence),
		Conditions: statement.DispatchConditions{
			Instance: f.instance, Facts: f.facts, Policy: f.policy, DispatchedOn: attesttest.Now(), Token: f.token(t),
		},
	}
	if s.Conditions.Token == "" {
		s.Conditions.Facts.IdentitySource = statement.IdentityJobsAPI
		f.facts.IdentitySource = statement.IdentityJobsAPI
	}
	payload, err := s.Marshal()
	fatal(t, err)
	f.append(t, eventlog.Dispatch, binding.Sum(payload))
	return f.quoted(t, payload, binding.Context{
		Purpose: binding.Dispatch, Nonce: f.machine.Nonce, BuildID: s.BuildID, BootEvidence: s.BootEvidence,
	})
}

// token is the row's token. GitHub mints one with any audience for whoever may speak for a job: here, a job of the
// claimed repository that is in league with the attacker, or one that his machine was given after its fall.
func (f *forgery) token(t testing.TB) string {
	t.Helper()
	if f.row.token != "minted" {
		return f.tokens[f.row.token]
	}
	var called func(map[string]any) // GitHub says of each job which workflow it was called from
	if f.facts.JobWorkflowRef != "" {
		called = func(c map[string]any) {
			c["job_workflow_ref"], c["job_workflow_sha"] = f.facts.JobWorkflowRef, f.facts.JobWorkflowSHA
		}
	}
	return attesttest.Mint(t, f.facts, token.Audience(f.environment, f.machine.Nonce), called)
}

// quoted signs a statement of the environment and has the machine quote it.
func (f *forgery) quoted(t testing.TB, payload []byte, context binding.Context) link {
	t.Helper()
	line, err := bundle.Sign(t.Context(), f.signer, payload)
	fatal(t, err)
	return link{line, f.quote(t, payload, f.spki, context), binding.Sum(payload)}
}

// quote is the oracle's answer.
func (f *forgery) quote(t testing.TB, payload, spki []byte, context binding.Context) []byte {
	t.Helper()
	context.V, context.EnvironmentKey = binding.Version, f.environment
	canonical, err := context.Canonical()
	fatal(t, err)
	e := &evidence.Collection{Binding: canonical, PublicKey: spki, EventLog: f.logOf(context.Purpose)}
	attesttest.Requote(t, f.machine.Processor, payload, e)
	line, err := e.Line()
	fatal(t, err)
	return line
}

// logOf is the machine's own log as it stood at that purpose, or the forged one.
func (f *forgery) logOf(purpose binding.Purpose) []byte {
	if f.row.log == "forged" {
		return f.log.Bytes()
	}
	all := f.machine.Log.Bytes()
	for i, lines := 0, map[binding.Purpose]int{binding.Boot: 2, binding.Dispatch: 3}[purpose]; lines > 0; i++ {
		if all[i] == '\n' {
			if lines--; lines == 0 {
				return all[:i+1]
			}
		}
	}
	return all
}

// respond claims that the job made the artifact.
func (f *forgery) respond(t testing.TB, dispatch binding.Digest, artifact []byte) (provenance, response, quote []byte) {
	t.Helper()
	p := attesttest.Provenance(f.facts, f.environment, dispatch, "artifact", artifact)
	p.Internal.Kettle.Policy, p.Internal.Kettle.Configuration = f.policy, f.configured
	payload, err := p.Marshal()
	fatal(t, err)
	log, err := eventlog.Parse(f.logOf(binding.Response))
	fatal(t, err)
	sequence := len(log.Events()) - len(eventlog.Once()) + 1
	quote = f.quote(t, payload, f.statement.SPKI(), binding.Context{
		Purpose: binding.Response, BuildID: f.facts.BuildID(), StatementKey: f.statement.Digest(), Dispatch: dispatch,
		Sequence: sequence, EventLogHead: log.Head(),
	})
	r := statement.Response{
		Subjects: p.Subjects, Provenance: binding.Sum(payload), Evidence: evidence.Digest(quote), BuildID: f.facts.BuildID(), Sequence: sequence,
	}
	claim, err := r.Marshal()
	fatal(t, err)
	provenance, err = bundle.Sign(t.Context(), f.statement, payload)
	fatal(t, err)
	response, err = bundle.Sign(t.Context(), f.statement, claim)
	fatal(t, err)
	return provenance, response, quote
}
