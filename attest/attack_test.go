// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
)

// attack makes a chain with one thing wrong, and says where it must break and why.
type attack struct {
	make   func(t *testing.T) attesttest.Lines
	change func(t *testing.T, r *attest.Request)
	link   string
	want   error
}

// hooks makes a chain with these hooks.
func hooks(h attesttest.Hooks) func(*testing.T) attesttest.Lines {
	return func(t *testing.T) attesttest.Lines {
		t.Helper()
		return attesttest.Whole(t, attesttest.Options{Hooks: h})
	}
}

// lines makes a whole chain and changes its lines.
func lines(change func(t *testing.T, l *attesttest.Lines)) func(*testing.T) attesttest.Lines {
	return func(t *testing.T) attesttest.Lines {
		t.Helper()
		l := attesttest.Whole(t, attesttest.Options{})
		change(t, &l)
		return l
	}
}

// request changes the verifier's side of a whole chain.
func asked(change func(t *testing.T, r *attest.Request)) attack {
	return attack{make: hooks(attesttest.Hooks{}), change: change}
}

func (a attack) at(link string, want error) attack {
	a.link, a.want = link, want
	return a
}

func run(t *testing.T, attacks map[string]attack) {
	t.Helper()
	for name, a := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := a.make(t)
			req := request(t, l.Artifact, l.Bytes())
			if a.change != nil {
				a.change(t, &req)
			}
			r, trace, err := attest.Verify(t.Context(), req)
			if r != nil {
				t.Fatalf("ACCEPTED; want %v at %q", a.want, a.link)
			}
			if !errors.Is(err, a.want) || !errors.Is(err, attest.ErrNotVerified) {
				t.Fatalf("got %v; want %v", err, a.want)
			}
			if failedLink(trace) != a.link {
				t.Errorf("failed at %q, want %q: %v", failedLink(trace), a.link, err)
			}
			for _, one := range refusal.All(err) {
				if one.Link != a.link || !one.Code.Valid() || one.Want == "" || one.Next == "" {
					t.Errorf("refusal %+v", one)
				}
			}
			reached := true
			for _, l := range trace {
				if reached = reached && l.Status != attest.Failed; !reached && (l.Status == attest.OK || l.Value != "") {
					t.Errorf("link %+v after the one that failed", l)
				}
			}
		})
	}
}

func TestAttackArtifact(t *testing.T) {
	t.Parallel()
	run(t, map[string]attack{
		"one byte flipped": asked(func(_ *testing.T, r *attest.Request) {
			r.Artifact.Digest = binding.Sum([]byte("what was built!"))
		}).at("artifact", refusal.ErrBinding),
		"another bundle": asked(func(t *testing.T, r *attest.Request) {
			t.Helper()
			e := attesttest.Boot(t, attesttest.Options{})
			e.Dispatch(t)
			r.Files = request(t, nil, e.Respond(t, "x", []byte("x")).Bytes()).Files
		}).at("artifact", refusal.ErrBinding),
		"no provenance": {
			make: lines(func(_ *testing.T, l *attesttest.Lines) { l.Provenance = nil }), link: "artifact", want: refusal.ErrMissing,
		},
		"subject of a foreign statement": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			l := attesttest.Whole(t, attesttest.Options{})
			key, err := bundle.NewKey()
			fatal(t, err)
			l.Artifact = []byte("evil")
			l.Provenance, err = bundle.Sign(t.Context(), key, []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"w","digest":{"sha256":"`+
				binding.Sum(l.Artifact).String()+`"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":{}}`))
			fatal(t, err)
			return l
		}, link: "provenance", want: refusal.ErrMalformed},
	})
}

