// SPDX-License-Identifier: Apache-2.0

package listener_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/internal/stubrunner/listener"
)

func TestParseFaults(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"": true, "ghost": true, " ghost , ignore-sigterm,no-hooks,version=2.1.0": true, "exit=3@start": true,
		"crash@offered,hang@running,daemon@finished": true, "crash": false, "crash@nowhere": false, "ghost@start": false,
		"exit@start": false, "exit=x@start": false, "exit=300@start": false, "exit=3": false, "hang=1@start": false, "version": false,
		"ghots": false, "ghots@start": false, "crash@start@start": false,
	} {
		if _, err := listener.ParseFaults(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseFaults(f *testing.F) {
	f.Add("exit=3@start,ghost")
	f.Fuzz(func(_ *testing.T, text string) { _, _ = listener.ParseFaults(text) })
}

func switches(t *testing.T, text string) func(*listener.Config) {
	t.Helper()
	f, err := listener.ParseFaults(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *listener.Config) { c.Faults = f }
}

func TestExitAtPoint(t *testing.T) {
	t.Parallel()
	for point, last := range map[string]string{
		listener.PointStart: "", listener.PointListening: "POST /broker/session", listener.PointOffered: "POST /broker/acknowledge",
		listener.PointAcquired: "POST /run/acquirejob", listener.PointFinished: "POST /run/acquirejob",
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := newServices(t)
			s.queue = []string{s.offer()}
			c := run(t, t.Context(), s, switches(t, "exit=42@"+point))
			if c.code != 42 || strings.Contains(s.requests(), "DELETE /broker/session") || !strings.Contains(s.requests(), last) {
				t.Errorf("exit code %d\n%s", c.code, s.requests())
			}
			if _, err := os.Stat(filepath.Join(c.root, ".runner")); err != nil {
				t.Error("the registration was cleaned up")
			}
		})
	}
}

func TestHangEndsWithStop(t *testing.T) {
	t.Parallel()
	for _, point := range []string{listener.PointStart, listener.PointListening, listener.PointOffered, listener.PointAcquired, listener.PointFinished} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			s := newServices(t)
			s.queue = []string{s.offer()}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan *console)
			go func() { done <- run(t, ctx, s, switches(t, "hang@"+point)) }()
			select {
			case c := <-done:
				t.Errorf("ended with %d", c.code)
				stop()
				return
			case <-s.quiet(point):
			}
			stop()
			if c := <-done; c.code != 0 {
				t.Errorf("exit code %d", c.code)
			}
		})
	}
}

// quiet is closed once the last request before a point was made.
func (s *services) quiet(point string) <-chan struct{} {
	last := map[string]string{
		listener.PointStart: "", listener.PointListening: "POST /broker/session", listener.PointOffered: "POST /broker/acknowledge",
		listener.PointAcquired: "POST /run/acquirejob", listener.PointFinished: "POST /run/acquirejob",
	}[point]
	reached := make(chan struct{})
	go func() {
		defer close(reached)
		for !strings.Contains(s.requests(), last) {
			s.pause()
		}
	}()
	return reached
}

func TestGhostSwitch(t *testing.T) {
	t.Parallel()
	s := newServices(t)
	s.queue = []string{s.offer()}
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		for strings.Count(s.requests(), "GET /broker/message") < 4 {
			s.pause()
		}
		stop()
	}()
	if c := run(t, ctx, s, switches(t, "ghost")); c.code != 0 || strings.Contains(s.requests(), "acquirejob") {
		t.Errorf("exit code %d\n%s", c.code, s.requests())
	}
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		disable, ephemeral string
		once               bool
		code               int
	}{
		"ephemeral": {"False", "True", false, listener.ExitUpdatingOnce}, "once": {"False", "False", true, listener.ExitUpdatingOnce},
		"neither": {"False", "False", false, listener.ExitUpdating}, "disabled": {"True", "True", false, listener.ExitSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServices(t)
			s.settings = map[string]any{"DisableUpdate": tt.disable, "Ephemeral": tt.ephemeral}
			s.queue = []string{queued("RunnerRefresh", map[string]any{"target_version": "2.400.0"}), queued("HostedRunnerShutdown", nil)}
			c := run(t, t.Context(), s, func(c *listener.Config) { c.Options.Once = tt.once })
			if c.code != tt.code {
				t.Errorf("exit code %d, want %d\n%s%s", c.code, tt.code, &c.out, &c.err)
			}
		})
	}
}
