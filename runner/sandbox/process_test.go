// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// child starts the shell with its output in out, as crun leaves a process to be adopted.
func child(t *testing.T, out *output, script string) int {
	t.Helper()
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{Files: []*os.File{nil, out.write, out.write}})
	if err != nil {
		t.Fatal(err)
	}
	pid := p.Pid
	if err := p.Release(); err != nil { // adopt reaps it
		t.Fatal(err)
	}
	return pid
}

func newTestOutput(t *testing.T) (*output, *bytes.Buffer) {
	t.Helper()
	var text bytes.Buffer // read only after done
	out, err := newOutput(&text)
	if err != nil {
		t.Fatal(err)
	}
	return out, &text
}

func ended(t *testing.T, p *process) time.Duration {
	t.Helper()
	before := time.Now()
	select {
	case <-p.done:
	case <-time.After(drainTime + 10*time.Second):
		t.Fatal("the process has ended and is not done")
	}
	return time.Since(before)
}

func TestProcess(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		script string
		code   int
	}{
		"exit":          {"echo said; exit 7", 7},
		"closed before": {"echo said; exec >&- 2>&-; sleep 0.1; exit 7", 7}, // the copy has ended by then
		"signal":        {"echo said; kill -KILL $$", 137},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, text := newTestOutput(t)
			p := adopt(child(t, out, tc.script), out)
			if err := out.started(); err != nil {
				t.Fatal(err)
			}
			if took := ended(t, p); took >= drainTime {
				t.Errorf("done after %v, although nobody held the pipe", took)
			}
			if p.code != tc.code || p.err != nil || text.String() != "said\n" {
				t.Errorf("code %d, %v, output %q", p.code, p.err, text)
			}
		})
	}
}

// TestPipeHeldElsewhere passes the pipe to a process that does not end with the sandbox, quiet or not.
func TestPipeHeldElsewhere(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{"quiet": "exec sleep 60", "writing": "while echo more; do sleep 0.01; done"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, text := newTestOutput(t)
			holder := exec.CommandContext(t.Context(), "/bin/sh", "-c", script)
			holder.Stdout = out.write
			if err := holder.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = holder.Wait() }()
			defer func() { _ = holder.Process.Kill() }()
			p := adopt(child(t, out, "echo said; exit 3"), out)
			if err := out.started(); err != nil {
				t.Fatal(err)
			}
			ended(t, p)
			if p.code != 3 || p.err != nil || !bytes.Contains(text.Bytes(), []byte("said\n")) {
				t.Errorf("code %d, %v, output %q", p.code, p.err, text)
			}
		})
	}
}

// TestDisown replaces the configuration that crun keeps, and makes none where there was none.
func TestDisown(t *testing.T) {
	t.Parallel()
	c := crun{root: t.TempDir(), id: "job-1"}
	file := filepath.Join(c.root, c.id, "config.json")
	if err := c.disown(valid(t).spec(nil, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("made a file: %v", err)
	}
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeSpec(file, valid(t).spec([]string{"run"}, []string{"JIT=credential"})); err != nil {
		t.Fatal(err)
	}
	if err := c.disown(valid(t).spec([]string{"run"}, nil)); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || bytes.Contains(raw, []byte("credential")) || !bytes.Contains(raw, []byte(`"args":["/usr/bin/catatonit","--","run"]`)) {
		t.Errorf("%v: %s", err, raw)
	}
}
