// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// respond attests outputs. err answers the request; fatal ends the environment, because the sandbox could not be
// frozen or thawed, or the secure processor failed.
func (a *Agent) respond(ctx context.Context, o Outputs) (resp *Response, err, fatal error) {
	if err := a.journal.Enter(Respond, ""); err != nil {
		return nil, err, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.config.Freeze)
	defer cancel()
	resp, err = a.frozen(ctx, o)
	if r := (*refusal.Refusal)(nil); err != nil && !errors.As(err, &r) {
		return nil, err, fmt.Errorf("attesting outputs: %w", err)
	}
	reason := "nothing attested"
	if err == nil {
		a.responses = append(a.responses, resp)
		reason = fmt.Sprintf("response %d, %d subjects", resp.Sequence, len(resp.Subjects))
	}
	if jerr := a.journal.Enter(Running, reason); jerr != nil {
		return nil, jerr, jerr
	}
	return resp, err, nil
}

// frozen holds the sandbox still while it hashes, quotes, signs and erases the key. A sandbox that does not thaw is an
// error of the environment.
func (a *Agent) frozen(ctx context.Context, o Outputs) (resp *Response, err error) {
	if o.Workspace == "" {
		o.Workspace = a.env.job.Workspace
	}
	begin := a.ports.Now()
	if err := a.ports.Sandbox.Freeze(ctx); err != nil {
		return nil, fmt.Errorf("freezing the sandbox: %w", err)
	}
	defer func() {
		thaw, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		if terr := a.ports.Sandbox.Thaw(thaw); terr != nil {
			resp, err = nil, fmt.Errorf("thawing the sandbox: %w", terr)
		}
	}()
	subjects, err := a.ports.Hasher.Hash(ctx, o)
	if err != nil {
		return nil, err
	}
	end := a.ports.Now()
	return a.env.respond(ctx, a.provenance(subjects, begin, end), len(a.responses)+1)
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
	ctx, cancel := context.WithTimeout(ctx, cleanup)
	defer cancel()
	if err := a.journal.Enter(Finish, reason); err != nil {
		return err
	}
	if a.env == nil { // it never booted: there is no name to deliver a record under
		return a.journal.Enter(Off, "")
	}
	a.env.forget()
	final, err := a.final(ctx)
	err = errors.Join(err, a.journal.Enter(Off, ""))
	return errors.Join(err, a.deliver(ctx, final))
}

// final quotes the FINAL statement, if there was a job and its sandbox is certainly dead.
func (a *Agent) final(ctx context.Context) ([]byte, error) {
	if a.env.job == nil {
		return nil, nil
	}
	if err := a.ports.Sandbox.Kill(ctx); err != nil {
		return nil, fmt.Errorf("killing the sandbox before the final statement: %w", err)
	}
	rec, err := a.env.finalise(ctx, a.conclude(ctx))
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

// deliver puts the environment's record into the sink, for failed and cancelled jobs too.
func (a *Agent) deliver(ctx context.Context, final []byte) error {
	files := map[string][]byte{"boot.intoto.jsonl": a.env.boot.lines(), "journal.jsonl": a.journal.Bytes()}
	if a.env.job != nil {
		files["dispatch.intoto.jsonl"] = a.env.dispatch.lines()
	}
	for _, r := range a.responses {
		files[fmt.Sprintf("response-%d.intoto.jsonl", r.Sequence)] = r.Bundle
	}
	if final != nil {
		files["final.intoto.jsonl"] = final
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := a.ports.Sink.Put(ctx, a.env.keyID, name, files[name]); err != nil {
			errs = append(errs, fmt.Errorf("delivering %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}
