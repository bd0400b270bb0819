// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
)

func newKey() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// plan is what goes wrong for one environment. The zero plan is a good day.
type plan struct {
	name     string
	ends     string        // how it must end if nothing else goes wrong: states, or what the launcher sees, any of them
	slow     bool          // the job leaves time for something to meet it
	jobless  bool          // there is no job
	program  string        // faults of the runner program
	clock    time.Duration // how far the environment's is ahead
	sink     mood
	killAt   string // state in which everything in the environment is killed at once
	drainAt  string
	cancelAt string // state in which the run is cancelled; "queued" is before there is a runner
	rule     *fault.Rule
	world    func(w *world) (mend func()) // something that all environments of the time meet
	deeds    []deed                       // to a machine, one after the other
	repeated bool                         // a machine hung before it came to this
	leave    bool                         // what a killed launcher leaves is for the next one
}

// deed is what is done to a machine at a moment of its life.
type deed struct{ when, what string }

// ownPlans concern one environment alone.
func ownPlans() []plan {
	all := []plan{{name: "good", ends: "finished"}, {name: "good and slow", ends: "finished", slow: true}}
	for _, s := range []string{"boot", "registering", "listening", "claimed", "running", "responding", "finished"} {
		early := s == "boot" || s == "registering" || s == "listening"
		all = append(all, plan{name: "power cut when " + s, ends: "died", killAt: s, slow: true, jobless: early})
	}
	for state, ends := range map[string]string{
		"registering": "idle-expired", "listening": "idle-expired", "claimed": "finished", "running": "finished",
	} {
		all = append(all, plan{name: "drained when " + state, ends: ends, drainAt: state, slow: true, jobless: ends == "idle-expired"})
	}
	for state, ends := range map[string]string{
		"queued": "idle-expired", "claimed": "cancelled failed", "running": "cancelled",
	} {
		all = append(all, plan{name: "cancelled when " + state, ends: ends, cancelAt: state, slow: true})
	}
	for faults, ends := range map[string]string{
		"ghost": "ghost failed", "crash@start": "failed", "crash@listening": "failed", "crash@offered": "failed", "crash@acquired": "failed",
		"crash@running": "failed", "crash@finished": "failed", "hang@start": "failed", "hang@offered": "ghost failed idle-expired",
		"hang@acquired": "failed ghost idle-expired", "hang@running": "failed finished ghost", "hang@finished,ignore-sigterm": "failed", "exit=2@listening": "failed",
		"exit=5@start": "failed", "exit=3@running": "failed", "exit=9@finished": "failed", "daemon@running": "finished", "no-hooks": "ghost failed",
	} {
		all = append(all, plan{name: "runner program: " + faults, ends: ends, program: faults})
	}
	for d, ends := range map[time.Duration]string{
		10 * time.Minute: "failed", -10 * time.Minute: "failed", 2 * 365 * 24 * time.Hour: "failed", -2 * 365 * 24 * time.Hour: "failed",
	} {
		all = append(all, plan{name: "clock " + d.String(), ends: ends, clock: d})
	}
	for _, m := range []mood{down, full, lazy, shaking} {
		all = append(all, plan{name: "sink " + string(m), ends: "finished", sink: m})
	}
	slices.SortFunc(all, func(a, b plan) int { return strings.Compare(a.name, b.name) })
	return all
}

// requestPlans treat some requests badly, whoever makes them.
func requestPlans() []plan {
	acts := map[string]fault.Act{
		"401": fault.Status(401, nil), "403": fault.Status(403, nil), "404": fault.Status(404, nil), "409": fault.Status(409, nil),
		"422": fault.Status(422, nil), "429": fault.Status(429, http.Header{"Retry-After": {"1"}}), "500": fault.Status(500, nil),
		"502": fault.Status(502, nil), "503": fault.Status(503, nil), "504": fault.Status(504, nil),
		"secondary limit": fault.SecondaryLimit(403, time.Second), "done, then 502": fault.Lost(fault.Status(502, nil)),
		"done, then reset": fault.Lost(fault.Reset()), "reset": fault.Reset(), "hang": fault.Hang(), "drip": fault.Drip(2 * time.Second),
		"half": fault.Half(), "wrong JSON": fault.WrongJSON(), "cut JSON": fault.CutJSON(), "page": fault.Page(200), "delay": fault.Delay(3 * time.Second),
	}
	places := map[string]fault.Rule{
		"generate-jitconfig": {Method: "POST", Path: "**/generate-jitconfig"}, "runner": {Method: "GET", Path: "**/actions/runners/*"},
		"removal": {Method: "DELETE", Path: "**/actions/runners/*"}, "runners": {Method: "GET", Path: "**/actions/runners"},
		"jobs": {Method: "GET", Path: "**/jobs"}, "run": {Method: "GET", Path: "**/actions/runs/*"},
		"anything of the API": {Services: []string{"api"}}, "anything of the broker": {Services: []string{"broker"}},
		"anything of the run service": {Services: []string{"run"}}, "anything of the issuer": {Services: []string{"issuer"}},
		"anything": {},
	}
	all := []plan{}
	for what, act := range acts {
		for where, rule := range places {
			rule.Act, rule.Times = act, 1+len(what+where)%3
			all = append(all, plan{name: where + ": " + what, rule: &rule})
		}
	}
	slices.SortFunc(all, func(a, b plan) int { return strings.Compare(a.name, b.name) })
	return all
}

