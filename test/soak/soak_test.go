// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
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
  measurements: [%s]
  lateCompromise: [register-replay, token]
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
	shared    sync.Mutex // held by what everybody meets: one such thing at a time

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
			before = measure()
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
	return &soak{
		simulator: authority, chips: chips, t: t, world: w, programs: build(t), state: t.TempDir(), turns: len(turns),
		reaper: &dispatch.Reaper{Registry: w.client, Target: target, Limits: limits},
		ends:   map[string]int{}, hows: map[dispatch.How]int{}, spans: map[string][]time.Duration{}, prefix: map[string]bool{},
		bundles: map[string][]byte{},
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
	s.note(j, folder.Prefix(), dir, record)
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
	if p.rule != nil {
		armed, err := s.world.faults.Add(*p.rule)
		if err != nil {
			s.t.Errorf("%s: %v", p, err)
			return func() {}
		}
		return armed.Remove
	}
	if p.world == nil {
		return func() {}
	}
	s.shared.Lock()
	done := p.world(s.world)
	timer := time.AfterFunc(8*time.Second, sync.OnceFunc(func() { done(); s.shared.Unlock() }))
	return func() {
		if timer.Stop() {
			done()
			s.shared.Unlock()
		}
	}
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

// machine is a process in PID and mount namespaces of its own.
type machine struct {
	control net.Conn
	done    chan struct{}
	cmd     *exec.Cmd
}

func (m *machine) Control() net.Conn     { return m.control }
func (m *machine) Done() <-chan struct{} { return m.done }
func (m *machine) Kill()                 { _ = m.cmd.Process.Kill() }

// patience is short where only what is left counts. Where each environment must end as it should, a busy machine gets more.
func patience() times {
	t := times{
		Register: 20 * time.Second, Listen: 12 * time.Second, Ghost: 5 * time.Second, Idle: 15 * time.Second, Dispatch: 10 * time.Second,
		Job: 25 * time.Second, Drain: 8 * time.Second,
	}
	if *jobs == 0 {
		t.Register, t.Listen, t.Dispatch, t.Job, t.Drain = time.Minute, 40*time.Second, 40*time.Second, 50*time.Second, 40*time.Second
	}
	return t
}

func (s *soak) start(j turn, dir string) (*machine, error) {
	text, err := json.Marshal(settings{
		Dir: dir, Label: label(j.n), Server: s.world.server, API: s.world.url, Host: s.world.host, Issuer: s.world.github.Issuer(), Sink: s.world.sinkURL + "/" + strconv.Itoa(j.n), Simulator: s.chips,
		Roots: string(s.world.ca.PEM()), Listener: s.programs.listener, Action: s.programs.action, Policy: fmt.Sprintf(jobsPolicy, s.world.server),
		Faults: j.plan.program, Clock: j.plan.clock, StayAt: j.plan.killAt + j.plan.drainAt + j.plan.cancelAt, Stay: j.plan.stay(), Times: patience(),
	})
	if err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	defer ours.Close()
	m := &machine{done: make(chan struct{})}
	if m.control, err = net.FileConn(ours); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	m.cmd = exec.Command("/proc/self/exe")
	m.cmd.Env, m.cmd.Dir = append(os.Environ(), roleVariable+"="+string(text)), dir
	m.cmd.ExtraFiles, m.cmd.Stdout, m.cmd.Stderr = []*os.File{theirs}, log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(m.done)
		_ = m.cmd.Wait()
	}()
	return m, nil
}

// note keeps what the environment left behind.
func (s *soak) note(j turn, prefix, dir string, record *dispatch.Record) {
	f, err := os.Open(filepath.Join(dir, "guest-journal.jsonl"))
	var entries []runner.Entry
	if err == nil {
		defer f.Close()
		if entries, err = runner.ReadJournal(f); err != nil {
			s.t.Errorf("environment %d, %s: its journal: %v", j.n, j.plan, err)
		}
	}
	files := s.world.records.take(strconv.Itoa(j.n))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prefix[prefix] = true
	if record != nil {
		s.hows[record.How]++
	}
	end := "none"
	for _, e := range entries {
		if e.State.Ended() && e.State != runner.Removed {
			end = string(e.State)
		}
	}
	s.ends[end]++
	if *jobs == 0 && !slices.Contains(strings.Fields(j.plan.ends), end) && (record == nil || !slices.Contains(strings.Fields(j.plan.ends), string(record.How))) {
		s.t.Errorf("%s: it ended %s, want %s", j.plan, end, j.plan.ends)
	}
	s.span("register", entries, runner.Registering, runner.Listening)
	s.span("T0", entries, runner.Claimed, runner.Running)
	s.span("teardown", entries, runner.Finished, runner.Removed)
	if b := files["response-1.intoto.jsonl"]; b != nil {
		s.bundles[prefix] = b
	}
	if testing.Verbose() {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		outcome := ""
		if record != nil {
			outcome = record.Outcome
		}
		s.t.Logf("%d %s: %s: %s\n%s", j.n, j.plan, end, outcome, lastLines(string(log), 3))
	}
}

func lastLines(text string, n int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}

