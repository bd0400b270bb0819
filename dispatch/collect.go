// SPDX-License-Identifier: Apache-2.0

package dispatch

import "github.com/prometheus/client_golang/prometheus"

// maker makes metrics with the launcher's labels, and has every series of a fixed set of words be there from the start.
type maker struct {
	labels   prometheus.Labels
	registry *prometheus.Registry
}

func (m maker) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: m.labels})
	m.registry.MustRegister(g)
	return g
}

func (m maker) gauges(name, help, label string, words ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: m.labels}, []string{label})
	m.registry.MustRegister(v)
	for _, w := range words {
		v.WithLabelValues(w)
	}
	return v
}

func (m maker) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: m.labels})
	m.registry.MustRegister(c)
	return c
}

func (m maker) counters(name, help, label string, words ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: m.labels}, []string{label})
	m.registry.MustRegister(v)
	for _, w := range words {
		v.WithLabelValues(w)
	}
	return v
}

func (m maker) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: m.labels, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

// spans are the buckets and the label of a histogram.
type spans struct {
	buckets []float64
	label   string
	words   []string
}

func (m maker) histograms(name, help string, s spans) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, ConstLabels: m.labels, Buckets: s.buckets,
	}, []string{s.label})
	m.registry.MustRegister(v)
	for _, w := range s.words {
		v.WithLabelValues(w)
	}
	return v
}

// live tells what holds at the moment of asking.
type live struct {
	metrics *Metrics
	alarm   *prometheus.Desc
	left    *prometheus.Desc
}

func newLive(m *Metrics, labels prometheus.Labels) *live {
	return &live{
		metrics: m,
		alarm:   prometheus.NewDesc("kettle_alarm", "1 while an alarm holds, of the VM or of its launcher.", []string{"alarm"}, labels),
		left:    prometheus.NewDesc("kettle_unreaped_environments", "Environments that may have left a runner at GitHub.", nil, labels),
	}
}

// Describe implements [prometheus.Collector].
func (l *live) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- l.alarm
	descriptions <- l.left
}

// Collect implements [prometheus.Collector].
func (l *live) Collect(metrics chan<- prometheus.Metric) {
	l.metrics.mu.Lock()
	source, left := l.metrics.source, len(l.metrics.unsettled)
	l.metrics.mu.Unlock()
	metrics <- prometheus.MustNewConstMetric(l.left, prometheus.GaugeValue, float64(left))
	var now Status
	if source != nil {
		now = source()
	}
	for word, holds := range alarmWords(now.Alarms) {
		value := 0.0
		if holds {
			value = 1
		}
		metrics <- prometheus.MustNewConstMetric(l.alarm, prometheus.GaugeValue, value, word)
	}
}
