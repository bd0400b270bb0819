// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/statement"
)

func TestAttackDispatch(t *testing.T) {
	t.Parallel()
	fact := func(change func(*statement.Facts)) attack {
		return attack{make: hooks(attesttest.Hooks{Dispatch: func(d *statement.Dispatch) {
			change(&d.Conditions.Facts)
			d.BuildID = d.Conditions.Facts.BuildID()
		}}), link: "dispatch", want: refusal.ErrBinding}
	}
	statementOf := func(change func(*statement.Dispatch)) attack {
		return attack{make: hooks(attesttest.Hooks{Dispatch: change}), link: "dispatch", want: refusal.ErrBinding}
	}
	said := func(change func(*statement.Provenance)) attack {
		return attack{make: hooks(attesttest.Hooks{Provenance: change}), link: "dispatch", want: refusal.ErrBinding}
	}
	run(t, map[string]attack{
		"dropped":          {make: lines(func(_ *testing.T, l *attesttest.Lines) { l.Dispatch = nil }), link: "dispatch", want: refusal.ErrMissing},
		"evidence dropped": {make: lines(func(_ *testing.T, l *attesttest.Lines) { l.DispatchEvidence = nil }), link: "dispatch", want: refusal.ErrMissing},
		"of another": {make: lines(func(t *testing.T, l *attesttest.Lines) {
			o := attesttest.Whole(t, attesttest.Options{})
			l.Dispatch, l.DispatchEvidence = o.Dispatch, o.DispatchEvidence
		}), link: "dispatch", want: refusal.ErrMissing},
		"purpose admission": {make: hooks(attesttest.Hooks{DispatchContext: func(c *binding.Context) {
			*c = binding.Context{V: 1, Purpose: binding.Admission, EnvironmentKey: c.EnvironmentKey, Nonce: c.Nonce, HPKEKey: binding.Digest{1}}
		}}), link: "dispatch", want: refusal.ErrBinding},
		"quoted key":   {make: hooks(attesttest.Hooks{DispatchContext: func(c *binding.Context) { c.EnvironmentKey[0] ^= 1 }}), link: "dispatch", want: refusal.ErrBinding},
		"quoted build": {make: hooks(attesttest.Hooks{DispatchContext: func(c *binding.Context) { c.BuildID += "0" }}), link: "dispatch", want: refusal.ErrBinding},
		"quoted boot":  {make: hooks(attesttest.Hooks{DispatchContext: func(c *binding.Context) { c.BootEvidence[0] ^= 1 }}), link: "dispatch", want: refusal.ErrBinding},
		"quote of another machine": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			return otherMachine(t, binding.Dispatch)
		}, link: "dispatch", want: refusal.ErrBinding},
		"other environment key": statementOf(func(d *statement.Dispatch) { d.EnvironmentKey[0] ^= 1 }),
		"other boot evidence":   {make: hooks(attesttest.Hooks{Dispatch: func(d *statement.Dispatch) { d.BootEvidence[0] ^= 1 }}), link: "boot", want: refusal.ErrMissing},
		"other instance":        statementOf(func(d *statement.Dispatch) { d.Conditions.Instance.ReportID = strings.Repeat("0", 64) }),
		"other chip":            statementOf(func(d *statement.Dispatch) { d.Conditions.Instance.ChipID = strings.Repeat("0", 128) }),
		"other platform":        statementOf(func(d *statement.Dispatch) { d.Conditions.Instance.Platform = "snp" }),
		"other policy":          statementOf(func(d *statement.Dispatch) { d.Conditions.Policy[0] ^= 1 }),
		"repository":            fact(func(f *statement.Facts) { f.Repository = "acme/evil" }),
		"server":                fact(func(f *statement.Facts) { f.Server = "https://ghes.example" }),
		"repository ID":         fact(func(f *statement.Facts) { f.RepositoryID = "1" }),
		"owner ID":              fact(func(f *statement.Facts) { f.RepositoryOwnerID = "1" }),
		"run":                   fact(func(f *statement.Facts) { f.RunID = "1" }),
		"attempt":               fact(func(f *statement.Facts) { f.RunAttempt = "2" }),
		"job ID":                fact(func(f *statement.Facts) { f.JobID = "1" }),
		"job":                   fact(func(f *statement.Facts) { f.Job = "test" }),
		"workflow":              fact(func(f *statement.Facts) { f.WorkflowPath = ".github/workflows/other.yml" }),
		"ref":                   fact(func(f *statement.Facts) { f.Ref = "refs/tags/v9" }),
		"commit":                fact(func(f *statement.Facts) { f.SHA = strings.Repeat("0", 40) }),
		"event":                 fact(func(f *statement.Facts) { f.Event = "workflow_dispatch" }),
		"runner":                fact(func(f *statement.Facts) { f.RunnerName = "other" }),
		"actor":                 fact(func(f *statement.Facts) { f.ActorID = "1" }),
		"called workflow":       fact(func(f *statement.Facts) { f.JobWorkflowRef = "acme/ci/.github/workflows/b.yml@refs/tags/v1" }),
		"called commit":         fact(func(f *statement.Facts) { f.JobWorkflowSHA = strings.Repeat("1", 40) }),
		"said repository":       said(func(p *statement.Provenance) { p.External.Workflow.Repository = "https://github.com/acme/evil" }),
		"said path":             said(func(p *statement.Provenance) { p.External.Workflow.Path = ".github/workflows/other.yml" }),
		"said ref":              said(func(p *statement.Provenance) { p.External.Workflow.Ref = "refs/tags/v9" }),
		"said job":              said(func(p *statement.Provenance) { p.External.Job = "test" }),
		"said commit":           said(func(p *statement.Provenance) { p.Dependencies[0].Digest["gitCommit"] = strings.Repeat("0", 40) }),
		"said run":              said(func(p *statement.Provenance) { p.Internal.GitHub.RunID = "9" }),
		"said attempt":          said(func(p *statement.Provenance) { p.Internal.GitHub.RunAttempt = "9" }),
		"said job ID":           said(func(p *statement.Provenance) { p.Internal.GitHub.JobID = "9" }),
		"said policy":           said(func(p *statement.Provenance) { p.Internal.Kettle.Policy[0] ^= 1 }),
		"said event":            said(func(p *statement.Provenance) { p.External.Event = "release" }),
		"said event name":       said(func(p *statement.Provenance) { p.Internal.GitHub.EventName = "release" }),
		"said source": said(func(p *statement.Provenance) {
			p.Dependencies[0].URI = "git+https://github.com/acme/evil@refs/tags/v1.2.3"
		}),
		"said identity source": said(func(p *statement.Provenance) { p.Internal.Kettle.IdentitySource = "jobs-api" }),
		"second dispatch": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			e := attesttest.Boot(t, attesttest.Options{})
			e.Dispatch(t)
			l := e.Respond(t, "a", []byte("a"))
			b, err := bundle.Parse(l.Dispatch)
			fatal(t, err)
			again := e.SignAgain(t, bytes.Replace(b.Payload(), []byte(`"runAttempt":"1"`), []byte(`"runAttempt":"2"`), 1))
			l.Dispatch = append(append(l.Dispatch, '\n'), again...)
			return l
		}, link: "dispatch", want: refusal.ErrBinding},
	})
}

