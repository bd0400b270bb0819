// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestVigil: every wait for a job has its own end, at its own time. The times of the configuration: listen 2 min, ghost 1 min,
// idle 10 min, drain 30 min, job 1 h.
func TestVigil(t *testing.T) {
	t.Parallel()
	down := errors.New("503")
	tests := map[string]struct {
		sight  Sight // from the beginning
		meddle func(w *world, a *Agent)
		after  time.Duration // of meddling; 0 is at once
		listen time.Duration // if not 2 min
		end    State
		least  time.Duration // until the end
		most   time.Duration
		reason string
		alarm  Alarm
	}{
		"never connected": {sight: SightOffline, end: Failed, least: 2 * time.Minute, most: 2*time.Minute + time.Second, reason: "did not show"},
		"never connected, GitHub down": {
			sight: SightOffline, meddle: func(w *world, _ *Agent) { w.change(func() { w.sightErr = down }) },
			end: Failed, least: 2 * time.Minute, most: 2*time.Minute + time.Second, alarm: AlarmGitHub,
		},
		"never a job":       {sight: SightIdle, end: IdleExpired, least: 10 * time.Minute, most: 10*time.Minute + 10*time.Second, reason: "none came"},
		"busy, and no hook": {sight: SightBusy, end: Failed, least: 2 * time.Minute, most: 2*time.Minute + 10*time.Second, reason: "silent"},
		"gone":              {sight: SightGone, end: Ghost, least: time.Minute, most: time.Minute + 10*time.Second, reason: "not known"},
		"gone for a while": {
			sight: SightGone, meddle: func(w *world, _ *Agent) { w.see(SightIdle) }, after: 30 * time.Second,
			end: IdleExpired, least: 10 * time.Minute, most: 11 * time.Minute,
		},
		"gone, and not deleted": { // GitHub lists nothing and refuses to let it go: it has a job
			sight: SightGone, meddle: func(w *world, _ *Agent) { w.fail(&w.removeErrs, ErrBusy, 13) },
			end: Failed, least: 3 * time.Minute, most: 3*time.Minute + 20*time.Second, reason: "silent",
		},
		"drained": {sight: SightIdle, meddle: func(_ *world, a *Agent) { a.Drain() }, after: time.Minute, end: IdleExpired, least: time.Minute, most: time.Minute + time.Second, reason: "asked to end"},
		"drained while busy for GitHub, idle to see": {
			sight: SightIdle, meddle: func(w *world, a *Agent) { w.fail(&w.removeErrs, ErrBusy, 9); a.Drain() }, after: time.Minute,
			end: Failed, least: 3 * time.Minute, most: 3*time.Minute + 20*time.Second, reason: "silent",
		},
		"drained while GitHub is down": {
			sight: SightIdle, meddle: func(w *world, a *Agent) { w.fail(&w.removeErrs, down, 12); a.Drain() }, after: time.Minute,
			end: Failed, least: 3 * time.Minute, most: 4 * time.Minute, reason: "does not say",
		},
		"busy for long, then one answer that is none": {
			sight: SightIdle, meddle: func(w *world, a *Agent) {
				w.fail(&w.removeErrs, ErrBusy, 9)
				w.fail(&w.removeErrs, down, 1)
				a.Drain()
			}, after: time.Minute, listen: 10 * time.Minute,
			end: IdleExpired, least: 3 * time.Minute, most: 4 * time.Minute, reason: "asked to end",
		},
		"version refused": {sight: SightIdle, meddle: func(w *world, _ *Agent) { w.exited <- 7 }, after: time.Minute, end: Failed, least: time.Minute, most: time.Minute + time.Second, alarm: "runner-outdated"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.see(tc.sight)
				a := w.agent(func(c *Config) { c.Listen = cmp.Or(tc.listen, c.Listen) })
				begin := time.Now()
				wait := run(t.Context(), a)
				time.Sleep(tc.after)
				synctest.Wait()
				if tc.meddle != nil {
					tc.meddle(w, a)
				}
				err := wait()
				took := w.ended.Sub(begin)
				if w.saw("state "+string(tc.end)) != 1 || took < tc.least || took > tc.most {
					t.Errorf("%q after %s, want %s after %s to %s: %v", w.events, took, tc.end, tc.least, tc.most, err)
				}
				if !strings.Contains(w.journal.String(), tc.reason) {
					t.Errorf("the journal does not say %q:\n%s", tc.reason, w.journal.String())
				}
				if alarms := a.Status().Alarms; tc.alarm != "" && !slices.Contains(alarms, tc.alarm) || tc.alarm == "" && len(alarms) > 0 {
					t.Errorf("alarms %q, want %q", alarms, tc.alarm)
				}
			})
		})
	}
}

// TestDrainRunning: a job has its time to end, and no more.
func TestDrainRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.agent(nil)
		wait := run(t.Context(), a)
		if err := a.Started(t.Context(), Claims{}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		a.Drain()
		_ = wait()
		if took := w.ended.Sub(begin); w.saw("state cancelled") != 1 || took != 30*time.Minute {
			t.Errorf("%q after %s", w.events, took)
		}
	})
}

// TestRefusedKeepsNoKey: when a refused hook is answered, and the sandbox runs on for its last words, there is no key.
func TestRefusedKeepsNoKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.allowErr = policyRefusal()
		a := w.agent(nil)
		wait := run(t.Context(), a)
		if err := a.Started(t.Context(), Claims{}); err == nil {
			t.Fatal("a denied job was accepted")
		}
		synctest.Wait()
		if a.env.key != nil {
			t.Error("the environment key lives beside a sandbox that runs")
		}
		_ = wait()
	})
}

// TestRefusedAndOutdated: a runner program that GitHub refuses raises its alarm, also while its job shows why it was refused.
func TestRefusedAndOutdated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.allowErr = policyRefusal()
		a := w.agent(nil)
		wait := run(t.Context(), a)
		if err := a.Started(t.Context(), Claims{}); err == nil {
			t.Error("it was not refused")
		}
		w.exited <- 7
		_ = wait()
		if alarms := a.Status().Alarms; !slices.Contains(alarms, "runner-outdated") || w.saw("state failed") != 1 {
			t.Errorf("alarms %q, %q", alarms, w.events)
		}
	})
}

// TestSpoiledBeforeTheClaim: who spoke before the hook ends it, and nothing is asked or quoted for its job.
func TestSpoiledBeforeTheClaim(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.agent(nil)
	a.Spoil(errors.New("rubbish"))
	wait := run(t.Context(), a)
	_ = a.Started(t.Context(), Claims{})
	if err := wait(); !errors.Is(err, ErrNotDispatched) || w.saw("identify") > 0 || len(w.quotes) > 2 {
		t.Errorf("%v: %q", err, w.events)
	}
}

// TestAlarmOnce: an alarm that is raised again is one alarm.
func TestAlarmOnce(t *testing.T) {
	t.Parallel()
	a := newWorld(t).agent(nil)
	a.Raise(t.Context(), AlarmSink)
	a.Raise(t.Context(), AlarmSink)
	if got := a.Status().Alarms; len(got) != 1 {
		t.Errorf("alarms %q", got)
	}
}
