// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/token"
)

// quoted is a statement of the environment with its own quote, both verified.
type quoted struct {
	payload []byte
	context binding.Context
	spki    []byte
}

// environmentStatement verifies a statement that the environment key signed and a quote was made for: signature, quote
// under the same policy as the response, purpose, the same running machine, the replay of its event log, and of the boot
// log where one travels with it.
func (c *chain) environmentStatement(payload binding.Digest, e *evidence.Collection, purpose binding.Purpose) (*quoted, error) {
	key := c.context.EnvironmentKey
	if err := agree(refusal.Binding, claim{"environment key", key.String(), binding.Sum(e.PublicKey).String()}); err != nil {
		return nil, err
	}
	signed, err := c.idx.signed(payload, e.PublicKey)
	if err != nil {
		return nil, err
	}
	q, err := c.idx.verified[e]()
	if err != nil {
		return nil, err
	}
	a, err := q.Meets(c.req.Policy.Environments(), c.req.At, c.signedValues()...)
	if err != nil {
		return nil, err
	}
	ctx, err := a.Quote().Binds(signed, e.Binding, purpose)
	if err != nil {
		return nil, err
	}
	if err := agree(refusal.Binding, append(c.sameInstance(a.Instance()),
		claim{"environment key", key.String(), ctx.EnvironmentKey.String()},
		claim{"measurement", c.appraisal.Measurement(), a.Measurement()})...); err != nil {
		return nil, err
	}
	digests := []binding.Digest{c.configuration(), key}
	if purpose == binding.Dispatch {
		digests = append(digests, payload)
	}
	log, replayed, err := replay(e, a, digests...)
	if err != nil {
		return nil, err
	}
	if replayed != c.replayed {
		return nil, refuse(refusal.EventLogMismatch, fmt.Sprintf("a quote whose run-time register is as the response's: replayed %v", c.replayed),
			fmt.Sprintf("replayed %v", replayed), nextAltered)
	}
	if n := len(log.Events()); n != len(digests) {
		return nil, refuse(refusal.EventLogMismatch, fmt.Sprintf("%d events at %s", len(digests), purpose), fmt.Sprint(n), nextAltered)
	}
	if len(e.BootLog) > 0 {
		if _, err := q.BootLog(e.BootLog); err != nil {
			return nil, err
		}
	}
	return &quoted{payload: signed, context: ctx, spki: e.PublicKey}, nil
}

func (c *chain) sameInstance(i statement.Instance) []claim {
	want := c.appraisal.Instance()
	return []claim{
		{"platform", want.Platform, i.Platform}, {"report ID", want.ReportID, i.ReportID}, {"chip ID", want.ChipID, i.ChipID},
		{"attestation key", want.AttestationKey, i.AttestationKey},
	}
}

// checkDispatch demands the DISPATCH statement that the response's quote names: the one job of this environment.
func (c *chain) checkDispatch() (found, error) {
	digest := c.context.Dispatch
	if len(c.idx.bundles[digest]) == 0 {
		return found{}, refuse(refusal.Missing, "the DISPATCH statement sha256:"+digest.String(), "none", nextWhole)
	}
	quotes := c.idx.quotes[digest]
	if len(quotes) == 0 {
		return found{}, refuse(refusal.Missing, "evidence that quotes the DISPATCH statement", "none", nextWhole)
	}
	var q *quoted
	var first error
	for n, e := range quotes {
		if n == maxTries {
			break
		}
		var err error
		if q, err = c.environmentStatement(digest, e, binding.Dispatch); err == nil {
			break
		}
		if first == nil {
			first = relink(linkDispatch, "for the DISPATCH statement, ", err)
		}
	}
	if q == nil {
		return found{}, first
	}
	d, err := statement.ParseDispatch(q.payload)
	if err != nil {
		return found{}, err
	}
	if err := c.idx.single(digest, q.spki); err != nil {
		return found{}, err
	}
	err = agree(refusal.Binding, append(c.sameInstance(d.Conditions.Instance),
		claim{"environment key", c.context.EnvironmentKey.String(), d.EnvironmentKey.String()},
		claim{"build ID", c.context.BuildID, d.BuildID},
		claim{"build ID of its quote", c.context.BuildID, q.context.BuildID},
		claim{"BOOT evidence", q.context.BootEvidence.String(), d.BootEvidence.String()})...)
	if err != nil {
		return found{}, err
	}
	if err := agree(refusal.Binding, jobClaims(c.provenance, d)...); err != nil {
		return found{}, err
	}
	c.dispatch, c.nonce = d, q.context.Nonce
	return found{d.BuildID, "DISPATCH statement, environment key, its own quote", false}, nil
}

