// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"encoding/hex"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
)

// chip is the simulated secure processor in this process, appraised as kettled does it.
type chip struct {
	processor *sim.Processor
	leaf      []byte
	roots     []snp.Root
}

func newChip(b *testing.B) *chip {
	b.Helper()
	authority, err := sim.NewAuthority(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	processor, err := authority.NewProcessor([48]byte{1}, time.Now())
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := snp.EndorsementKey(processor.Endorsements())
	if err != nil {
		b.Fatal(err)
	}
	roots, err := snp.ParseRoots(authority.RootsPEM())
	if err != nil {
		b.Fatal(err)
	}
	return &chip{processor, leaf, roots}
}

func (c *chip) Quote(_ context.Context, rd [64]byte) (Quote, error) {
	report, err := c.processor.Report(rd)
	return Quote{Evidence: evidence.Evidence{Kind: evidence.SNP, Report: report, Endorsements: evidence.Endorsements{Leaf: c.leaf}}}, err
}

func (c *chip) Extend(_ context.Context, d binding.Digest) error {
	c.processor.Extend(d)
	return nil
}

func (c *chip) Appraise(q Quote, at time.Time) (Self, error) {
	r, err := snp.Verify(q.Report, q.Leaf, c.roots, at)
	if err != nil {
		return Self{}, err
	}
	report, id := r.ReportID(), r.ChipID()
	return Self{
		Instance:    statement.Instance{Platform: r.Platform(), ReportID: hex.EncodeToString(report[:]), ChipID: hex.EncodeToString(id[:])},
		Measurement: r.Measurement(),
	}, nil
}

// VerifyImage implements [ImageVerifier]: what that costs is measured where it is done.
func (c *chip) VerifyImage(context.Context, Quote, time.Time) (Image, error) {
	return Image{
		Files:      []statement.Subject{{Name: "initrd.cpio", Digest: statement.SHA256(binding.Digest{1})}},
		Provenance: binding.Digest{1}, References: binding.Digest{2}, Policy: binding.Digest{3}, Levels: []string{statement.BuildLevel(3)},
	}, nil
}

// BenchmarkRespond is what one response costs while the sandbox stands still, beyond hashing the outputs: key, quote and
// its appraisal, two signatures, the bundle.
func BenchmarkRespond(b *testing.B) {
	c := newChip(b)
	e, err := newEnvironment(b.Context(), Ports{Device: c, Appraiser: c, Image: c, Now: time.Now}, Config{
		Configuration: binding.Sum([]byte("config")), Software: map[string]string{"kettled": "bench"},
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.bind(b.Context(), testJob(), binding.Digest{1}, binding.Digest{2}); err != nil {
		b.Fatal(err)
	}
	a := &Agent{config: Config{Profile: "strict", Configuration: binding.Digest{3}, Egress: statement.EgressNone}, env: e, ports: Ports{Policy: openPolicy{}, Gate: closedGate{}, Sandbox: crun{}}}
	subjects := []statement.Subject{{Name: "a", Digest: statement.SHA256(binding.Digest{4})}}
	b.ResetTimer()
	size := 0
	for n := 1; b.Loop(); n++ {
		r, err := e.respond(b.Context(), a.provenance(capture{subjects: subjects, how: statement.OutputsSnapshot, at: time.Now()}), n%1000+1)
		if err != nil {
			b.Fatal(err)
		}
		size = len(r.Bundle)
		e.log = trimmed(b, e)
	}
	b.ReportMetric(float64(size), "bundle-bytes")
}

// trimmed takes the log back to what it was at dispatch, so that every round does the same.
func trimmed(b *testing.B, e *environment) (l eventlog.Log) {
	b.Helper()
	for _, ev := range e.log.Events()[:len(eventlog.Once())] {
		if err := l.Append(ev.Type, ev.Digest); err != nil {
			b.Fatal(err)
		}
	}
	return l
}

// BenchmarkBoot is what an environment does before it can register: key, register, BOOT, two quotes.
func BenchmarkBoot(b *testing.B) {
	c := newChip(b)
	for b.Loop() {
		_, err := newEnvironment(b.Context(), Ports{Device: c, Appraiser: c, Image: c, Now: time.Now}, Config{
			Configuration: binding.Sum([]byte("config")), Software: map[string]string{"kettled": "bench"},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

type openPolicy struct{}

func (openPolicy) Allow(statement.Facts, time.Time) error { return nil }
func (openPolicy) Digest() binding.Digest                 { return binding.Digest{2} }

type closedGate struct{}

func (closedGate) Dispatched()             {}
func (closedGate) Flows() []statement.Flow { return nil }

type crun struct{ Sandbox }

func (crun) Runtime() string { return "crun 1.8.1" }
