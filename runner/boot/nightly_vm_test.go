// SPDX-License-Identifier: Apache-2.0

//go:build nightly

package boot_test

import (
	"strings"
	"testing"

	"github.com/kettle/attest/runner/channel"
)

// nightly says that everything is run: go test -tags nightly. What it adds stops at a check that some other test of this package
// stops at too.
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
