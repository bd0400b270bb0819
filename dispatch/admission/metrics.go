// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are an admission server's, for Prometheus. Every label is one of a fixed set of words. A nil Metrics counts
// nothing.
type Metrics struct {
	registry   *prometheus.Registry
	challenges *prometheus.CounterVec // by result
	decisions  *prometheus.CounterVec // by decision and code
	open       prometheus.Gauge
	duration   *prometheus.HistogramVec // by decision
}

// NewMetrics makes the metrics.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		challenges: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kettle_admission_challenges_total", Help: "Challenges asked for.",
		}, []string{"result"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kettle_admission_decisions_total", Help: "Requests by what became of them, and the gravest reason.",
		}, []string{"decision", "code"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "kettle_admission_requests", Help: "Requests that are being worked on."}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "kettle_admission_duration_seconds", Help: "From the first byte of a request to the last of its answer.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"decision"}),
	}
	m.registry.MustRegister(m.challenges, m.decisions, m.open, m.duration)
	return m
}

// Handler answers with the metrics as text.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

func (m *Metrics) challenged(err error) {
	if m == nil {
		return
	}
	result := "given"
	if err != nil {
		result = "refused"
	}
	m.challenges.WithLabelValues(result).Inc()
}

// enter counts a request; the function it gives is for its end.
func (m *Metrics) enter() func() {
	if m == nil {
		return func() {}
	}
	m.open.Inc()
	return m.open.Dec
}

func (m *Metrics) concluded(e Event, took time.Duration) {
	if m == nil {
		return
	}
	code := "none"
	if len(e.Reasons) > 0 {
		code = string(e.Reasons[0].Code)
	}
	m.decisions.WithLabelValues(string(e.Decision), code).Inc()
	m.duration.WithLabelValues(string(e.Decision)).Observe(took.Seconds())
}