// otherMachine makes a chain whose quote for one purpose is of another machine on which everything else is the same,
// its register included.
func otherMachine(t *testing.T, purpose binding.Purpose) attesttest.Lines {
	t.Helper()
	var e *attesttest.Environment
	other := attesttest.Processor(t, attesttest.LaunchDigest())
	o := attesttest.Options{Hooks: attesttest.Hooks{Quoter: func(p binding.Purpose) *sim.Processor {
		if p != purpose {
			return nil
		}
		if e == nil {
			return nil // the quote of BOOT, before Boot has returned; see below
		}
		for _, event := range e.Log.Events() {
			if event.Type != eventlog.Response {
				other.Extend(event.Digest)
			}
		}
		return other
	}}}
	e = attesttest.Boot(t, o)
	e.Dispatch(t)
	return e.Respond(t, "a", []byte("a"))
}

func TestAttackBoot(t *testing.T) {
	t.Parallel()
	run(t, map[string]attack{
		"dropped":          {make: lines(func(_ *testing.T, l *attesttest.Lines) { l.Boot = nil }), link: "boot", want: refusal.ErrMissing},
		"evidence dropped": {make: lines(func(_ *testing.T, l *attesttest.Lines) { l.BootEvidence = nil }), link: "boot", want: refusal.ErrMissing},
		"of another environment": {make: lines(func(t *testing.T, l *attesttest.Lines) {
			t.Helper()
			o := attesttest.Whole(t, attesttest.Options{})
			l.Boot, l.BootEvidence = o.Boot, o.BootEvidence
		}), link: "boot", want: refusal.ErrMissing},
		// DISPATCH names the BOOT evidence of another environment.
		"named from another": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			o := attesttest.Whole(t, attesttest.Options{})
			change := func(d *binding.Digest) { *d = evidence.Digest(o.BootEvidence) }
			l := attesttest.Whole(t, attesttest.Options{Hooks: attesttest.Hooks{
				Dispatch:        func(d *statement.Dispatch) { change(&d.BootEvidence) },
				DispatchContext: func(c *binding.Context) { change(&c.BootEvidence) },
			}})
			l.Boot, l.BootEvidence = o.Boot, o.BootEvidence
			return l
		}, link: "boot", want: refusal.ErrBinding},
		"quote of another machine": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			other := attesttest.Processor(t, attesttest.LaunchDigest())
			var key binding.Digest
			return attesttest.Whole(t, attesttest.Options{Hooks: attesttest.Hooks{
				BootContext: func(c *binding.Context) { key = c.EnvironmentKey },
				Quoter: func(p binding.Purpose) *sim.Processor {
					if p != binding.Boot {
						return nil
					}
					other.Extend(key)
					return other
				},
			}})
		}, link: "boot", want: refusal.ErrBinding},
		"purpose": {make: hooks(attesttest.Hooks{BootContext: func(c *binding.Context) {
			c.Purpose, c.Nonce, c.HPKEKey = binding.Admission, binding.Digest{1}, binding.Digest{1}
		}}), link: "boot", want: refusal.ErrBinding},
		"of another kind": {make: hooks(attesttest.Hooks{Payload: func(kind string, payload []byte) []byte {
			if kind != "boot" {
				return payload
			}
			return bytes.Replace(payload, []byte(statement.AttributeEnvironmentKey), []byte(statement.AttributeJobFinished), 1)
		}}), link: "boot", want: refusal.ErrMalformed},
		"quoted key":      {make: hooks(attesttest.Hooks{BootContext: func(c *binding.Context) { c.EnvironmentKey[0] ^= 1 }}), link: "boot", want: refusal.ErrBinding},
		"environment key": {make: hooks(attesttest.Hooks{Boot: func(b *statement.Boot) { b.EnvironmentKey[0] ^= 1 }}), link: "boot", want: refusal.ErrBinding},
		"instance":        {make: hooks(attesttest.Hooks{Boot: func(b *statement.Boot) { b.Conditions.Instance.ReportID = strings.Repeat("0", 64) }}), link: "boot", want: refusal.ErrBinding},
		"configuration":   {make: hooks(attesttest.Hooks{Boot: func(b *statement.Boot) { b.Conditions.Configuration[0] ^= 1 }}), link: "boot", want: refusal.ErrBinding},
	})
}

