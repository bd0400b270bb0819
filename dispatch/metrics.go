// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
)

// other stands for every word that is not known here, so that no guest can make new series.
const other = "other"

// The results of a job, in the words of actions-runner-controller.
const (
	succeeded = "succeeded"
	failed    = "failed"
	canceled  = "canceled"
	abandoned = "abandoned" // the VM ended before the job
)

// Metrics are the launcher's, for Prometheus. The values of a job are what its VM claims; every label is one of a fixed set
// of words. A nil Metrics counts nothing.
type Metrics struct {
	registry *prometheus.Registry

	registered, busy, idle, running prometheus.Gauge
	started                         prometheus.Counter
	completed                       *prometheus.CounterVec   // by job_result
	startup                         prometheus.Histogram     // claimed → running
	execution                       *prometheus.HistogramVec // by job_result: running → its end
	state                           *prometheus.GaugeVec     // by state: 1 for the one that holds
	stateTime, transition           *prometheus.HistogramVec // by state
	endings                         *prometheus.CounterVec   // by how
	reapedEnvironments, removed     prometheus.Counter
	faults                          *prometheus.CounterVec // by reason
	lastHeard                       prometheus.Gauge
	lines                           prometheus.Counter

	mu        sync.Mutex
	source    func() Status   // mu; nil before a session
	begin     time.Time       // mu; of the VM
	claimed   time.Time       // mu; zero before a job
	ran       time.Time       // mu; zero before its code
	settled   bool            // mu; the job is counted as completed
	unsettled map[string]bool // mu; environments that may have left a runner
}

// states are the values of the label state.
func states() []string {
	var words []string
	for _, t := range runner.Transitions() {
		for _, s := range []runner.State{t.From, t.To} {
			if !slices.Contains(words, string(s)) {
				words = append(words, string(s))
			}
		}
	}
	return append(words, other)
}

// NewMetrics makes the launcher's metrics. The labels repository, organization and enterprise are the operator's own words.
func NewMetrics(t Target) *Metrics {
	labels := prometheus.Labels{"repository": "", "organization": t.Target, "enterprise": ""}
	switch t.Scope {
	case string(github.Repo):
		labels["organization"], labels["repository"], _ = strings.Cut(t.Target, "/")
	case string(github.Enterprise):
		labels["organization"], labels["enterprise"] = "", t.Target
	}
	// What a launcher adds to a job takes fractions of a second to minutes, a job up to hours.
	shortBuckets := []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300}
	longBuckets := []float64{0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600}
	results := []string{succeeded, failed, canceled, abandoned}
	m := &Metrics{registry: prometheus.NewRegistry(), unsettled: map[string]bool{}}
	maker := maker{labels: labels, registry: m.registry}
	m.registered = maker.gauge("gha_registered_runners", "Runners that are registered at GitHub.")
	m.busy = maker.gauge("gha_busy_runners", "Runners that have a job.")
	m.idle = maker.gauge("gha_idle_runners", "Runners that wait for a job.")
	m.running = maker.gauge("gha_running_jobs", "Jobs whose code runs.")
	m.started = maker.counter("gha_started_jobs_total", "Jobs that have taken a runner.")
	m.completed = maker.counters("gha_completed_jobs_total", "Jobs that have ended.", "job_result", results...)
	m.startup = maker.histogram("gha_job_startup_duration_seconds", "From the moment a job has a runner until its code runs.", shortBuckets)
	m.execution = maker.histograms("gha_job_execution_duration_seconds", "From a job's first code to its end.",
		spans{longBuckets, "job_result", results})
	words := states()
	m.state = maker.gauges("kettle_environment_state", "1 for the state that the VM claims to be in.", "state", words...)
	m.stateTime = maker.histograms("kettle_state_duration_seconds", "How long a state lasted.", spans{longBuckets, "state", words})
	m.transition = maker.histograms("kettle_transition_seconds", "From the VM's start until it entered a state.",
		spans{longBuckets, "state", words})
	var hows []string
	for _, h := range Hows() {
		hows = append(hows, string(h))
	}
	m.endings = maker.counters("kettle_vm_endings_total", "VMs that have ended, by how.", "how", hows...)
	m.reapedEnvironments = maker.counter("kettle_reaped_environments_total", "Environments of which GitHub lists no runner any more.")
	m.removed = maker.counter("kettle_reaped_runners_total", "Runners that the launcher had to remove itself.")
	m.faults = maker.counters("kettle_reap_faults_total", "Rounds of reaping that did not get on.", "reason", "busy", "denied", "remote")
	m.lastHeard = maker.gauge("kettle_guest_heard_timestamp_seconds", "When the VM spoke last, in Unix time; 0 before.")
	m.lines = maker.counter("kettle_journal_lines_total", "Lines of the VM's journal.")
	m.registry.MustRegister(newLive(m, labels), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers with the metrics as text.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// WriteFile writes the metrics for a collector of text files, whole or not at all: a launcher of one job often ends
// before anyone asks it.
func (m *Metrics) WriteFile(path string) error { return prometheus.WriteToTextfile(path, m.registry) }

// follow begins to count for one VM.
func (m *Metrics) follow(source func() Status) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.source, m.begin = source, time.Now()
}