func TestAttackStatementKey(t *testing.T) {
	t.Parallel()
	evil, err := bundle.NewKey()
	fatal(t, err)
	signer := func(kind string) attesttest.Hooks {
		return attesttest.Hooks{Signer: func(k string, own *bundle.Key) *bundle.Key {
			if k == kind {
				return evil
			}
			return own
		}}
	}
	run(t, map[string]attack{
		"provenance by another key": {make: hooks(signer("provenance")), link: "signature", want: refusal.ErrSignature},
		"response by another key":   {make: hooks(signer("response")), link: "response", want: refusal.ErrSignature},
		"dispatch by another key":   {make: hooks(signer("dispatch")), link: "dispatch", want: refusal.ErrSignature},
		"boot by another key":       {make: hooks(signer("boot")), link: "boot", want: refusal.ErrSignature},
		// All of the response is signed by the thief, who put his own key into the evidence: the quote does not name it.
		"key swapped in evidence": {make: hooks(attesttest.Hooks{
			Signer: func(kind string, own *bundle.Key) *bundle.Key {
				if kind == "provenance" || kind == "response" {
					return evil
				}
				return own
			},
			ResponseEvidence: func(c *evidence.Collection) { c.PublicKey = evil.SPKI() },
		}), link: "binding", want: refusal.ErrBinding},
		"dispatch key swapped": {make: hooks(attesttest.Hooks{
			Signer:           signer("dispatch").Signer,
			DispatchEvidence: func(c *evidence.Collection) { c.PublicKey = evil.SPKI() },
		}), link: "dispatch", want: refusal.ErrBinding},
		"boot key swapped": {make: hooks(attesttest.Hooks{
			Signer:       signer("boot").Signer,
			BootEvidence: func(c *evidence.Collection) { c.PublicKey = evil.SPKI() },
		}), link: "boot", want: refusal.ErrBinding},
		"no response":          {make: lines(func(_ *testing.T, l *attesttest.Lines) { l.Response = nil }), link: "signature", want: refusal.ErrMissing},
		"no response evidence": {make: lines(func(_ *testing.T, l *attesttest.Lines) { l.ResponseEvidence = nil }), link: "signature", want: refusal.ErrMissing},
	})
}

func TestAttackResponse(t *testing.T) {
	t.Parallel()
	run(t, map[string]attack{
		"other build":    {make: hooks(attesttest.Hooks{Response: func(r *statement.Response) { r.BuildID += "0" }}), link: "response", want: refusal.ErrBinding},
		"other subjects": {make: hooks(attesttest.Hooks{Response: func(r *statement.Response) { r.Subjects[0].Name = "other" }}), link: "response", want: refusal.ErrBinding},
		"more subjects": {make: hooks(attesttest.Hooks{Response: func(r *statement.Response) {
			r.Subjects = append(r.Subjects, statement.Subject{Name: "x", Digest: r.Subjects[0].Digest})
		}}), link: "response", want: refusal.ErrBinding},
		"other sequence": {make: hooks(attesttest.Hooks{Response: func(r *statement.Response) { r.Sequence = 2 }}), link: "binding", want: refusal.ErrBinding},
		"other provenance": {
			make: hooks(attesttest.Hooks{Response: func(r *statement.Response) { r.Provenance[0] ^= 1 }}), link: "signature", want: refusal.ErrMissing,
		},
	})
}

