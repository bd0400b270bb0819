// SPDX-License-Identifier: Apache-2.0

package job

import (
	"errors"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

// TestCredentialOfAnotherRunner: kettled believes to be runner 42, which runs its own job elsewhere, and its Listener holds
// the credential of runner 43. GitHub's facts show that wherever they name the job to the runner; where they do not, the two
// jobs of one run cannot be told apart, and only a registration that kettled made itself rules it out (docs/adr/020).
func TestCredentialOfAnotherRunner(t *testing.T) {
	t.Parallel()
	own := WorkflowJob{ID: 41000000002, RunID: 7000000001, RunAttempt: 1, Status: "in_progress", HeadSHA: sourceSHA, RunnerID: 43, RunnerName: "host-1-3"}
	unnamed := func(w *world) { w.edit(`"k": "check_run_id"`, `"k": "other"`) }
	for name, tc := range map[string]struct {
		change func(*world)
		want   error
	}{
		"of another run": {func(w *world) { w.jobs = [][]WorkflowJob{{own}} }, refusal.ErrIdentity},
		"of one run, named in the job message": {func(w *world) {
			w.withoutToken()
			w.edit("41000000001", "41000000002")
		}, refusal.ErrIdentity},
		"of one run, named in the token": {func(w *world) {
			unnamed(w)
			w.claims["check_run_id"] = own.ID
		}, refusal.ErrIdentity},
		"of one run, named nowhere": {func(w *world) {
			w.withoutToken()
			unnamed(w)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.jobs[0][0] = own
			tc.change(w)
			if _, err := w.identifier(t).Identify(t.Context(), w.question); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}
