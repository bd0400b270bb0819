// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/stubrunner/expr"
	"github.com/kettle/attest/internal/stubrunner/mask"
	"github.com/kettle/attest/internal/stubrunner/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testFrame is a step of a job with short waits. Closing cancel cancels the job.
func testFrame(t *testing.T, condition string) (f *frame, cancel chan struct{}) {
	t.Helper()
	cancel = make(chan struct{})
	j := &Job{
		config: Config{
			Work: t.TempDir(), Masker: &mask.Masker{},
			Timing: Timing{Interrupt: 150 * time.Millisecond, Terminate: 150 * time.Millisecond, Drain: 200 * time.Millisecond},
		},
		message: &message.Job{}, environ: map[string]string{"PATH": os.Getenv("PATH")}, env: expr.NewCaseSensitive(),
		scopes: map[string]*expr.Object{}, contexts: map[string]any{}, result: message.None, log: &jobLog{},
		cancelled: cancel, shutdown: make(chan struct{}),
	}
	f = j.newFrame("test", "")
	f.condition = condition
	return f, cancel
}

func (f *frame) shell(t *testing.T, script string) (int, error) {
	t.Helper()
	return f.runCommand(t.Context(), command{
		program: "/bin/bash", args: []string{"-c", script}, dir: f.job.config.Work, env: []string{"PATH=" + os.Getenv("PATH")},
	})
}

func lines(f *frame) string {
	text, _ := f.log.content()
	return string(text)
}

func TestSignals(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		script string
		says   string
		least  time.Duration
	}{
		"interrupt": {`trap "echo int; exit 1" INT; touch ready; while :; do sleep 0.02; done`, "int", 0},
		"terminate": {`trap "" INT; trap "echo term; exit 1" TERM; touch ready; while :; do sleep 0.02; done`, "term", 150 * time.Millisecond},
		"kill tree": {`trap "echo seen" INT TERM; touch ready; while :; do sleep 0.02; done`, "seen", 300 * time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, cancel := testFrame(t, "success()")
			began := make(chan time.Time, 1)
			go func() {
				for range 1000 {
					if _, err := os.Stat(filepath.Join(f.job.config.Work, "ready")); err == nil {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
				began <- time.Now()
				close(cancel)
			}()
			_, err := f.shell(t, tt.script)
			took := time.Since(<-began)
			if !errors.Is(err, errCancelled) || !strings.Contains(lines(f), tt.says) || took < tt.least {
				t.Errorf("%v after %v:\n%s", err, took, lines(f))
			}
			if f.job.result != message.Canceled {
				t.Errorf("the job's result is %v", f.job.result)
			}
		})
	}
}

func TestConditionSurvivesCancellation(t *testing.T) {
	t.Parallel()
	f, cancel := testFrame(t, "always()")
	close(cancel)
	if code, err := f.shell(t, "sleep 0.2; exit 3"); code != 3 || err != nil {
		t.Errorf("got %d, %v", code, err)
	}
	if f.job.result != message.Canceled {
		t.Errorf("the job's result is %v", f.job.result)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	f, _ := testFrame(t, "success()")
	f.deadline = time.Now().Add(100 * time.Millisecond)
	if _, err := f.shell(t, `trap "exit 0" INT; while :; do sleep 0.02; done`); !errors.Is(err, errTimeout) {
		t.Errorf("got %v", err)
	}
}

func TestOutputOfLeftBehind(t *testing.T) {
	t.Parallel()
	f, _ := testFrame(t, "success()")
	began := time.Now()
	code, err := f.shell(t, `sleep 3 & printf 'a\nb\r\n'; echo c >&2; printf end`)
	if code != 0 || err != nil || time.Since(began) > 2*time.Second {
		t.Errorf("got %d, %v after %v", code, err, time.Since(began))
	}
	for _, want := range []string{" a\n", " b\n", " c\n", " end\n"} {
		if !strings.Contains(lines(f), want) {
			t.Errorf("%q is missing in:\n%s", want, lines(f))
		}
	}
}

func TestCommandsInOutput(t *testing.T) {
	t.Parallel()
	f, _ := testFrame(t, "success()")
	f.contextName = "me"
	for _, line := range []string{
		"::add-mask::sesame", "open sesame", "::stop-commands::pause1234", "::error::plain text", "::pause1234::",
		"::error file=f,line=2,title=T::broken%0Atwice", "::set-output name=k::v", "::echo::loud", "::unknown::x", "::add-mask::",
		"::debug::hidden", "::notice::not asked for", "::stop-commands::error", "::save-state name=s::1",
	} {
		f.handleLine(line)
	}
	text := lines(f)
	for _, want := range []string{
		"open ***", " ::error::plain text", "##[error]broken", "::unknown::x", "Can't add secret mask", "::notice::not asked for",
		"Invalid echo command value", "You cannot use a endToken",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "hidden") || strings.Contains(text, "sesame") || f.command != message.Failed || f.state["s"] != "1" {
		t.Errorf("state %v, result %v:\n%s", f.state, f.command, text)
	}
	outputs, _ := f.entry().Get("outputs")
	if o, ok := outputs.(*expr.Object); !ok || o.Text("k") != "v" {
		t.Errorf("outputs: %v", outputs)
	}
	var titled bool
	for _, a := range f.log.annotations {
		titled = titled || a.Title == "T" && a.Path == "f" && a.StartLine == 2 && a.Message == "broken\ntwice"
	}
	if !titled {
		t.Errorf("annotations: %+v", f.log.annotations)
	}
}
