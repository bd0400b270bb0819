// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// slowAPI answers a question for a commit after a second, or when its context ends.
type slowAPI struct {
	API
	asked, now, most atomic.Int64
}

func (a *slowAPI) ResolveRef(ctx context.Context, _, ref string) (string, error) {
	a.asked.Add(1)
	n := a.now.Add(1)
	defer a.now.Add(-1)
	for most := a.most.Load(); n > most && !a.most.CompareAndSwap(most, n); most = a.most.Load() {
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(time.Second):
	}
	if ref == "gone" {
		return "", errors.New("not found")
	}
	return fmt.Sprintf("%040x", len(ref)), nil
}

// withActions are the sources of a job with n different actions, each used twice.
func withActions(n int) *sources {
	s := &sources{message: new(Message)}
	for range 2 {
		for k := range n {
			s.message.Steps = append(s.message.Steps, Step{Action: &ActionRef{Repository: fmt.Sprintf("acme/a%d", k), Ref: "v1"}})
		}
	}
	return s
}

func TestResolvingIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, start := new(slowAPI), time.Now()
		s := withActions(maxActions)
		if err := (&Identifier{config: Config{API: api}}).resolveActions(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if api.asked.Load() != maxActions || api.most.Load() != maxAsking || time.Since(start) != maxActions/maxAsking*time.Second {
			t.Errorf("%d questions, %d at a time, in %s", api.asked.Load(), api.most.Load(), time.Since(start))
		}
		for k, a := range s.actions {
			if a.repository != fmt.Sprintf("acme/a%d", k) || a.digest["gitCommit"] == "" {
				t.Fatalf("action %d is %+v", k, a)
			}
		}
	})
}

func TestTooManyActions(t *testing.T) {
	t.Parallel()
	api := new(slowAPI)
	err := (&Identifier{config: Config{API: api}}).resolveActions(t.Context(), withActions(maxActions+1))
	if !errors.Is(err, refusal.ErrPolicy) || api.asked.Load() != 0 {
		t.Fatalf("got %v after %d questions", err, api.asked.Load())
	}
}

// TestResolvingStops: a deadline is no verdict, and neither it nor a missing action waits for the other questions.
func TestResolvingStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, start := new(slowAPI), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		s := withActions(maxActions)
		err := (&Identifier{config: Config{API: api}}).resolveActions(ctx, s)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, refusal.ErrNotVerified) || s.actions != nil {
			t.Errorf("got %v", err)
		}
		if took := time.Since(start); took != 1500*time.Millisecond || api.asked.Load() > 3*maxAsking {
			t.Errorf("took %s and %d questions", took, api.asked.Load())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		api, start := new(slowAPI), time.Now()
		s := withActions(maxActions)
		s.message.Steps[0].Action.Ref, s.message.Steps[maxActions].Action.Ref = "gone", "gone"
		err := (&Identifier{config: Config{API: api}}).resolveActions(t.Context(), s)
		if !errors.Is(err, refusal.ErrMissing) || time.Since(start) > 2*time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}