func TestAttackQuote(t *testing.T) {
	t.Parallel()
	flip := func(offset int) func(*evidence.Collection) {
		return func(c *evidence.Collection) { c.Report[offset] ^= 1 }
	}
	run(t, map[string]attack{
		"measurement flipped": {make: hooks(attesttest.Hooks{ResponseEvidence: flip(0x90)}), link: "quote", want: refusal.ErrSignature},
		"host data flipped":   {make: hooks(attesttest.Hooks{ResponseEvidence: flip(0xc0)}), link: "quote", want: refusal.ErrSignature},
		"report data flipped": {make: hooks(attesttest.Hooks{ResponseEvidence: flip(0x50)}), link: "quote", want: refusal.ErrSignature},
		"report cut": {make: hooks(attesttest.Hooks{ResponseEvidence: func(c *evidence.Collection) {
			c.Report = c.Report[:1183]
		}}), link: "quote", want: refusal.ErrMalformed},
		"other chip's certificate": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			other := attesttest.Processor(t, attesttest.LaunchDigest())
			return hooks(attesttest.Hooks{ResponseEvidence: func(c *evidence.Collection) { c.Leaf = leafOf(t, other) }})(t)
		}, link: "quote", want: refusal.ErrNotVerified},
		"root not named": asked(func(t *testing.T, r *attest.Request) {
			t.Helper()
			var err error
			r.Roots, err = attest.Roots()
			fatal(t, err)
		}).at("quote", refusal.ErrChain),
		"no certificate anywhere": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			return attesttest.Whole(t, attesttest.Options{EndorseOnce: true, Hooks: attesttest.Hooks{
				BootEvidence: func(c *evidence.Collection) { c.Endorsements = evidence.Endorsements{} },
			}})
		}, link: "quote", want: refusal.ErrEndorsementsMissing},
		"another root": asked(func(t *testing.T, r *attest.Request) {
			t.Helper()
			var err error
			r.Roots, err = attest.Roots(attesttest.OtherAuthority().RootsPEM())
			fatal(t, err)
		}).at("quote", refusal.ErrChain),
		"certificates expired": asked(func(t *testing.T, r *attest.Request) {
			t.Helper()
			r.At = attesttest.Now().AddDate(30, 0, 0)
			var err error
			r.Policy, err = policy.Parse(attesttest.PolicyFile(t, "expires: 2027-06-01", "expires: never"))
			fatal(t, err)
		}).at("quote", refusal.ErrExpired),
		"before the certificates": asked(func(_ *testing.T, r *attest.Request) { r.At = attesttest.Now().AddDate(-1, 0, 0) }).at("quote", refusal.ErrExpired),
		"simulator as snp": {make: hooks(attesttest.Hooks{Provenance: func(p *statement.Provenance) {
			p.Internal.Kettle.Platform, p.BuilderID = "snp", statement.BuilderID("snp", p.Internal.Kettle.Profile)
		}}), link: "quote", want: refusal.ErrBinding},
		"builder of another platform": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			l := attesttest.Whole(t, attesttest.Options{})
			key, err := bundle.NewKey()
			fatal(t, err)
			b, err := bundle.Parse(l.Provenance)
			fatal(t, err)
			l.Provenance, err = bundle.Sign(t.Context(), key, bytes.Replace(b.Payload(), []byte("builders/sim"), []byte("builders/snp"), 1))
			fatal(t, err)
			return l
		}, link: "provenance", want: refusal.ErrMalformed},
	})
}

func TestAttackBinding(t *testing.T) {
	t.Parallel()
	context := func(change func(*binding.Context)) attack {
		return attack{make: hooks(attesttest.Hooks{ResponseContext: change}), link: "binding", want: refusal.ErrBinding}
	}
	final := func(c *binding.Context) { c.Purpose, c.Sequence = binding.Final, 0 }
	run(t, map[string]attack{
		"purpose final": context(final),
		"purpose boot": context(func(c *binding.Context) {
			*c = binding.Context{V: 1, Purpose: binding.Boot, EnvironmentKey: c.EnvironmentKey}
		}),
		"statement key":   context(func(c *binding.Context) { c.StatementKey[0] ^= 1 }),
		"environment key": context(func(c *binding.Context) { c.EnvironmentKey[0] ^= 1 }),
		"build ID":        context(func(c *binding.Context) { c.BuildID += "0" }),
		"dispatch":        context(func(c *binding.Context) { c.Dispatch[0] ^= 1 }),
		"sequence":        context(func(c *binding.Context) { c.Sequence = 7 }),
		"context changed after the quote": {make: hooks(attesttest.Hooks{ResponseEvidence: func(c *evidence.Collection) {
			c.Binding = bytes.Replace(c.Binding, []byte(`"sequence":1`), []byte(`"sequence":2`), 1)
		}}), link: "binding", want: refusal.ErrBinding},
		"context not canonical": {make: hooks(attesttest.Hooks{ResponseEvidence: func(c *evidence.Collection) {
			c.Binding = append(c.Binding, ' ')
		}}), link: "binding", want: refusal.ErrMalformed},
		// The statement key signs other provenance, for which there is no quote, and points at the old evidence.
		"provenance not quoted": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			var key *bundle.Key
			l := attesttest.Whole(t, attesttest.Options{Hooks: attesttest.Hooks{Signer: func(kind string, own *bundle.Key) *bundle.Key {
				if kind == "provenance" {
					key = own
				}
				return own
			}}})
			b, err := bundle.Parse(l.Provenance)
			fatal(t, err)
			l.Artifact = []byte("evil")
			payload := bytes.Replace(b.Payload(), []byte(binding.Sum([]byte("what was built")).String()), []byte(binding.Sum(l.Artifact).String()), 1)
			l.Provenance, err = bundle.Sign(t.Context(), key, payload)
			fatal(t, err)
			r := statement.Response{
				Subjects:   []statement.Subject{{Name: "widget.tar.gz", Digest: statement.SHA256(binding.Sum(l.Artifact))}},
				Provenance: binding.Sum(payload), Evidence: evidence.Digest(l.ResponseEvidence), BuildID: attesttest.Facts().BuildID(), Sequence: 1,
			}
			response, err := r.Marshal()
			fatal(t, err)
			l.Response, err = bundle.Sign(t.Context(), key, response)
			fatal(t, err)
			return l
		}, link: "binding", want: refusal.ErrBinding},
	})
}

