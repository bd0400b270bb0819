// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/statement"
)

// TestAdmission: an environment asks when BOOT is quoted and before anything is asked of GitHub; what it was given travels
// with every response and stays in the record.
func TestAdmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := ports(w, w)
	p.Admission = w
	a, err := New(w.agent(nil).config, p)
	if err != nil {
		t.Fatal(err)
	}
	wait := run(t.Context(), a)
	if err := a.Started(t.Context(), Claims{}); err != nil {
		t.Fatal(err)
	}
	response, err := a.Attest(t.Context(), Outputs{Paths: []string{"a.tar.gz"}})
	if err != nil {
		t.Fatal(err)
	}
	w.exited <- 0
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	events := slices.DeleteFunc(w.events, func(e string) bool { return e == "state boot" })
	if !slices.Equal(events[:4], []string{"verify image", "admit", "state registering", "register"}) {
		t.Errorf("events %q", w.events)
	}
	for name, file := range map[string][]byte{"the bundle": response.Bundle, "the record": w.files["boot.intoto.jsonl"]} {
		if !bytes.Contains(file, append(admittedLine(), '\n')) {
			t.Errorf("%s lacks the summary of the admission", name)
		}
	}
}

// TestSelfSummary: the environment says what it found about its own image, signed with its key, in its record.
func TestSelfSummary(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.agent(nil)
	w.startErr = errors.New("boom")
	_ = a.Run(t.Context()) // BOOT is delivered whatever comes after
	file, err := bundle.ReadFile(bytes.NewReader(w.files["boot.intoto.jsonl"]))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range file.Bundles {
		payload, err := b.Verify(file.Evidence[0].Collection.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if kind, _ := statement.Kind(payload); kind != statement.VSAType {
			continue
		}
		v, err := statement.ParseSelfVSA(payload)
		if err != nil {
			t.Fatal(err)
		}
		found = v.EnvironmentKey == a.env.keyID && v.Summary.Has(statement.PropertyRevocationNotChecked) && v.Summary.Has(statement.BuildLevel(3))
	}
	if !found {
		t.Error("the record lacks VSA-SELF")
	}
	log, err := eventlog.Parse(file.Evidence[0].Collection.EventLog)
	if err != nil || log.Events()[0].Type != eventlog.Configuration || log.Events()[0].Digest != a.config.Configuration {
		t.Errorf("the log does not begin with the configuration: %v", err)
	}
}

// TestAttackOtherImage: a machine that runs another image than the one that was signed makes no key and asks GitHub for
// nothing.
func TestAttackOtherImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.imageErr, w.startErr = errors.New("measurement: not among the signed values"), errors.New("went on")
	a := w.agent(nil)
	if err := a.Run(t.Context()); !errors.Is(err, w.imageErr) {
		t.Errorf("got %v", err)
	}
	if a.env != nil || !w.register.IsZero() || len(w.quotes) != 1 || w.saw("register") > 0 || w.saw("start") > 0 {
		t.Errorf("environment %v, %d quotes, events %q", a.env, len(w.quotes), w.events)
	}
}

// TestAttackNotAdmitted: an environment that nobody admits asks GitHub for nothing.
func TestAttackNotAdmitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.admitErr, w.startErr = errors.New("revoked"), errors.New("went on")
	p := ports(w, w)
	p.Admission = w
	a, err := New(w.agent(nil).config, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); !errors.Is(err, w.admitErr) {
		t.Errorf("got %v", err)
	}
	if w.saw("register") > 0 || w.saw("start") > 0 || a.env.key != nil {
		t.Errorf("events %q, key kept %v", w.events, a.env.key != nil)
	}
}