func TestAttackToken(t *testing.T) {
	t.Parallel()
	claim := func(name string, value any) attack {
		return attack{make: hooks(attesttest.Hooks{Claims: func(c map[string]any) { c[name] = value }}), link: "token", want: refusal.ErrIdentity}
	}
	relay := hooks(attesttest.Hooks{DispatchContext: func(c *binding.Context) { c.Nonce[0] ^= 1 }})
	run(t, map[string]attack{
		"no trust file":  asked(func(_ *testing.T, r *attest.Request) { r.Trust = nil }).at("token", refusal.ErrMissing),
		"of another job": claim("check_run_id", "1"),
		"hosted runner":  claim("runner_environment", "github-hosted"),
		"of another run": claim("run_id", "1"),
		"audience":       {make: hooks(attesttest.Hooks{Claims: func(c map[string]any) { c["aud"] = "sts.amazonaws.com" }}), link: "token", want: refusal.ErrBinding},
		"other nonce":    {make: relay, link: "token", want: refusal.ErrBinding},
		"issued late": {make: hooks(attesttest.Hooks{Claims: func(c map[string]any) { c["iat"] = attesttest.Now().Unix() + 3600 }}),
			link: "token", want: refusal.ErrExpired},
		"judged at another time": {make: hooks(attesttest.Hooks{Dispatch: func(d *statement.Dispatch) {
			d.Conditions.DispatchedOn = attesttest.Now().Add(time.Hour)
		}}), link: "token", want: refusal.ErrExpired},
		"altered": {make: hooks(attesttest.Hooks{Dispatch: func(d *statement.Dispatch) {
			raw := []byte(d.Conditions.Token)
			if i := len(raw) - 10; raw[i] == 'A' {
				raw[i] = 'B'
			} else {
				raw[i] = 'A'
			}
			d.Conditions.Token = string(raw)
		}}), link: "token", want: refusal.ErrSignature},
		"required and not there": {
			make: func(t *testing.T) attesttest.Lines {
				t.Helper()
				return attesttest.Whole(t, attesttest.Options{NoToken: true})
			},
			change: func(t *testing.T, r *attest.Request) {
				t.Helper()
				r.Policy = policyOf(t, "identitySource: token", "identitySource: any")
			},
			link: "token", want: refusal.ErrPolicy,
		},
	})
}

