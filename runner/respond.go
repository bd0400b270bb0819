// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// respond attests outputs. err answers the request; fatal ends the environment, because the sandbox could not be
// frozen or thawed, or the secure processor failed. Only what the job asked for can be refused and asked for again.
func (a *Agent) respond(ctx context.Context, o Outputs) (resp *Response, err, fatal error) {
	if len(a.responses) >= maxResponses {
		return nil, refuse(fmt.Sprintf("at most %d responses for one job", maxResponses), "one more", "attest more files in one step"), nil
	}
	if err := a.journal.Enter(Respond, ""); err != nil {
		return nil, err, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Freeze+quoteTime)
	defer cancel()
	var refused error
	fatal = a.still(ctx, func() (err error) {
		resp, refused, err = a.frozen(ctx, o)
		return err
	})
	if fatal != nil {
		return nil, errEnding, fmt.Errorf("attesting outputs: %w", fatal)
	}
	reason := "nothing attested"
	if refused == nil {
		a.responses = append(a.responses, resp.Bundle)
		a.note(func(s *Status) { s.Responses = len(a.responses) })
		reason = fmt.Sprintf("response %d, %d subjects", resp.Sequence, len(resp.Subjects))
	}
	if jerr := a.journal.Enter(Running, reason); jerr != nil {
		return nil, errEnding, jerr
	}
	return resp, refused, nil
}

// errEnding answers a request that ends the environment. Why is for the operator.
var errEnding = errors.New("the environment ends: it cannot attest any more")

// frozen hashes, quotes, signs and erases the key. The caller holds the sandbox still.
func (a *Agent) frozen(ctx context.Context, o Outputs) (resp *Response, refused, err error) {
	if o.Workspace == "" {
		o.Workspace = a.env.job.Workspace
	}
	begin := a.ports.Now()
	subjects, err := a.ports.Hasher.Hash(ctx, o)
	if r := (*refusal.Refusal)(nil); errors.As(err, &r) {
		return nil, err, nil
	}
	if err != nil {
		return nil, nil, err
	}
	resp, err = a.env.respond(ctx, a.provenance(subjects, begin, a.ports.Now()), len(a.responses)+1)
	return resp, nil, err
}

// provenance says how the outputs were made. No field of it comes from inside the sandbox but the names of the
// subjects; every field's origin is in it.
func (a *Agent) provenance(subjects []statement.Subject, frozen, hashed time.Time) *statement.Provenance {
	e, c, job := a.env, a.config, a.env.job
	p := &statement.Provenance{
		Subjects: subjects, BuilderID: statement.BuilderID(e.self.Instance.Platform, c.Profile), BuilderVersion: c.Software,
		BuilderDependencies: a.builderDependencies(), External: job.External, Dependencies: job.Dependencies,
		InvocationID: e.buildID, StartedOn: e.began, FinishedOn: hashed,
		Internal: statement.InternalParameters{
			GitHub: job.GitHub,
			Kettle: statement.KettleParameters{
				Platform: e.self.Instance.Platform, Profile: c.Profile, Sandbox: c.Sandbox,
				IdentitySource: job.Facts.IdentitySource, EnvironmentKey: e.keyID, Configuration: c.Configuration,
				Policy: a.ports.Policy.Digest(), Dispatch: binding.Sum(e.dispatch.payload),
				Egress: statement.Egress{Mode: "github-only"}, FrozenMillis: hashed.Sub(frozen).Milliseconds(),
				Origins: job.Origins, Steps: job.Steps,
			},
		},
	}
	return p
}

// builderDependencies names what the builder itself was made of.
func (a *Agent) builderDependencies() []statement.ResourceDescriptor {
	deps := []statement.ResourceDescriptor{
		{Name: "launch-measurement", Digest: statement.DigestSet{"sevSnpMeasurement": hex.EncodeToString(a.env.self.Measurement[:])}},
	}
	if !a.config.Image.IsZero() {
		deps = append(deps, statement.ResourceDescriptor{
			Name: "root-image", Digest: statement.DigestSet{"kettleRoot": a.config.Image.String()},
		})
	}
	if !a.config.Packages.IsZero() {
		deps = append(deps, statement.ResourceDescriptor{Name: "image-packages", Digest: statement.SHA256(a.config.Packages)})
	}
	return deps
}

// finish kills what is left, quotes the FINAL statement and delivers the record.
func (a *Agent) finish(ctx context.Context, reason string) error {
	if err := a.journal.Enter(Finish, reason); err != nil {
		return err
	}
	if a.env == nil { // it never booted: there is no name to deliver a record under
		return a.journal.Enter(Off, "")
	}
	a.env.forget()
	final, err := a.final(ctx)
	err = errors.Join(err, a.deliver(ctx, final))
	outcome := "record delivered"
	if err != nil {
		outcome = err.Error()
	}
	return errors.Join(err, a.journal.Enter(Off, outcome), a.put(ctx, "journal.jsonl", a.journal.Bytes))
}

// final quotes the FINAL statement, if there was a job and its sandbox is certainly dead.
func (a *Agent) final(ctx context.Context) ([]byte, error) {
	if a.env.job == nil {
		return nil, nil
	}
	if err := a.kill(ctx); err != nil {
		return nil, err
	}
	conditions := a.conclude(ctx)
	ctx, cancel := context.WithTimeout(ctx, quoteTime)
	defer cancel()
	rec, err := a.env.finalise(ctx, conditions)
	if err != nil {
		return nil, err
	}
	return rec.lines(), nil
}

// conclude says how the job ended. Only GitHub's word "success" is a finished job; an unknown ending is a failure.
func (a *Agent) conclude(ctx context.Context) statement.FinalConditions {
	c := statement.FinalConditions{
		Outcome: "failed", ConclusionOrigin: statement.FromJob, RunnerExit: a.exit, Responses: len(a.responses),
		Hosts: a.ports.Sandbox.Hosts(), FinishedOn: a.ports.Now(),
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conclusion, err := a.ports.Identifier.Conclusion(ctx, a.env.job.Facts)
	if err != nil {
		a.log.WarnContext(ctx, "conclusion unknown", slog.Any("error", err))
		return c
	}
	switch c.Conclusion = conclusion; conclusion {
	case "success":
		c.Outcome = "finished"
	case "cancelled":
		c.Outcome = "cancelled"
	}
	return c
}

// deliver puts the statements of the environment into the sink, for failed and cancelled jobs too. The final statement
// goes first: it is the one that nobody else has.
func (a *Agent) deliver(ctx context.Context, final []byte) error {
	var errs []error
	put := func(name string, data []byte) {
		if len(data) > 0 {
			errs = append(errs, a.put(ctx, name, func() []byte { return data }))
		}
	}
	put("final.intoto.jsonl", final)
	put("boot.intoto.jsonl", a.env.boot.lines())
	if a.env.job != nil {
		put("dispatch.intoto.jsonl", a.env.dispatch.lines())
	}
	for i, bundle := range a.responses {
		put(fmt.Sprintf("response-%d.intoto.jsonl", i+1), bundle)
	}
	return errors.Join(errs...)
}

// put stores one file of the record, with a time of its own.
func (a *Agent) put(ctx context.Context, name string, data func() []byte) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	if err := a.ports.Sink.Put(ctx, a.env.keyID, name, data()); err != nil {
		return fmt.Errorf("delivering %s: %w", name, err)
	}
	return nil
}