func TestAttackEventLog(t *testing.T) {
	t.Parallel()
	rewrite := func(digests ...func(old binding.Digest) binding.Digest) func(*evidence.Collection) {
		return func(c *evidence.Collection) {
			old, err := eventlog.Parse(c.EventLog)
			if err != nil {
				panic(err)
			}
			var l eventlog.Log
			for i, e := range old.Events() {
				if err := l.Append(e.Type, digests[i](e.Digest)); err != nil {
					panic(err)
				}
			}
			c.EventLog = l.Bytes()
		}
	}
	same := func(d binding.Digest) binding.Digest { return d }
	other := func(d binding.Digest) binding.Digest { d[0] ^= 1; return d }
	run(t, map[string]attack{
		"other configuration":   {make: hooks(attesttest.Hooks{ResponseEvidence: rewrite(other, same, same)}), link: "event-log", want: refusal.ErrEventLogMismatch},
		"other environment key": {make: hooks(attesttest.Hooks{ResponseEvidence: rewrite(same, other, same)}), link: "event-log", want: refusal.ErrEventLogMismatch},
		"other dispatch":        {make: hooks(attesttest.Hooks{ResponseEvidence: rewrite(same, same, other)}), link: "event-log", want: refusal.ErrEventLogMismatch},
		"line twice": {make: hooks(attesttest.Hooks{ResponseEvidence: func(c *evidence.Collection) {
			c.EventLog = append(c.EventLog, c.EventLog[bytes.IndexByte(c.EventLog, '\n')+1:]...)
		}}), link: "event-log", want: refusal.ErrEventLogMismatch},
		"cut": {make: hooks(attesttest.Hooks{ResponseEvidence: func(c *evidence.Collection) {
			c.EventLog = c.EventLog[:len(c.EventLog)-1]
		}}), link: "event-log", want: refusal.ErrMalformed},
		"dispatch dropped": {make: hooks(attesttest.Hooks{ResponseEvidence: func(c *evidence.Collection) {
			lines := bytes.SplitAfter(c.EventLog, []byte{'\n'})
			c.EventLog = bytes.Join(lines[:2], nil)
		}}), link: "event-log", want: refusal.ErrEventLogMismatch},
		"head": {make: hooks(attesttest.Hooks{ResponseContext: func(c *binding.Context) { c.EventLogHead[0] ^= 1 }}), link: "event-log", want: refusal.ErrEventLogMismatch},
		"second response as the first": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			hide := false
			e := attesttest.Boot(t, attesttest.Options{Hooks: attesttest.Hooks{
				ResponseContext: func(c *binding.Context) {
					if hide {
						c.Sequence = 1
					}
				},
				Response: func(r *statement.Response) {
					if hide {
						r.Sequence = 1
					}
				},
			}})
			e.Dispatch(t)
			e.Respond(t, "hidden", []byte("hidden"))
			hide = true
			return e.Respond(t, "shown", []byte("shown"))
		}, link: "event-log", want: refusal.ErrEventLogMismatch},
		"register extended by something else": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			e := attesttest.Boot(t, attesttest.Options{})
			e.Dispatch(t)
			e.Processor.Extend([32]byte{1})
			return e.Respond(t, "a", []byte("a"))
		}, link: "event-log", want: refusal.ErrEventLogMismatch},
		"register extended before boot": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			p := attesttest.Processor(t, attesttest.LaunchDigest())
			p.Extend([32]byte{1})
			return attesttest.Whole(t, attesttest.Options{Processor: p})
		}, link: "event-log", want: refusal.ErrEventLogMismatch},
		// Log, head and register agree with each other, but not with the statements.
		"another machine's log": {make: func(t *testing.T) attesttest.Lines {
			t.Helper()
			other, log := attesttest.Processor(t, attesttest.LaunchDigest()), new(eventlog.Log)
			for _, typ := range eventlog.Once() {
				fatal(t, log.Append(typ, binding.Digest{9}))
				other.Extend(binding.Digest{9})
			}
			return hooks(attesttest.Hooks{
				Quoter: func(p binding.Purpose) *sim.Processor {
					if p == binding.Response {
						return other
					}
					return nil
				},
				ResponseContext:  func(c *binding.Context) { c.EventLogHead = log.Head() },
				ResponseEvidence: func(c *evidence.Collection) { c.EventLog = log.Bytes() },
			})(t)
		}, link: "event-log", want: refusal.ErrEventLogMismatch},
		"dispatch log says too much": {make: hooks(attesttest.Hooks{DispatchEvidence: func(c *evidence.Collection) {
			l, err := eventlog.Parse(c.EventLog)
			if err == nil {
				err = l.Append(eventlog.Response, binding.Digest{1})
			}
			if err != nil {
				panic(err)
			}
			c.EventLog = l.Bytes()
		}}), link: "dispatch", want: refusal.ErrEventLogMismatch},
		"boot log says too much": {make: hooks(attesttest.Hooks{BootEvidence: func(c *evidence.Collection) {
			l, err := eventlog.Parse(c.EventLog)
			if err == nil {
				err = l.Append(eventlog.Dispatch, binding.Digest{1})
			}
			if err != nil {
				panic(err)
			}
			c.EventLog = l.Bytes()
		}}), link: "boot", want: refusal.ErrEventLogMismatch},
	})
}

