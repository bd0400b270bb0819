// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/job/pinned"
)

// hangUp stands for no answer in a list of statuses.
const hangUp = 0

// TestRemoveInTheEnd answers with one status after the other, and with the last one for ever.
func TestRemoveInTheEnd(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answers []int
		asked   int
		want    error
	}{
		"busy, busy, gone":          {[]int{422, 422, 204}, 3, nil},
		"busy, then unknown":        {[]int{422, 404}, 2, nil},
		"busy, then forbidden":      {[]int{422, 403}, 2, ErrForbidden},
		"busy for ever":             {[]int{422}, 8, ErrBusy}, // at 0, 1, 3, 7, 12, 17, 22 and 27 seconds
		"unavailable, gone":         {[]int{503, 204}, 2, nil},
		"bad gateway, gone":         {[]int{502, 204}, 2, nil},
		"timeout, gone":             {[]int{504, 204}, 2, nil},
		"no answer, gone":           {[]int{hangUp, 204}, 2, nil},
		"removed without an answer": {[]int{hangUp, 404}, 2, nil},
		"unavailable, busy, gone":   {[]int{503, 422, 503, 204}, 4, nil},
		"unavailable for ever":      {[]int{503}, tries, ErrRemote},
		"no answer ever":            {[]int{hangUp}, tries, ErrRemote},
		"broken":                    {[]int{500}, 1, ErrRemote},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := 0
			srv := fake{"DELETE " + runnersPath + "/42": func(w http.ResponseWriter, r *http.Request) {
				status := tc.answers[min(asked, len(tc.answers)-1)]
				asked++
				if status == hangUp {
					panic(http.ErrAbortHandler)
				}
				answer(status, map[string]any{"message": "m"})(w, r)
			}}.serve(t)
			err := client(t, srv, nil).Remove(t.Context(), runner.Registration{ID: 42})
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if asked != tc.asked {
				t.Errorf("asked %d times, want %d", asked, tc.asked)
			}
		})
	}
}

// TestRemoveEndsWithItsContext is interrupted while it waits for a busy runner, whose state its error must tell.
func TestRemoveEndsWithItsContext(t *testing.T) {
	t.Parallel()
	srv := fake{"DELETE " + runnersPath + "/42": answer(422, map[string]any{"message": "busy"})}.serve(t)
	cl := client(t, srv, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cl.clock.sleep = func(ctx context.Context, d time.Duration) error {
		cancel()
		return sleep(ctx, d)
	}
	if err := cl.Remove(ctx, runner.Registration{ID: 42}); !errors.Is(err, ErrBusy) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestRefusedHostIsNotRetried counts the tries of a request that must not leave.
func TestRefusedHostIsNotRetried(t *testing.T) {
	t.Parallel()
	base, err := pinned.Client(pinned.Config{Hosts: pinned.Hosts{"api.example"}})
	if err != nil {
		t.Fatal(err)
	}
	slept := 0
	rt := &bearer{token: secret.New("t"), next: &retry{next: base.Transport, sleep: func(context.Context, time.Duration) error { slept++; return nil }}}
	for _, raw := range []string{"https://evil.test/", "http://api.example/"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, raw, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s was asked", raw)
		}
	}
	if slept != 0 {
		t.Errorf("tried again %d times", slept)
	}
}
