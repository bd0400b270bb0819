// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

func exposition(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

const where = `{enterprise="",organization="acme",repository="widget"}`

// TestMetrics goes through a life and looks at each moment.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		want := func(values map[string]string) {
			t.Helper()
			synctest.Wait()
			for name, value := range values {
				if got := series(t, b.reaper.Metrics, name+" "); got != value {
					t.Errorf("%s is %q, want %q", name, got, value)
				}
			}
		}
		_, err := b.run(func(g *guest) {
			want(map[string]string{"gha_registered_runners" + where: "0", "gha_completed_jobs_total" + label("job_result", "failed"): "0"})
			g.hello()
			named := &runner.Named{ID: b.registry.register(g.prefix + "-a"), Name: g.prefix + "-a"}
			for _, s := range []runner.State{runner.Boot, runner.Registering, runner.Listening} {
				time.Sleep(3 * time.Second)
				g.enter(s, named)
			}
			want(map[string]string{
				"gha_registered_runners" + where: "1", "gha_idle_runners" + where: "1", "gha_busy_runners" + where: "0",
				"kettle_environment_state" + tail("state", "listening"): "1", "kettle_environment_state" + tail("state", "boot"): "0",
				"kettle_transition_seconds_sum" + tail("state", "listening"): "9", "kettle_state_duration_seconds_sum" + tail("state", "boot"): "3",
			})
			g.enter(runner.Claimed, nil)
			want(map[string]string{"gha_started_jobs_total" + where: "1", "gha_busy_runners" + where: "1", "gha_running_jobs" + where: "0"})
			time.Sleep(2 * time.Second)
			g.enter(runner.Running, nil)
			want(map[string]string{"gha_running_jobs" + where: "1", "gha_job_startup_duration_seconds_sum" + where: "2"})
			time.Sleep(time.Minute)
			g.enter(runner.Responding, nil)
			g.enter(runner.Running, nil)
			g.say(channel.Status{State: "running", Alarms: []channel.Alarm{channel.SinkDown}})
			want(map[string]string{`kettle_alarm{alarm="sink-down",enterprise="",organization="acme",repository="widget"}`: "1"})
			g.enter(runner.Finished, nil)
			want(map[string]string{
				"gha_completed_jobs_total" + label("job_result", "succeeded"):               "1",
				"gha_job_execution_duration_seconds_sum" + label("job_result", "succeeded"): "60", "gha_busy_runners" + where: "0",
			})
			b.machine.powerOff()
		})
		if err != nil {
			t.Fatal(err)
		}
		want(map[string]string{
			"gha_registered_runners" + where: "0", "gha_completed_jobs_total" + label("job_result", "abandoned"): "0",
			"kettle_reaped_runners_total" + where: "1", "kettle_reaped_environments_total" + where: "1",
			"kettle_unreaped_environments" + where: "0", `kettle_vm_endings_total{enterprise="",how="died",organization="acme",repository="widget"}`: "1",
		})
		path := filepath.Join(t.TempDir(), "kettle.prom")
		if err := b.reaper.Metrics.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "kettle_reaped_runners_total"+where+" 1\n") {
			t.Errorf("the file says %s, %v", text, err)
		}
	})
}

func label(name, value string) string {
	return `{enterprise="",` + name + `="` + value + `",organization="acme",repository="widget"}`
}

func tail(name, value string) string {
	return `{enterprise="",organization="acme",repository="widget",` + name + `="` + value + `"}`
}

// TestJobOfADeadVM: a job whose VM dies is counted as abandoned.
func TestJobOfADeadVM(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if _, err := b.run(func(g *guest) { g.hello(); g.live(b.registry, 5); b.machine.powerOff() }); err != nil {
			t.Error(err)
		}
		if got := series(t, b.reaper.Metrics, "gha_completed_jobs_total"+label("job_result", "abandoned")+" "); got != "1" {
			t.Errorf("got %q", got)
		}
	})
}

// TestAttackLabels: a guest that makes up states and alarms makes no series.
func TestAttackLabels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		before := count(exposition(t, b.reaper.Metrics))
		_, err := b.run(func(g *guest) {
			g.hello()
			for i := range 100 {
				word := strings.Repeat("x", i%60+1)
				g.say(channel.Status{State: word, Alarms: []channel.Alarm{channel.Alarm(word)}})
				g.enter(runner.State("Owned\x1b"+word), nil)
			}
			synctest.Wait()
			if after := count(exposition(t, b.reaper.Metrics)); after != before {
				t.Errorf("%d series, before %d", after, before)
			}
			if got := series(t, b.reaper.Metrics, "kettle_environment_state"+tail("state", "other")+" "); got != "1" {
				t.Errorf("other is %q", got)
			}
			b.machine.powerOff()
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// count gives the number of series but those of the process itself.
func count(text string) int {
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "gha_") || strings.HasPrefix(line, "kettle_") {
			n++
		}
	}
	return n
}

// TestNoMetrics: nothing needs them.
func TestNoMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.reaper.Metrics = nil
		b.registry.faults = []error{runner.ErrBusy}
		if _, err := b.run(func(g *guest) { g.hello(); g.live(b.registry, 5); b.machine.powerOff() }); err != nil {
			t.Error(err)
		}
		b.registry.untouched(t)
	})
}