func TestAttackMeasurement(t *testing.T) {
	t.Parallel()
	launched := func(change func(*[48]byte)) func(*testing.T) attesttest.Lines {
		return func(t *testing.T) attesttest.Lines {
			t.Helper()
			d := attesttest.LaunchDigest()
			change(&d)
			return attesttest.Whole(t, attesttest.Options{Processor: attesttest.Processor(t, d)})
		}
	}
	run(t, map[string]attack{
		"altered image": {make: launched(func(d *[48]byte) { d[47] ^= 1 }), link: "measurement", want: refusal.ErrMeasurement},
		"platform not accepted": asked(func(t *testing.T, r *attest.Request) {
			t.Helper()
			r.Policy = policyOf(t, "platforms: [sim]", "platforms: [snp]")
		}).at("measurement", refusal.ErrPolicy),
		"chip not accepted": asked(func(t *testing.T, r *attest.Request) {
			t.Helper()
			r.Policy = policyOf(t, "floor: strict", `floor: strict`+"\n  chips: [\""+strings.Repeat("01", 64)+`"]`)
		}).at("measurement", refusal.ErrPolicy),
	})
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// leafOf gives the certificate of another processor.
func leafOf(t *testing.T, p *sim.Processor) []byte {
	t.Helper()
	leaf, err := snp.EndorsementKey(p.Endorsements())
	fatal(t, err)
	return leaf
}
