// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"context"
	"errors"
	"flag"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/fakegithub/fault"
	"github.com/kettle/attest/internal/secret"
)

var (
	jobs    = flag.Int("soak.jobs", 0, "how many environments, one job each, with random faults of all kinds; 0 runs each fault of one environment once")
	workers = flag.Int("soak.workers", 16, "how many at a time")
	seed    = flag.Uint64("soak.seed", 1, "of what goes wrong when")
)

const jobsPolicy = `apiVersion: kettle/v1
expires: never
jobs:
  repositories:
    - {url: %s/acme/widget, id: 1, ownerId: 2}
  workflows: [.github/workflows/*.yml]
  refs: [refs/heads/main]
  events: [workflow_dispatch]
  identitySource: token
`

const consumerPolicy = `apiVersion: kettle/v1
expires: never
environments:
  platforms: [sim]
  floor: strict
  revocation: if-present
  images: any
  measurements: [%s]
  lateCompromise: [register-replay, token]
revoked: none
artifacts:
  builders: [https://github.com/kettle/attest/builders/sim/strict/v1]
  repositories:
    - {url: %s/acme/widget, id: 1, ownerId: 2}
  workflows: [.github/workflows/*.yml]
  refs: [refs/heads/main]
  events: [workflow_dispatch]
  identitySource: token
`

// soak is one run of it.
type soak struct {
	t         *testing.T
	world     *world
	programs  programs
	reaper    *dispatch.Reaper
	state     string
	simulator *sim.Authority
	chips     string // its folder
	turns     int

	measurement [48]byte   // of every environment
	strict      bool       // each must end as its plan says
	shared      sync.Mutex // held by what everybody meets: one such thing at a time

	mu      sync.Mutex
	ends    map[string]int             // state → environments; mu
	hows    map[dispatch.How]int       // mu
	spans   map[string][]time.Duration // mu
	prefix  map[string]bool            // every environment's; mu
	bundles map[string][]byte          // prefix → what it attested; mu
}

// TestSoak runs the environments and looks at what is left: no runner at GitHub, no job taken twice, no environment used
// again, nothing accepted that was not attested, no growth. Where each has its own fault and shares nothing, each must end as
// it should.
func TestSoak(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("PID namespaces need root")
	}
	turns := choose()
	s := newSoak(t, turns)
	queue := make(chan turn)
	var group sync.WaitGroup
	for range *workers {
		group.Go(func() {
			for j := range queue {
				s.one(j)
			}
		})
	}
	var before load
	for _, j := range turns {
		if j.n == len(turns)/4 { // everything is warm
			before = loaded()
		}
		queue <- j
	}
	close(queue)
	group.Wait()
	s.tidy()
	s.check()
	s.grown(before)
	s.report()
}

// turn is one environment to be.
type turn struct {
	n    int
	plan plan
}

// choose makes the list of environments.
func choose() (turns []turn) {
	if *jobs == 0 {
		for n, p := range ownPlans() {
			turns = append(turns, turn{n, p})
		}
		return turns
	}
	random, all := mathrand.New(mathrand.NewPCG(*seed, *seed)), slices.Concat(ownPlans(), requestPlans(), worldPlans()) //nolint:gosec // to be repeated.
	for n := range *jobs {
		turns = append(turns, turn{n, draw(random, all)})
	}
	return turns
}

func newSoak(t *testing.T, turns []turn) *soak {
	t.Helper()
	w := newWorld(t, turns)
	target := dispatch.Target{APIURL: w.url, Scope: "repo", Target: "acme/widget"}
	limits := dispatch.Limits{
		Hello: time.Minute, Silence: 3 * time.Minute, PowerOff: 20 * time.Second, Settle: 200 * time.Millisecond,
		Patience: 3 * time.Minute, Busy: 2 * time.Minute,
	}
	authority, err := sim.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	chips := t.TempDir()
	if err := authority.Save(chips); err != nil {
		t.Fatal(err)
	}
	s := emptySoak(t, w, len(turns))
	s.simulator, s.chips, s.programs, s.state, s.strict = authority, chips, build(t), t.TempDir(), *jobs == 0
	s.measurement = [48]byte{1}
	s.reaper = &dispatch.Reaper{Registry: w.client, Target: target, Limits: limits}
	return s
}

