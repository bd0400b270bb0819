// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/token"
)

// chain is the verification of one candidate. Each field below the first block is set by the step that proves it.
type chain struct {
	req   Request
	idx   *index
	cand  candidate
	trace Trace

	payload    []byte // of the provenance
	provenance *statement.Provenance
	evidence   *evidence.Collection // of the response
	quote      *appraise.Quote
	context    binding.Context
	image      *reference.Image // nil where the policy accepts any
	appraisal  *appraise.Appraisal
	replayed   bool // the response's quote has a run-time register, and it is the replay of the log
	dispatch   *statement.Dispatch
	nonce      binding.Digest
	boot       *statement.Boot
	claims     *token.Claims
	admission  *statement.EnvironmentVSA // nil where the policy does not ask for it
}

// found is what a step says of its link when it holds.
type found struct {
	value, source string
	notRequired   bool
}

// verify runs the steps in order and stops at the first link that breaks.
func (c *chain) verify() error {
	steps := []struct {
		link string
		run  func() (found, error)
	}{
		{linkArtifact, c.checkArtifact}, {linkProvenance, c.checkProvenance}, {linkSignature, c.checkSignature},
		{linkResponse, c.checkResponse}, {linkQuote, c.checkQuote}, {linkBinding, c.checkBinding},
		{linkImage, c.checkImage}, {linkMeasurement, c.checkMeasurement}, {linkEventLog, c.checkEventLog}, {linkDispatch, c.checkDispatch},
		{linkBoot, c.checkBoot}, {linkAdmission, c.checkAdmission}, {linkToken, c.checkToken}, {linkIdentity, c.checkIdentity},
	}
	for _, s := range steps {
		f, err := s.run()
		if err != nil {
			c.trace.fail(s.link)
			return relink(s.link, "", err)
		}
		status := OK
		if f.notRequired {
			status = NotRequired
		}
		c.trace.set(Link{Name: s.link, Status: status, Value: clip(f.value), Source: f.source})
	}
	return nil
}

// checkArtifact: specs, offline verification order 1. The index found the subject by digest; the provenance that is
// verified below is the same bytes.
func (c *chain) checkArtifact() (found, error) {
	return found{value: "sha256:" + c.req.Artifact.Digest.String(), source: fmt.Sprintf("subject %q of the provenance", clip(c.cand.subject))}, nil
}

// checkProvenance demands strict provenance of Kettle's build type, whose builder.id fits its own platform and profile.
func (c *chain) checkProvenance() (found, error) {
	c.payload = c.idx.bundles[c.cand.provenance][0].Payload()
	p, err := statement.ParseProvenance(c.payload)
	if err != nil {
		return found{}, err
	}
	subject := slices.IndexFunc(p.Subjects, func(s statement.Subject) bool { return s.Name == c.cand.subject })
	if subject < 0 || p.Subjects[subject].Digest["sha256"] != c.req.Artifact.Digest.String() {
		return found{}, refuse(refusal.Malformed, "the artifact among the subjects", "a reading that differs", nextAltered)
	}
	c.provenance = p
	return found{p.BuilderID, "provenance sha256:" + c.cand.provenance.String(), false}, nil
}

// checkSignature demands that the key in the response's evidence signed the provenance. That the quote names this key
// is for checkBinding.
func (c *chain) checkSignature() (found, error) {
	if c.cand.response == nil {
		return found{}, refuse(refusal.Missing, "a RESPONSE statement that names the provenance and its evidence", "none", nextWhole)
	}
	c.evidence = c.idx.evidence[c.cand.response.statement.Evidence]
	if c.evidence == nil {
		return found{}, refuse(refusal.Missing, "the evidence sha256:"+c.cand.response.statement.Evidence.String(), "none", nextWhole)
	}
	if _, err := c.idx.signed(c.cand.provenance, c.evidence.PublicKey); err != nil {
		return found{}, err
	}
	return found{"statement key sha256:" + binding.Sum(c.evidence.PublicKey).String(), "DSSE envelope of the provenance", false}, nil
}

// checkResponse demands that the same key signed the RESPONSE statement, and that it agrees with the provenance.
func (c *chain) checkResponse() (found, error) {
	if _, err := c.idx.signed(c.cand.response.payload, c.evidence.PublicKey); err != nil {
		return found{}, err
	}
	r := c.cand.response.statement
	if err := agree(refusal.Binding, claim{"build ID", c.provenance.InvocationID, r.BuildID}); err != nil {
		return found{}, err
	}
	same := func(a, b statement.Subject) bool { return a.Name == b.Name && a.Digest["sha256"] == b.Digest["sha256"] }
	if !slices.EqualFunc(r.Subjects, c.provenance.Subjects, same) {
		return found{}, refuse(refusal.Binding, "the subjects of the provenance", "other subjects", nextAltered)
	}
	return found{fmt.Sprintf("response %d of the environment", r.Sequence), "RESPONSE statement, same key", false}, nil
}

// checkQuote demands a genuine quote of a platform that reaches the policy's floor and is the one builder.id names.
func (c *chain) checkQuote() (found, error) {
	q, err := c.idx.verified[c.evidence]()
	if err != nil {
		return found{}, err
	}
	if err := q.MeetsFloor(c.req.Policy.Environments(), c.req.At); err != nil {
		return found{}, err
	}
	if err := agree(refusal.Binding, claim{"a quote of platform", c.provenance.Internal.Kettle.Platform, q.Platform()}); err != nil {
		return found{}, err
	}
	c.quote = q
	what, root := q.Describe()
	return found{what, root, false}, nil
}

