// SPDX-License-Identifier: Apache-2.0

//go:build vms

package soak_test

import (
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
)

// What is done to a machine, or to the world meanwhile.
const (
	cut      = "cut"      // its power goes
	orphan   = "orphan"   // its launcher is killed
	stop     = "stop"     // its operator wants it to end at once
	freeze   = "freeze"   // its host stops for a while
	drain    = "drain"    // its operator wants it to end without losing a job
	cancel   = "cancel"   // somebody cancels the run
	delist   = "delist"   // somebody removes the runner at GitHub
	start    = "start"    // only now there is a job
	begin    = "begin"    // what the plan has for everybody begins
	mend     = "mend"     // and ends
	powerOn  = "power-on" // the moment: the machine has been on for a few seconds, and has not spoken
	ruleActs = "rule"     // the moment: the plan's rule has acted
	later    = "later"    // the moment: a while after the deed before
)

// at makes a plan of one deed.
func at(p plan, when, what string) plan {
	p.deeds = append(p.deeds, deed{when, what})
	return p
}

// again is the plan for another machine, after one that hung.
func (p plan) again() plan {
	p.repeated = true
	return p
}

// cutPlans take a machine's power away in every state that it can have, and at two moments between them.
func cutPlans() []plan {
	all := []plan{
		at(plan{name: "power cut at power-on", jobless: true}, powerOn, cut),
		at(plan{name: "power cut when the runner is registered and the machine does not know", jobless: true, rule: &fault.Rule{
			Method: "POST", Path: "**/generate-jitconfig", Act: fault.Lost(fault.Hang()), Times: 1,
		}}, ruleActs, cut),
		at(plan{name: "power cut when failed", program: "exit=5@start"}, "failed", cut),
		at(at(plan{name: "power cut when cancelled", slow: true}, "running", cancel), "cancelled", cut),
		at(at(plan{name: "power cut when ghost", jobless: true}, "listening", delist), "ghost", cut),
		at(at(plan{name: "power cut when idle-expired", jobless: true}, "listening", drain), "idle-expired", cut),
		at(plan{name: "power cut when removed"}, "removed", cut),
	}
	for _, p := range ownPlans() {
		if p.killAt != "" {
			all = append(all, at(p, p.killAt, cut))
		}
	}
	for i := range all {
		all[i].ends = "died"
	}
	return all
}

// launcherPlans are for who holds the machine.
func launcherPlans() []plan {
	return []plan{
		at(plan{name: "launcher killed when registering", ends: "abandoned", jobless: true}, "registering", orphan),
		at(plan{name: "launcher killed when running", ends: "abandoned", slow: true}, "running", orphan),
		at(plan{name: "launcher killed when listening, the next one tidies up", ends: "abandoned", jobless: true, leave: true}, "listening", orphan),
		at(plan{name: "operator ends it when running", ends: "killed", slow: true}, "running", stop),
		at(plan{name: "host stopped for 20 s when running", ends: "finished", slow: true}, "running", freeze),
		{name: "good", ends: "finished"},
	}
}

// machinePlans are the others: those of processes that a machine adds something to, and GitHub's.
func machinePlans() []plan {
	var all []plan
	for _, p := range ownPlans() {
		switch {
		case p.killAt != "" || p.clock != 0 || strings.HasPrefix(p.name, "good"):
			continue
		case p.drainAt != "":
			p = at(p, p.drainAt, drain)
		case p.cancelAt != "" && p.cancelAt != "queued": // that is seen to when it is dispatched
			p = at(p, p.cancelAt, cancel)
		}
		all = append(all, p)
	}
	all = append(all, at(plan{name: "cancelled when responding", ends: "cancelled finished", slow: true}, "responding", cancel))
	return slices.Concat(all, registrationPlans(), gitHubPlans())
}

