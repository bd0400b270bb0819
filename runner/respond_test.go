// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
)

// overBudget is a refusal as a keeper gives it.
func overBudget() error {
	return (&refusal.Refusal{Link: "outputs", Code: refusal.Policy, Want: "less", Got: "more"}).Because(ErrOverBudget)
}

// parsed finds the one statement of a kind in a bundle file.
func parsed[S any](t *testing.T, file []byte, parse func([]byte) (S, error)) S {
	t.Helper()
	f, err := bundle.ReadFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var found S
	n := 0
	for _, b := range f.Bundles {
		if s, err := parse(b.Payload()); err == nil {
			found = s
			n++
		}
	}
	if n != 1 {
		t.Fatalf("%d statements of the kind, want 1", n)
	}
	return found
}

// TestHowOutputsAreHeld: a snapshot is hashed while the job runs, anything else while it stands still; the provenance
// says which, and no more than FINAL is said of the pinned hosts.
func TestHowOutputsAreHeld(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		world func(*world)
		how   statement.Outputs
		holds int // freezes after dispatch
	}{
		"snapshot":            {func(*world) {}, statement.OutputsSnapshot, 2},
		"no snapshot":         {func(w *world) { w.noSnapshot = true }, statement.OutputsFrozen, 1},
		"disk cannot settle":  {func(w *world) { w.settleErr = errors.New("boom") }, statement.OutputsSnapshot, 2},
		"neither of the both": {func(w *world) { w.noSnapshot, w.settleErr = true, errors.New("boom") }, statement.OutputsFrozen, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tc.world(w)
			a := w.agent(nil)
			wait := run(t.Context(), a)
			if err := a.Started(t.Context(), Claims{}); err != nil {
				t.Fatal(err)
			}
			before := w.saw("freeze")
			resp, err := a.Attest(t.Context(), Outputs{Paths: []string{"a"}})
			if err != nil {
				t.Fatal(err)
			}
			w.exited <- 0
			if err := wait(); err != nil {
				t.Fatal(err)
			}
			if got := w.saw("freeze") - before; got != tc.holds || w.saw("release") != 1 {
				t.Errorf("froze %d times, released %d times", got, w.saw("release"))
			}
			k := parsed(t, resp.Bundle, statement.ParseProvenance).Internal.Kettle
			if k.Outputs != tc.how {
				t.Errorf("outputs %q, want %q", k.Outputs, tc.how)
			}
			want := statement.Egress{Mode: statement.EgressAllow, Refused: 3, Flows: []statement.Flow{w.Flows()[1]}}
			if k.Egress.Mode != want.Mode || k.Egress.Refused != want.Refused || !slices.Equal(k.Egress.Flows, want.Flows) {
				t.Errorf("egress %+v, want %+v", k.Egress, want)
			}
		})
	}
}

// TestAfterTheEnd: what cannot be hashed while the job stands still is refused, and attested for the record when the
// job is dead.
func TestAfterTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.noSnapshot, w.hashErr = true, overBudget()
	a := w.agent(nil)
	wait := run(t.Context(), a)
	if err := a.Started(t.Context(), Claims{}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Attest(t.Context(), Outputs{Paths: []string{"huge"}}); !errors.Is(err, refusal.ErrPolicy) || !errors.Is(err, ErrOverBudget) {
		t.Errorf("answered with %v", err)
	}
	w.exited <- 0
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	p := parsed(t, w.files["response-1.intoto.jsonl"], statement.ParseProvenance)
	if p.Internal.Kettle.Outputs != statement.OutputsEnded || p.Subjects[0].Name != "huge" {
		t.Errorf("outputs %q of %q", p.Internal.Kettle.Outputs, p.Subjects[0].Name)
	}
	if got := verified(t, w.files["response-1.intoto.jsonl"])[binding.Response]; got.Sequence != 1 {
		t.Errorf("sequence %d", got.Sequence)
	}
	c := parsed(t, w.files["final.intoto.jsonl"], statement.ParseFinal).Conditions
	if c.Responses != 1 || c.Killed == nil || c.Killed.Count != 1 || c.Disk == nil || c.Disk.List != binding.Sum(w.files["changes.jsonl"]) {
		t.Errorf("final conditions %+v", c)
	}
	if !slices.Equal(c.Egress, w.Flows()) {
		t.Errorf("flows %+v", c.Egress)
	}
}

// TestUnknownDisk: who cannot look at the disk says nothing about it, and the record is delivered all the same.
func TestUnknownDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.diskErr = errors.New("boom")
	a := w.agent(nil)
	wait := run(t.Context(), a)
	if err := a.Started(t.Context(), Claims{}); err != nil {
		t.Fatal(err)
	}
	w.exited <- 0
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	if c := parsed(t, w.files["final.intoto.jsonl"], statement.ParseFinal).Conditions; c.Disk != nil {
		t.Errorf("disk %+v", c.Disk)
	}
	if slices.Contains(w.names(), "changes.jsonl") {
		t.Error("a list that nobody made")
	}
}