func emptySoak(t *testing.T, w *world, turns int) *soak {
	return &soak{
		t: t, world: w, turns: turns, ends: map[string]int{}, hows: map[dispatch.How]int{}, spans: map[string][]time.Duration{},
		prefix: map[string]bool{}, bundles: map[string][]byte{},
	}
}

// one lives one environment from its launch until it is reaped.
func (s *soak) one(j turn) {
	t := s.t
	dir := filepath.Join(s.state, "e"+strconv.Itoa(j.n))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s.world.records.set(strconv.Itoa(j.n), j.plan.sink)
	run, err := s.dispatch(j)
	if err != nil {
		t.Errorf("dispatching: %v", err)
		return
	}
	defer s.misfortune(j.plan)()
	folder, err := dispatch.CreateFolder(filepath.Join(s.state, "launcher"), s.reaper.Target)
	if err != nil {
		t.Errorf("environment %d: %v", j.n, err)
		return
	}
	m, err := s.start(j, dir)
	if err != nil {
		t.Errorf("environment %d: %v", j.n, err)
		return
	}
	session, err := dispatch.New(dispatch.Config{Folder: folder, Machine: m, Credential: secret.New(operatorToken), Reaper: s.reaper})
	if err != nil {
		t.Errorf("environment %d: %v", j.n, err)
		return
	}
	watching, stop := context.WithCancel(t.Context())
	go s.meddle(watching, j.plan, session, m, run)
	record, err := session.Run(t.Context())
	stop()
	if err != nil && !errors.Is(err, dispatch.ErrLeft) { // for the next launcher, at the end
		t.Errorf("environment %d, %s: %v", j.n, j.plan, err)
	}
	_ = folder.Close()
	<-m.Done()
	s.note(s.collect(j, folder.Prefix(), dir, record))
}

// dispatch starts the workflow of an environment, unless that is to have no job.
func (s *soak) dispatch(j turn) (*fakegithub.Run, error) {
	if j.plan.jobless {
		return nil, nil //nolint:nilnil // that is none.
	}
	run, err := s.world.github.Dispatch(s.t.Context(), fakegithub.Dispatch{Owner: "acme", Repo: "widget", Workflow: workflowFile(j.n), Ref: "main"})
	if err == nil && j.plan.cancelAt == "queued" {
		s.world.github.Cancel(run)
	}
	return run, err
}

// misfortune lets something happen to everybody for some seconds.
func (s *soak) misfortune(p plan) (mend func()) {
	if p.world == nil {
		mend, _ := s.meet(p)
		return mend
	}
	s.shared.Lock()
	done, _ := s.meet(p)
	timer := time.AfterFunc(8*time.Second, sync.OnceFunc(func() { done(); s.shared.Unlock() }))
	return func() {
		if timer.Stop() {
			done()
			s.shared.Unlock()
		}
	}
}

// meet lets something happen to everybody until it is mended. The rule is the plan's, if it has one.
func (s *soak) meet(p plan) (mend func(), rule *fault.Armed) {
	switch {
	case p.rule != nil:
		armed, err := s.world.faults.Add(*p.rule)
		if err != nil {
			s.t.Errorf("%s: %v", p, err)
			break
		}
		return armed.Remove, armed
	case p.world != nil:
		return p.world(s.world), nil
	}
	return func() {}, nil
}

// meddle does to an environment what its plan has for one of its states.
func (s *soak) meddle(ctx context.Context, p plan, session *dispatch.Session, m *machine, run *fakegithub.Run) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		state := string(session.Status().State)
		if state == "" {
			continue
		}
		switch state {
		case p.killAt:
			m.Kill()
			return
		case p.drainAt:
			session.Drain()
			return
		case p.cancelAt:
			s.world.github.Cancel(run)
			return
		}
	}
}