// jobClaims pairs every fact of the DISPATCH statement with the provenance's word for it.
func jobClaims(p *statement.Provenance, d *statement.Dispatch) []claim {
	f, g, k, w := d.Conditions.Facts, p.Internal.GitHub, p.Internal.Kettle, p.External.Workflow
	repository, source := f.Server+"/"+f.Repository, p.Dependencies[0]
	return []claim{
		{"workflow.repository", repository, w.Repository},
		{"workflow.path", f.WorkflowPath, w.Path},
		{"workflow.ref", f.Ref, w.Ref},
		{"job", f.Job, p.External.Job},
		{"event", f.Event, p.External.Event},
		{"event_name", f.Event, g.EventName},
		{"repository_id", f.RepositoryID, g.RepositoryID},
		{"repository_owner_id", f.RepositoryOwnerID, g.RepositoryOwnerID},
		{"run_id", f.RunID, g.RunID},
		{"run_attempt", f.RunAttempt, g.RunAttempt},
		{"job_id", f.JobID, g.JobID},
		{"runner_name", f.RunnerName, g.RunnerName},
		{"job_workflow_ref", f.JobWorkflowRef, g.JobWorkflowRef},
		{"job_workflow_sha", f.JobWorkflowSHA, g.JobWorkflowSHA},
		{"actor_id", f.ActorID, g.ActorID},
		{"identitySource", f.IdentitySource, k.IdentitySource},
		{"policy", d.Conditions.Policy.String(), k.Policy.String()},
		{"source", "git+" + repository + "@" + f.Ref, source.URI},
		{"source commit", f.SHA, source.Digest["gitCommit"]},
	}
}

// checkBoot demands the BOOT statement whose evidence DISPATCH names by digest: where the environment key comes from.
func (c *chain) checkBoot() (found, error) {
	e := c.idx.evidence[c.dispatch.BootEvidence]
	if e == nil {
		return found{}, refuse(refusal.Missing, "the BOOT evidence sha256:"+c.dispatch.BootEvidence.String(), "none", nextWhole)
	}
	payload, ok := c.idx.quoted[e]
	if !ok || len(c.idx.bundles[payload]) == 0 {
		return found{}, refuse(refusal.Missing, "the BOOT statement that its evidence quotes", "none", nextWhole)
	}
	q, err := c.environmentStatement(payload, e, binding.Boot)
	if err != nil {
		return found{}, relink(linkBoot, "for the BOOT statement, ", err)
	}
	b, err := statement.ParseBoot(q.payload)
	if err != nil {
		return found{}, err
	}
	err = agree(refusal.Binding, append(c.sameInstance(b.Conditions.Instance),
		claim{"environment key", c.context.EnvironmentKey.String(), b.EnvironmentKey.String()},
		claim{"configuration", b.Conditions.Configuration.String(), c.provenance.Internal.Kettle.Configuration.String()})...)
	if err != nil {
		return found{}, err
	}
	c.boot = b
	return found{"environment sha256:" + b.EnvironmentKey.String(), "BOOT statement, environment key, its own quote", false}, nil
}

// checkToken demands GitHub's own signature where the identity says that it comes from one, and where the policy
// requires it. The keys are the verifier's.
func (c *chain) checkToken() (found, error) {
	required, err := c.req.Policy.Environments().Requires(c.req.At)
	if err != nil {
		return found{}, err
	}
	facts := c.dispatch.Conditions.Facts
	if facts.IdentitySource != statement.IdentityToken {
		if slices.Contains(required, policy.Token) {
			return found{}, refuse(refusal.Policy, "GitHub's token, as environments.lateCompromise requires",
				"an identity from "+facts.IdentitySource, "give the job the permission id-token: write, or review the policy")
		}
		return found{"no token", "identity from " + facts.IdentitySource, true}, nil
	}
	claims, err := c.req.Trust.Verify(c.dispatch.Conditions.Token, token.Want{
		Audience: token.Audience(c.context.EnvironmentKey, c.nonce), Facts: facts,
	}, c.dispatch.Conditions.DispatchedOn)
	if err != nil {
		return found{}, err
	}
	c.claims = &claims
	return found{
		fmt.Sprintf("%s, issued %s", claims.Issuer, claims.IssuedAt.UTC().Format(time.RFC3339)),
		"trust file of " + c.req.Trust.AsOf().UTC().Format(time.DateOnly), false,
	}, nil
}

// checkIdentity demands a builder and a job that the policy's artifacts accept.
func (c *chain) checkIdentity() (found, error) {
	facts := c.dispatch.Conditions.Facts
	if err := c.req.Policy.Artifacts().Allow(c.provenance.BuilderID, facts, c.req.At); err != nil {
		return found{}, err
	}
	return found{identity(facts), "DISPATCH statement, " + facts.IdentitySource, false}, nil
}

// identity names a job in one line: workflow, ref, commit and event.
func identity(f statement.Facts) string {
	return fmt.Sprintf("%s/%s/%s@%s (%s, %s)", f.Server, f.Repository, f.WorkflowPath, f.Ref, f.SHA, f.Event)
}
