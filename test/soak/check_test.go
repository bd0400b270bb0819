// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/runner"
)

// ended is an environment that has come to its end.
type ended struct {
	turn    turn
	prefix  string
	record  *dispatch.Record  // nil when its launcher wrote none
	entries []runner.Entry    // of its journal
	files   map[string][]byte // of its record, as the sink has them
	log     string
}

// state is the one that it ended in, whatever was left to be tidied up.
func (e ended) state() string {
	end := "none"
	for _, entry := range e.entries {
		if entry.State.Ended() && entry.State != runner.Removed {
			end = string(entry.State)
		}
	}
	return end
}

// how is the launcher's word for its end.
func (e ended) how() string {
	if e.record == nil {
		return "none"
	}
	return string(e.record.How)
}

// asMeant reports whether it ended as its plan says, in the environment's words or in the launcher's.
func (e ended) asMeant() bool {
	want := strings.Fields(e.turn.plan.ends)
	return slices.Contains(want, e.state()) || slices.Contains(want, e.how())
}

// collect finds what a process has left behind.
func (s *soak) collect(j turn, prefix, dir string, record *dispatch.Record) ended {
	e := ended{turn: j, prefix: prefix, record: record, files: s.world.records.take(strconv.Itoa(j.n))}
	if f, err := os.Open(filepath.Join(dir, "guest-journal.jsonl")); err == nil {
		defer f.Close()
		if e.entries, err = runner.ReadJournal(f); err != nil {
			s.t.Errorf("environment %d, %s: its journal: %v", j.n, j.plan, err)
		}
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log"))
	e.log = lastLines(string(log), 3)
	return e
}

// note keeps the account of an environment.
func (s *soak) note(e ended) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.prefix[e.prefix] {
		s.t.Errorf("environment %s was used again", e.prefix)
	}
	s.prefix[e.prefix] = true
	if e.record != nil {
		s.hows[e.record.How]++
	}
	s.ends[e.state()]++
	if s.strict && !e.asMeant() {
		s.t.Errorf("%s: it ended %s (%s), want %s", e.turn.plan, e.state(), e.how(), e.turn.plan.ends)
	}
	s.span("register", e.entries, runner.Registering, runner.Listening)
	s.span("T0", e.entries, runner.Claimed, runner.Running)
	s.span("teardown", e.entries, runner.Finished, runner.Removed)
	if b := e.files["response-1.intoto.jsonl"]; b != nil {
		s.bundles[e.prefix] = b
	}
	if testing.Verbose() && e.log != "" {
		outcome := ""
		if e.record != nil {
			outcome = e.record.Outcome
		}
		s.t.Logf("%d %s: %s: %s\n%s", e.turn.n, e.turn.plan, e.state(), outcome, e.log)
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
	rules, err := policy.Parse(fmt.Appendf(nil, consumerPolicy, hex.EncodeToString(s.measurement[:]), s.world.server))
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
	if accepted == 0 && s.ends["finished"] > 0 {
		t.Error("nothing was attested at all")
	}
	t.Logf("left at GitHub: %d; taken twice: %d; attested and accepted: %d; registrations %d, acquired %d, refused %d, lost %d",
		len(books.Registered), len(books.TakenTwice), accepted, books.Registrations, books.Acquired, books.Refused, books.Lost)
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

func loaded() load {
	fds, _ := os.ReadDir("/proc/self/fd")
	return load{runtime.NumGoroutine(), len(fds)}
}

// grown compares what this process holds with what it held when a quarter of the jobs had begun. Then as many environments
// as there are workers were alive; now none is.
func (s *soak) grown(before load) {
	s.world.client.Close()
	deadline := time.Now().Add(40 * time.Second) // connections of the dead are noticed by and by
	for {
		now := loaded()
		if now.goroutines <= before.goroutines && now.files <= before.files {
			s.t.Logf("held: %+v while environments lived, %+v at the end", before, now)
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
