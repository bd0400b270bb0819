// SPDX-License-Identifier: Apache-2.0

//go:build nightly

package boot_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kettle/attest/runner/channel"
)

// nightly says that everything is run: go test -tags nightly. It adds what stops at a check that some other test of this package
// stops at too, and what is done to the job's disk besides reading it.
const nightly = true

// TestAttackSpoilScratch changes one bit in each block of the job's disk while the job reads it.
func TestAttackSpoilScratch(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	path := m.withScratch(t)
	m.heard = func(_ *channel.Launcher, message channel.Message) {
		if phase, ok := message.(channel.Phase); ok && phase.Name == "written" {
			_, offsets := written(t, path)
			for _, at := range offsets {
				flip(t, path, at+7)
			}
			goOn(t, path, phase.Name)
		}
	}
	messages, _, _ := m.run(t, "spoiled")
	if got := outcome(messages); !strings.HasPrefix(got, "refused: ") {
		t.Errorf("got %s", got)
	} else {
		t.Log(got)
	}
}

// TestAttackRollBackScratch puts the whole disk back to an earlier state of the same boot, all of it: data that this machine
// wrote with this key to this place. The tags that would fit it are gone from the machine's memory.
func TestAttackRollBackScratch(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	path, earlier := m.withScratch(t), []byte(nil)
	m.heard = func(_ *channel.Launcher, message channel.Message) {
		phase, ok := message.(channel.Phase)
		switch {
		case ok && phase.Name == "first":
			var err error
			earlier, err = os.ReadFile(path)
			must(t, err)
			goOn(t, path, phase.Name)
		case ok && phase.Name == "second":
			must(t, os.WriteFile(path, earlier, 0o600))
			goOn(t, path, phase.Name)
		}
	}
	messages, _, _ := m.run(t, "rolled")
	if got := outcome(messages); !strings.HasPrefix(got, "refused: ") {
		t.Errorf("got %s", got)
	}
}

// TestScratch makes the job's disk in a machine and uses it to its end.
func TestScratch(t *testing.T) {
	t.Parallel()
	messages, console, _ := newMachine(t).run(t, "scratch")
	wantOnlySentence(t, console, "kettled: the test guest is done; powering off")
	for _, message := range messages {
		if end, ok := message.(channel.End); ok {
			t.Log(end.Outcome)
		}
	}
}