// checkBinding demands that the quote was made for this provenance, this key and this build, as a response.
func (c *chain) checkBinding() (found, error) {
	ctx, err := c.quote.Binds(c.payload, c.evidence.Binding, binding.Response)
	if err != nil {
		return found{}, err
	}
	k, r := c.provenance.Internal.Kettle, c.cand.response.statement
	err = agree(refusal.Binding,
		claim{"statement key", ctx.StatementKey.String(), binding.Sum(c.evidence.PublicKey).String()},
		claim{"environment key", ctx.EnvironmentKey.String(), k.EnvironmentKey.String()},
		claim{"build ID", ctx.BuildID, c.provenance.InvocationID},
		claim{"DISPATCH statement", ctx.Dispatch.String(), k.Dispatch.String()},
		claim{"sequence", fmt.Sprint(ctx.Sequence), fmt.Sprint(r.Sequence)},
	)
	if err != nil {
		return found{}, err
	}
	c.context = ctx
	return found{"purpose response, environment sha256:" + ctx.EnvironmentKey.String(), "report data of the quote", false}, nil
}

// checkImage demands, unless the policy accepts any image, that a workflow which the policy names built and signed the image
// whose reference values the machine shows.
func (c *chain) checkImage() (found, error) {
	demanded, err := c.req.Policy.Environments().VerifiesImages(c.req.At)
	if err != nil {
		return found{}, err
	}
	if !demanded {
		return found{"any", "environments.images", true}, nil
	}
	if c.req.Sigstore == nil {
		return found{}, refuse(refusal.Missing, "the trusted root of whoever signs images", "none", "name the file with --trusted-root")
	}
	c.image, err = reference.Verify(reference.Request{
		Lines: c.idx.certified, Trust: c.req.Sigstore, Policy: c.req.Policy, At: c.req.At,
		Booted: &reference.Booted{
			Environment: c.quote.Environment(),
			Components:  map[string]binding.Digest{statement.ComponentConfiguration: c.configuration()},
		},
	})
	if err != nil {
		return found{}, err
	}
	s := c.image.Signer()
	return found{s.SAN, "image provenance, signed " + c.image.SignedOn().UTC().Format(time.RFC3339), false}, nil
}

// signedValues names what of the quote a trusted workflow signed.
func (c *chain) signedValues() []string {
	if c.image == nil {
		return nil
	}
	return c.image.Match().Signed()
}

// checkMeasurement demands a machine that the policy's environments accept.
func (c *chain) checkMeasurement() (found, error) {
	a, err := c.quote.Meets(c.req.Policy.Environments(), c.req.At, c.signedValues()...)
	if err != nil {
		return found{}, err
	}
	c.appraisal = a
	if err := c.checkRevoked(); err != nil {
		return found{}, err
	}
	source := "quote, named by the policy's environments"
	if c.image != nil {
		source = "quote, " + fmt.Sprint(len(c.image.Match().Values())) + " signed reference values"
	}
	return found{a.Measurement(), source, false}, nil
}

// configuration is the digest of the configuration that the provenance names; checkBoot holds BOOT against it.
func (c *chain) configuration() binding.Digest { return c.provenance.Internal.Kettle.Configuration }

// checkEventLog replays the log: configuration, key, dispatch, the earlier responses, and nothing else.
func (c *chain) checkEventLog() (found, error) {
	log, replayed, err := replay(c.evidence, c.appraisal, c.configuration(), c.context.EnvironmentKey, c.context.Dispatch)
	if err != nil {
		return found{}, err
	}
	err = agree(refusal.EventLogMismatch,
		claim{"head of the event log", c.context.EventLogHead.String(), log.Head().String()},
		claim{"events of earlier responses", fmt.Sprint(c.context.Sequence - 1), fmt.Sprint(len(log.Events()) - len(eventlog.Once()))},
	)
	if err != nil {
		return found{}, err
	}
	source := "event log, head quoted"
	c.replayed = replayed
	if replayed {
		source += ", register replayed"
	}
	required, err := c.req.Policy.Environments().Requires(c.req.At)
	if err != nil {
		return found{}, err
	}
	if !replayed && slices.Contains(required, policy.RegisterReplay) {
		return found{}, refuse(refusal.Policy, "a platform with a run-time register, as environments.lateCompromise requires",
			c.appraisal.Platform(), "require other evidence against late compromise, or build on a platform that has a register")
	}
	return found{fmt.Sprintf("%d events", len(log.Events())), source, false}, nil
}

// replay parses the event log of one piece of evidence and demands that it starts with exactly these events, that
// nothing but responses follows the last, and that the machine's register, where it has one, is their replay, which
// replayed says.
func replay(e *evidence.Collection, a *appraise.Appraisal, digests ...binding.Digest) (log *eventlog.Log, replayed bool, err error) {
	log, err = eventlog.Parse(e.EventLog)
	if err != nil {
		return nil, false, err
	}
	events := log.Events()
	var errs []error
	for i, t := range eventlog.Once()[:len(digests)] {
		if i >= len(events) || events[i].Type != t || events[i].Digest != digests[i] {
			errs = append(errs, refuse(refusal.EventLogMismatch, fmt.Sprintf("event %d to be %s %s", i, t, digests[i]),
				"another event, or none", nextAltered))
		}
	}
	replayed, err = a.Replays(log)
	return log, replayed, errors.Join(append(errs, err)...)
}
