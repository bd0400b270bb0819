// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/config"
)

// admitted gives both sides of a channel after the credential has gone over it.
func admitted(t *testing.T) (*channel.Guest, *channel.Launcher, io.Closer) {
	t.Helper()
	inside, outside := net.Pipe()
	t.Cleanup(func() { _ = inside.Close(); _ = outside.Close() })
	g, l := channel.NewGuest(inside), channel.NewLauncher(outside)
	go func() { _ = g.Send(t.Context(), channel.Hello{Program: "kettled"}) }()
	if _, err := l.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = l.Admit(t.Context(), channel.Admission{Credential: secret.New("ghs_x"), Prefix: "kettle-0011223344556677"})
	}()
	got, err := (&launcher{guest: g}).given(t.Context(), config.FromLauncher)
	if err != nil || got.prefix != "kettle-0011223344556677" || got.credential.Token.Reveal() != "ghs_x" {
		t.Fatalf("admission %+v, %v", got, err)
	}
	return g, l, outside
}

// TestReport: every line of the journal arrives in order, also those that are written when the life is over.
func TestReport(t *testing.T) {
	t.Parallel()
	g, l, _ := admitted(t)
	r := newReport(g)
	status := func() runner.Status {
		return runner.Status{
			State: runner.Running, Since: time.Now(), Runner: "kettle-0011223344556677-aa", RunnerID: 7, BuildID: "https://x", Responses: 2,
			Alarms: []runner.Alarm{runner.AlarmSink},
		}
	}
	for i, line := range []string{`{"a":1}`, `{"b":2}`} {
		r.entry(runner.Entry{Seq: i}, []byte(line))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	go func() { defer close(done); r.send(ctx, status) }()
	var lines []string
	var last channel.Status
	for range 3 {
		m, err := l.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case channel.Journal:
			lines = append(lines, m.Line)
		case channel.Status:
			last = m
		}
	}
	<-done
	if !slices.Equal(lines, []string{`{"a":1}`, `{"b":2}`}) {
		t.Errorf("lines %q", lines)
	}
	if last.State != "running" || last.Runner.ID != 7 || last.Jobs != 1 || last.Responses != 2 || !slices.Equal(last.Alarms, []channel.Alarm{"sink-down"}) {
		t.Errorf("status %+v", last)
	}
}

// TestReportNeverWaits: a launcher that does not read holds nothing up.
func TestReportNeverWaits(t *testing.T) {
	t.Parallel()
	r := newReport(nil)
	for i := range 3 * maxUnsent {
		r.entry(runner.Entry{Seq: i}, []byte("{}"))
	}
	if len(r.lines) != maxUnsent {
		t.Errorf("%d lines are kept", len(r.lines))
	}
}

func TestLauncherGone(t *testing.T) {
	t.Parallel()
	g, _, outside := admitted(t)
	r := newReport(g)
	r.entry(runner.Entry{}, []byte("{}"))
	if err := outside.Close(); err != nil {
		t.Fatal(err)
	}
	r.send(t.Context(), func() runner.Status { return runner.Status{State: runner.Boot, Since: time.Now()} })
	obey(t.Context(), g, func() { t.Error("drained") }, newLogs().logger())
}

func TestObey(t *testing.T) {
	t.Parallel()
	g, l, _ := admitted(t)
	drained := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); obey(ctx, g, func() { close(drained) }, newLogs().logger()) }()
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-drained
	cancel()
	<-done
}

// TestTwice: a kettled that finds a journal does not live.
func TestTwice(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/journal.jsonl"
	f, err := runner.CreateJournalFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := runner.CreateJournalFile(path); !errors.Is(err, runner.ErrUsed) {
		t.Errorf("a second time: %v", err)
	}
}