// worldPlans are misfortunes that everybody shares for a while.
func worldPlans() []plan {
	misbehave := func(f fakegithub.Faults) func(*world) func() {
		return func(w *world) func() {
			_ = w.github.Misbehave(f)
			return func() { _ = w.github.Misbehave(fakegithub.Faults{}) }
		}
	}
	return []plan{
		{name: "jobs API lags", world: misbehave(fakegithub.Faults{RunnerLag: 3 * time.Second})},
		{name: "wrong runner_id", world: misbehave(fakegithub.Faults{JobRunner: func(j fakegithub.Job) (int64, string) { return j.RunnerID + 1, j.RunnerName }})},
		{name: "one runner_id for all", world: misbehave(fakegithub.Faults{JobRunner: func(fakegithub.Job) (int64, string) { return 7, "another" }})},
		{name: "acquire refused", world: misbehave(fakegithub.Faults{Acquire: func(fakegithub.Job, fakegithub.Runner) fakegithub.Refusal { return fakegithub.Refusal{Status: 409} }})},
		{name: "cancelled before pickup", world: misbehave(fakegithub.Faults{Acquire: func(fakegithub.Job, fakegithub.Runner) fakegithub.Refusal {
			return fakegithub.Refusal{Status: 404, Cancel: true}
		}})},
		{name: "version too old", world: misbehave(fakegithub.Faults{MinimumVersion: "99.0.0"})},
		{name: "update demanded", world: misbehave(fakegithub.Faults{Update: "99.0.0"})},
		{name: "session conflict", world: misbehave(fakegithub.Faults{SessionConflict: true})},
		{name: "foreign key", world: misbehave(fakegithub.Faults{ForeignKey: true})},
		{name: "unknown kid", world: misbehave(fakegithub.Faults{KeyID: "unknown"})},
		{name: "expired token", world: misbehave(fakegithub.Faults{IDToken: func(c map[string]any) { c["exp"] = 1 }})},
		{name: "token of the future", world: misbehave(fakegithub.Faults{IDToken: func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() }})},
		{name: "other issuer", world: misbehave(fakegithub.Faults{IDToken: func(c map[string]any) { c["iss"] = "https://elsewhere.example" }})},
		{name: "check_run_id of a wrong type", world: misbehave(fakegithub.Faults{IDToken: func(c map[string]any) { c["check_run_id"] = true }})},
		{name: "skewed GitHub", world: misbehave(fakegithub.Faults{Skew: 10 * time.Minute})},
		{name: "keys rotated", world: func(w *world) func() { _ = w.github.RotateIssuer(true); return func() {} }},
		{name: "partition", world: func(w *world) func() {
			armed, err := w.faults.Partition("api")
			if err != nil {
				return func() {}
			}
			return armed.Remove
		}},
		{name: "TLS expired", world: func(w *world) func() {
			w.ca.Present(fakegithub.Expired)
			return func() { w.ca.Present(fakegithub.Sound) }
		}},
		{name: "TLS of another", world: func(w *world) func() {
			w.ca.Present(fakegithub.UnknownAuthority)
			return func() { w.ca.Present(fakegithub.Sound) }
		}},
	}
}

// draw chooses what goes wrong for the n-th environment: for one in four nothing does.
func draw(r *mathrand.Rand, all []plan) plan {
	if r.IntN(4) == 0 {
		return plan{name: "good"}
	}
	return all[r.IntN(len(all))]
}

// stay is how long an environment waits for what is to meet it.
func (p plan) stay() time.Duration {
	if p.killAt != "" {
		return time.Minute
	}
	return 400 * time.Millisecond
}

func (p plan) String() string { return fmt.Sprintf("%q", p.name) }
