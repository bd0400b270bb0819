// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"errors"
	"slices"
	"testing"
)

var (
	allStates = []State{Boot, Registering, Listening, Claimed, Running, Responding, Finished, Failed, Cancelled, Ghost, IdleExpired, Removed}
	allEvents = []Event{
		OnBoot, OnConnect, OnHook, OnBind, OnAsk, OnAnswer, OnSuccess, OnCancel, OnLoss, OnExpiry, OnDrain, OnFault, OnRemove,
	}
)

// TestTransitions looks at every state and every event: what is not written here a second time is refused.
func TestTransitions(t *testing.T) {
	t.Parallel()
	type step struct {
		from State
		on   Event
	}
	want := map[step]State{
		{Boot, OnBoot}: Registering, {Registering, OnConnect}: Listening, {Listening, OnHook}: Claimed, {Claimed, OnBind}: Running,
		{Running, OnAsk}: Responding, {Responding, OnAnswer}: Running,
		{Running, OnSuccess}: Finished, {Running, OnCancel}: Cancelled, {Running, OnDrain}: Cancelled,
		{Registering, OnLoss}: Ghost, {Listening, OnLoss}: Ghost,
		{Registering, OnDrain}: IdleExpired, {Listening, OnDrain}: IdleExpired, {Listening, OnExpiry}: IdleExpired,
	}
	for _, s := range allStates[:6] {
		want[step{s, OnFault}] = Failed
	}
	for _, s := range allStates[6:11] {
		want[step{s, OnRemove}] = Removed
	}
	for _, s := range append(allStates, "", "off") {
		for _, e := range append(allEvents, "", onExit) {
			got, err := s.After(e)
			if next := want[step{s, e}]; got != next || (err == nil) != (next != "") {
				t.Errorf("%s on %s: got %q, %v; want %q", s, e, got, err, next)
			}
			if te := (*TransitionError)(nil); err != nil && !errors.As(err, &te) {
				t.Errorf("%s on %s: %T", s, e, err)
			}
		}
	}
	if got := len(Transitions()); got != len(want) {
		t.Errorf("%d transitions, want %d", got, len(want))
	}
}

// TestEveryPath walks every path through the machine: each ends in removed, claims at most one job, and job code runs only
// after a claim.
func TestEveryPath(t *testing.T) {
	t.Parallel()
	paths := 0
	var walk func(path []State)
	walk = func(path []State) {
		now := path[len(path)-1]
		ends := true
		for _, tr := range Transitions() {
			if tr.From != now {
				continue
			}
			ends = false
			if now == Responding && tr.To == Running && count(path, Responding) > 2 {
				continue // the one loop, walked twice
			}
			walk(append(slices.Clone(path), tr.To))
		}
		if !ends {
			return
		}
		paths++
		if now != Removed || count(path, Claimed) > 1 || count(path, Registering) > 1 || count(path, Listening) > 1 {
			t.Errorf("path %v", path)
		}
		if run := slices.Index(path, Running); run >= 0 && (slices.Index(path, Claimed) < 0 || slices.Index(path, Claimed) > run) {
			t.Errorf("job code runs without a claim: %v", path)
		}
		if !path[len(path)-2].Ended() || !now.Ended() || path[len(path)-3].Ended() {
			t.Errorf("the wrong states are endings: %v", path)
		}
	}
	walk([]State{Boot})
	if paths < 20 {
		t.Errorf("only %d paths", paths)
	}
}

func count(path []State, s State) (n int) {
	for _, p := range path {
		if p == s {
			n++
		}
	}
	return n
}