func TestAttackIdentity(t *testing.T) {
	t.Parallel()
	other := func(changes ...string) attack {
		return asked(func(t *testing.T, r *attest.Request) {
			t.Helper()
			r.Policy = policyOf(t, changes...)
		})
	}
	run(t, map[string]attack{
		"repository":     other(`url: https://github.com/acme/widget`, `url: https://github.com/acme/gadget`).at("identity", refusal.ErrIdentity),
		"workflow":       other("release.yml", "build.yml").at("identity", refusal.ErrIdentity),
		"ref":            other("refs/tags/v*", "refs/heads/main").at("identity", refusal.ErrIdentity),
		"event":          other("[push]", "[release]").at("identity", refusal.ErrPolicy),
		"builder":        other("builders: ["+attesttest.BuilderID()+"]", "builders: [https://github.com/kettle/attest/builders/snp/default/v1]").at("identity", refusal.ErrPolicy),
		"no section":     other("artifacts:\n", "jobs:\n", "  builders: ["+attesttest.BuilderID()+"]\n", "").at("identity", refusal.ErrPolicy),
		"policy expired": other("expires: 2027-06-01", "expires: 2026-11-21").at("quote", refusal.ErrPolicy),
		"identity source": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			return attesttest.Whole(t, attesttest.Options{NoToken: true})
		}, change: func(t *testing.T, r *attest.Request) {
			t.Helper()
			r.Policy = policyOf(t, "[register-replay, token]", "[register-replay]")
		}, link: "identity", want: refusal.ErrIdentity},
	})
}
