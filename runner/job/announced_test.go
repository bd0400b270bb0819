// SPDX-License-Identifier: Apache-2.0

package job

import (
	"errors"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

// TestAttackAnnouncement compares every fact of a scale set's word with what the other sources say, of a job with a token and
// of one without.
func TestAttackAnnouncement(t *testing.T) {
	t.Parallel()
	const own = "acme/widget/.github/workflows/build.yml@refs/heads/main"
	called := "acme/ci/.github/workflows/reuse.yml@refs/tags/v1"
	good := Announcement{RunnerID: 42, RunnerName: "host-1-2", Repository: "Acme/Widget", RunID: 7000000001, Event: "workflow_dispatch", JobID: "x"}
	for name, tc := range map[string]struct {
		change func(*Announcement)
		want   error
	}{
		"agrees":               {func(*Announcement) {}, nil},
		"other runner":         {func(a *Announcement) { a.RunnerID = 43 }, refusal.ErrIdentity},
		"no runner":            {func(a *Announcement) { a.RunnerID = 0 }, refusal.ErrIdentity},
		"other name":           {func(a *Announcement) { a.RunnerName = "host-1-3" }, refusal.ErrIdentity},
		"other repository":     {func(a *Announcement) { a.Repository = "acme/gadget" }, refusal.ErrIdentity},
		"no repository":        {func(a *Announcement) { a.Repository = "" }, refusal.ErrIdentity},
		"other run":            {func(a *Announcement) { a.RunID = 7 }, refusal.ErrIdentity},
		"other event":          {func(a *Announcement) { a.Event = "push" }, refusal.ErrIdentity},
		"other workflow":       {func(a *Announcement) { a.WorkflowRef = "acme/widget/.github/workflows/x.yml@refs/heads/main" }, refusal.ErrIdentity},
		"workflow, other ref":  {func(a *Announcement) { a.WorkflowRef += "x" }, refusal.ErrIdentity},
		"no workflow":          {func(a *Announcement) { a.WorkflowRef = "" }, refusal.ErrIdentity},
		"nothing was said yet": {nil, refusal.ErrMissing},
	} {
		for what, signed := range map[string]bool{"": true, ", unsigned": false} {
			t.Run(name+what, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				a := good
				if a.WorkflowRef = called; !signed {
					w.withoutToken()
					a.WorkflowRef = own
				}
				if tc.change != nil {
					tc.change(&a)
				}
				asked := 0
				i := w.identifier(t)
				i.config.Announced = func() (Announcement, bool) {
					asked++
					return a, tc.change != nil && asked > 1
				}
				got, err := i.Identify(t.Context(), w.question)
				if !errors.Is(err, tc.want) || (got == nil) != (tc.want != nil) {
					t.Fatalf("got %v", err)
				}
			})
		}
	}
}

// TestAttackAnnouncedCalled is a job of a reusable workflow, without a token.
func TestAttackAnnouncedCalled(t *testing.T) {
	t.Parallel()
	s := &sources{
		run:     &Run{Referenced: []ReferencedWorkflow{{Path: "acme/ci/.github/workflows/a.yml@v1", Ref: "refs/tags/v1"}, {Path: "acme/ci/.github/workflows/b.yml@" + actionSHA}}},
		message: &Message{GitHub: map[string]any{"workflow_ref": "acme/widget/.github/workflows/w.yml@refs/heads/main"}},
	}
	for ref, want := range map[string]bool{
		"acme/ci/.github/workflows/a.yml@refs/tags/v1":        true,
		"acme/ci/.github/workflows/b.yml@" + actionSHA:        true,
		"acme/widget/.github/workflows/w.yml@refs/heads/main": true,
		"acme/ci/.github/workflows/a.yml@":                    false,
		"acme/ci/.github/workflows/b.yml@":                    false,
		"acme/ci/.github/workflows/a.yml@refs/tags/v2":        false,
		"acme/ci/.github/workflows/c.yml@refs/tags/v1":        false,
		"": false,
	} {
		if got := s.defines(ref); got != want {
			t.Errorf("%s: %v", ref, got)
		}
	}
}