// entered counts a change of state.
func (m *Metrics) entered(was, next runner.State, since *time.Time, now time.Time) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if was != "" {
		m.state.WithLabelValues(known(was)).Set(0)
	}
	m.state.WithLabelValues(known(next)).Set(1)
	if since != nil {
		m.stateTime.WithLabelValues(known(was)).Observe(now.Sub(*since).Seconds())
	}
	m.transition.WithLabelValues(known(next)).Observe(now.Sub(m.begin).Seconds())
	m.gauges(next)
	if next == runner.Claimed && m.claimed.IsZero() {
		m.claimed = now
		m.started.Inc()
	}
	if next == runner.Running && m.ran.IsZero() && !m.claimed.IsZero() {
		m.ran = now
		m.startup.Observe(now.Sub(m.claimed).Seconds())
	}
	switch next {
	case runner.Finished:
		m.complete(succeeded, now)
	case runner.Cancelled:
		m.complete(canceled, now)
	case runner.Failed:
		m.complete(failed, now)
	}
}

// gauges shows a state. The caller holds mu.
func (m *Metrics) gauges(s runner.State) {
	set := func(g prometheus.Gauge, on bool) {
		if g.Set(0); on {
			g.Set(1)
		}
	}
	code := s == runner.Running || s == runner.Responding
	busy := code || s == runner.Claimed
	set(m.idle, s == runner.Listening)
	set(m.busy, busy)
	set(m.running, code)
	switch {
	case busy || s == runner.Listening:
		m.registered.Set(1)
	case s == runner.Removed:
		m.registered.Set(0)
	}
}

// complete counts the end of the one job. The caller holds mu.
func (m *Metrics) complete(result string, now time.Time) {
	if m.claimed.IsZero() || m.settled {
		return
	}
	m.settled = true
	m.completed.WithLabelValues(result).Inc()
	if !m.ran.IsZero() {
		m.execution.WithLabelValues(result).Observe(now.Sub(m.ran).Seconds())
	}
}

// ended counts the end of the VM.
func (m *Metrics) ended(how How) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.endings.WithLabelValues(string(how)).Inc()
	m.complete(abandoned, time.Now())
	for _, g := range []prometheus.Gauge{m.idle, m.busy, m.running} {
		g.Set(0)
	}
}

// reaped counts an environment that left nothing.
func (m *Metrics) reaped(environment string, r *Record) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.unsettled, environment)
	m.reapedEnvironments.Inc()
	m.removed.Add(float64(r.Removed))
	if r.How == Abandoned {
		m.endings.WithLabelValues(string(Abandoned)).Inc()
		return
	}
	m.registered.Set(0)
}

// unreaped counts an environment that may have left a runner.
func (m *Metrics) unreaped(environment string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unsettled[environment] = true
}

// fault counts a round of reaping that did not get on.
func (m *Metrics) fault(err error) {
	if m == nil {
		return
	}
	reason := "remote"
	switch {
	case errors.Is(err, runner.ErrDenied):
		reason = "denied"
	case errors.Is(err, runner.ErrBusy):
		reason = "busy"
	}
	m.faults.WithLabelValues(reason).Inc()
}

func (m *Metrics) heard(now time.Time) {
	if m != nil {
		m.lastHeard.Set(float64(now.UnixMilli()) / 1000)
	}
}

func (m *Metrics) line() {
	if m != nil {
		m.lines.Inc()
	}
}

// known gives a state's word, or other.
func known(s runner.State) string {
	if slices.Contains(states(), string(s)) {
		return string(s)
	}
	return other
}

// alarmWords gives each alarm's word and whether it holds.
func alarmWords(now []channel.Alarm) map[string]bool {
	words := map[string]bool{other: false}
	for _, a := range Alarms() {
		words[string(a)] = slices.Contains(now, a)
	}
	for _, a := range now {
		if !slices.Contains(Alarms(), a) {
			words[other] = true
		}
	}
	return words
}