// span notes how long it took from one state to another, where both were reached.
func (s *soak) span(name string, entries []runner.Entry, from, to runner.State) {
	var start time.Time
	for _, e := range entries {
		if e.State == from && start.IsZero() {
			start = e.At
		}
		if e.State == to && !start.IsZero() {
			s.spans[name] = append(s.spans[name], e.At.Sub(start))
			return
		}
	}
}

// tidy is the next launcher, which reaps what others had to leave, and ends jobs that nobody will take any more.
func (s *soak) tidy() {
	found, err := s.reaper.Recover(s.t.Context(), filepath.Join(s.state, "launcher"))
	if err = errors.Join(err, found.Err()); err != nil {
		s.t.Errorf("reaping what is left: %v", err)
	}
	for _, r := range s.world.github.Runs() {
		if r.Status != "completed" {
			s.world.github.Cancel(r)
		}
	}
}

// check looks at what is left.
func (s *soak) check() {
	t, books := s.t, s.world.github.Ledger()
	if len(books.Registered) > 0 {
		t.Errorf("left at GitHub: %+v", books.Registered)
	}
	if len(books.TakenTwice) > 0 {
		t.Errorf("taken twice: %+v", books.TakenTwice)
	}
	if len(books.Greedy) > 0 {
		t.Errorf("asked for a second job: %+v", books.Greedy)
	}
	if len(s.prefix) != s.turns {
		t.Errorf("%d environments of %d", len(s.prefix), s.turns)
	}
	rules, err := policy.Parse(fmt.Appendf(nil, consumerPolicy, hex.EncodeToString(append([]byte{1}, make([]byte, 47)...)), s.world.server))
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for _, r := range s.world.github.Runs() {
		j := r.Jobs[0]
		prefix, _, _ := strings.Cut(strings.TrimPrefix(j.RunnerName, "kettle-"), "-")
		d, attested := s.bundles["kettle-"+prefix]
		if !attested {
			if j.Conclusion == "success" {
				s.count("succeeded without a record")
			}
			continue
		}
		if err := s.verify(rules, d, r.ID, j.RunnerName); err != nil {
			t.Errorf("run %d on %s: %v", r.ID, j.RunnerName, err)
			continue
		}
		accepted++
		if s.verify(rules, d, r.ID+1, j.RunnerName) == nil || s.verify(rules, d, r.ID, j.RunnerName+"0") == nil {
			t.Errorf("run %d: another's file was accepted", r.ID)
		}
		for other, of := range s.bundles {
			if other != "kettle-"+prefix {
				if s.verify(rules, of, r.ID, j.RunnerName) == nil {
					t.Errorf("run %d: accepted by the bundle of another environment", r.ID)
				}
				break
			}
		}
	}
	if accepted != len(s.bundles) {
		t.Errorf("%d of %d bundles belong to a run that is known", accepted, len(s.bundles))
	}
	if accepted == 0 {
		t.Error("nothing was attested at all")
	}
	t.Logf("attested and accepted: %d; registrations %d, acquired %d, refused %d, lost %d",
		accepted, books.Registrations, books.Acquired, books.Refused, books.Lost)
}

func (s *soak) count(what string) { s.mu.Lock(); defer s.mu.Unlock(); s.ends[what]++ }

// verify asks the real verifier whether this run on this runner made the file that its workflow makes.
func (s *soak) verify(rules *policy.Policy, d []byte, run int64, runnerName string) error {
	file, err := bundle.ReadFile(bytes.NewReader(d))
	if err != nil {
		return err
	}
	roots, err := attest.Roots(s.simulator.RootsPEM())
	if err != nil {
		return err
	}
	_, _, err = attest.Verify(s.t.Context(), attest.Request{
		Artifact: attest.Artifact{Name: "out.txt", Digest: binding.Sum(fmt.Appendf(nil, "%d %s\n", run, runnerName))},
		Files:    []*bundle.File{file}, Policy: rules, Roots: roots, Trust: s.world.trust(s.t),
	})
	return err
}

// load is what this process holds.
type load struct{ goroutines, files int }

func measure() load {
	fds, _ := os.ReadDir("/proc/self/fd")
	return load{runtime.NumGoroutine(), len(fds)}
}

// grown compares what this process holds with what it held when a quarter of the jobs had begun. Then as many environments
// as there are workers were alive; now none is.
func (s *soak) grown(before load) {
	s.world.client.Close()
	deadline := time.Now().Add(40 * time.Second) // connections of the dead are noticed by and by
	for {
		now := measure()
		if now.goroutines <= before.goroutines && now.files <= before.files {
			s.t.Logf("held: %+v with %d alive, %+v at the end", before, *workers, now)
			return
		}
		if time.Now().After(deadline) {
			s.t.Errorf("grown from %+v to %+v", before, now)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *soak) report() {
	s.t.Logf("endings: %v; how the launcher saw them: %v", s.ends, s.hows)
	for _, name := range []string{"register", "T0", "teardown"} {
		all := slices.Sorted(slices.Values(s.spans[name]))
		if len(all) > 0 {
			s.t.Logf("%s: %d, median %s, p99 %s", name, len(all), all[len(all)/2].Round(time.Millisecond), all[len(all)*99/100].Round(time.Millisecond))
		}
	}
}