// registrationPlans treat the request for a runner badly, or that for its removal.
func registrationPlans() []plan {
	var all []plan
	add := func(name, ends string, act fault.Act, times int, method, path string) {
		all = append(all, plan{name: name, ends: ends, rule: &fault.Rule{Method: method, Path: path, Act: act, Times: times}})
	}
	for name, act := range map[string]fault.Act{
		"done, then 502": fault.Lost(fault.Status(502, nil)), "done, then reset": fault.Lost(fault.Reset()), "409": fault.Status(409, nil),
		"503": fault.Status(503, nil), "429": fault.Status(429, http.Header{"Retry-After": {"2"}}), "reset": fault.Reset(), "half": fault.Half(),
		"wrong JSON": fault.WrongJSON(), "secondary limit": fault.SecondaryLimit(403, 2*time.Second),
	} {
		add("generate-jitconfig: "+name, "finished", act, 1, "POST", "**/generate-jitconfig")
	}
	add("generate-jitconfig: 401", "failed", fault.Status(401, nil), 0, "POST", "**/generate-jitconfig")
	add("generate-jitconfig: 403", "failed", fault.Status(403, nil), 0, "POST", "**/generate-jitconfig")
	add("removal: 500", "finished", fault.Status(500, nil), 2, "DELETE", "**/actions/runners/*")
	add("removal: done, then reset", "finished", fault.Lost(fault.Reset()), 1, "DELETE", "**/actions/runners/*")
	slices.SortFunc(all, func(a, b plan) int { return strings.Compare(a.name, b.name) })
	return all
}

// gitHubPlans are a GitHub that is wrong, or away.
func gitHubPlans() []plan {
	misbehave := func(f fakegithub.Faults) func(*world) func() {
		return func(w *world) func() {
			_ = w.github.Misbehave(f)
			return func() { _ = w.github.Misbehave(fakegithub.Faults{}) }
		}
	}
	away := func(services ...string) func(*world) func() {
		return func(w *world) func() {
			armed, err := w.faults.Partition(services...)
			if err != nil {
				return func() {}
			}
			return armed.Remove
		}
	}
	refuse := func(fakegithub.Job, fakegithub.Runner) fakegithub.Refusal { return fakegithub.Refusal{Status: 409} }
	wrong := func(j fakegithub.Job) (int64, string) { return j.RunnerID + 1, j.RunnerName }
	all := []plan{
		{name: "jobs API lags 8 s", ends: "finished", world: misbehave(fakegithub.Faults{RunnerLag: 8 * time.Second})},
		{name: "wrong runner_id", ends: "failed", world: misbehave(fakegithub.Faults{JobRunner: wrong})},
		{name: "acquire refused", ends: "ghost failed", world: misbehave(fakegithub.Faults{Acquire: refuse})},
		{name: "version too old", ends: "failed", world: misbehave(fakegithub.Faults{MinimumVersion: "99.0.0"})},
		{name: "key that was never published", ends: "failed", world: misbehave(fakegithub.Faults{ForeignKey: true})},
		{name: "keys rotated", ends: "finished", world: func(w *world) func() { _ = w.github.RotateIssuer(true); return func() {} }},
		{name: "partition when listening", ends: "finished", jobless: true, world: away("api")},
		{name: "partition of everything when running", ends: "finished", slow: true, world: away()},
	}
	for i := range all {
		switch all[i].name {
		case "partition when listening":
			all[i].deeds = []deed{{"listening", begin}, {later, mend}, {later, start}}
		case "partition of everything when running":
			all[i].deeds = []deed{{"running", begin}, {later, mend}}
		}
	}
	return all
}

// drawMachines chooses n plans: every cut and every fate of a launcher as far as n reaches, then others by chance. Their order is
// by chance too, but that what is left to the next launcher has one.
func drawMachines(seed uint64, n int) []turn {
	random := mathrand.New(mathrand.NewPCG(seed, seed)) //nolint:gosec // to be repeated.
	plans, others := slices.Concat(cutPlans(), launcherPlans()), machinePlans()
	random.Shuffle(len(plans), func(i, k int) { plans[i], plans[k] = plans[k], plans[i] })
	random.Shuffle(len(others), func(i, k int) { others[i], others[k] = others[k], others[i] })
	for len(plans) < n {
		plans = append(plans, others[:min(n-len(plans), len(others))]...)
	}
	plans = plans[:n]
	random.Shuffle(n, func(i, k int) { plans[i], plans[k] = plans[k], plans[i] })
	var turns []turn
	for i, p := range plans {
		p.leave = p.leave && i < n-1
		turns = append(turns, turn{i, p})
	}
	return turns
}
