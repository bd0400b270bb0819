// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/kettle/attest/runner"
)

// setsDouble are scale sets in memory. Each call takes the next fault; nil is none.
type setsDouble struct {
	names  []string
	faults []error
	early  bool // one was deleted before its runners
	r      *registry
}

func (s *setsDouble) Discard(_ context.Context, name string) error {
	if len(s.faults) > 0 {
		err := s.faults[0]
		if s.faults = s.faults[1:]; err != nil {
			return err
		}
	}
	s.early = s.early || slices.ContainsFunc(s.r.names(), func(runner string) bool { return owned(name, runner) })
	s.names = slices.DeleteFunc(s.names, func(one string) bool { return one == name })
	return nil
}

// TestScaleSets: the scale set of a dead VM goes after its runners, whatever GitHub does, and nobody else's.
func TestScaleSets(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		faults []error
		left   bool
	}{
		"none":        {},
		"down":        {faults: repeat(errors.New("502"), 3)},
		"without end": {faults: repeat(errors.New("502"), 1000), left: true},
		"denied":      {faults: repeat(runner.ErrDenied, 1000), left: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, state := newRegistry(), t.TempDir()
				f := leave(t, state, r)
				sets := &setsDouble{names: []string{"kettle-ffffffffffffffff", f.Prefix()}, faults: tc.faults, r: r}
				reaper := &Reaper{Registry: r, Sets: sets, Target: target(), Limits: DefaultLimits()}
				got, err := reaper.Recover(t.Context(), state)
				if err != nil || (len(got.Left) == 1) != tc.left || (len(got.Reaped) == 1) == tc.left || tc.left && !errors.Is(got.Err(), ErrLeft) {
					t.Fatalf("got %+v, %v", got, err)
				}
				if sets.early {
					t.Error("a scale set went before its runners")
				}
				if sets.faults = nil; tc.left {
					if got, err = reaper.Recover(t.Context(), state); err != nil || len(got.Reaped) != 1 {
						t.Fatalf("afterwards %+v, %v", got, err)
					}
				}
				if !slices.Equal(sets.names, []string{"kettle-ffffffffffffffff"}) {
					t.Errorf("left: %q", sets.names)
				}
				r.untouched(t)
			})
		})
	}
}
