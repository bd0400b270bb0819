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

	"golang.org/x/sys/unix"
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
	pipe := filepath.Join(t.TempDir(), "output")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := newOutput(pipe, &text)
	if err != nil {
		t.Fatal(err)
	}
	return out, &text
}

// report is kettled's end of the pipe for the exit code.
func report(t *testing.T) *os.File {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "end")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(pipe, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func gone(t *testing.T, p *process) time.Duration {
	t.Helper()
	before := time.Now()
	select {
	case <-p.gone:
	case <-time.After(drainTime + 10*time.Second):
		t.Fatal("the process has ended and is not gone")
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
			p := adopt(child(t, out, tc.script), out, report(t))
			if took := gone(t, p); took >= drainTime {
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
			p := adopt(child(t, out, "echo said; exit 3"), out, report(t))
			gone(t, p)
			if p.code != 3 || p.err != nil || !bytes.Contains(text.Bytes(), []byte("said\n")) {
				t.Errorf("code %d, %v, output %q", p.code, p.err, text)
			}
		})
	}
}

// TestReport ends with what the script says, while the first process goes on.
func TestReport(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]struct {
		code int
		err  bool
	}{
		"0\n": {0, false}, "255\n": {255, false}, "7\n8\n": {7, false}, "256\n": {0, true}, "-1\n": {0, true}, "\n": {0, true}, "1234": {0, true},
	} {
		t.Run(said, func(t *testing.T) {
			t.Parallel()
			out, _ := newTestOutput(t)
			pipe := report(t)
			p := adopt(child(t, out, "exec sleep 60"), out, pipe)
			if _, err := pipe.WriteString(said); err != nil {
				t.Fatal(err)
			}
			<-p.ended
			select {
			case <-p.gone:
				t.Error("gone with the runner program")
			default:
			}
			if err := unix.Kill(p.pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			gone(t, p)
			if p.code != want.code || (p.err != nil) != want.err {
				t.Errorf("got %d, %v", p.code, p.err)
			}
		})
	}
}

// TestDisown replaces the configuration that crun keeps, and makes none where there was none.
func TestDisown(t *testing.T) {
	t.Parallel()
	c := ociRuntime{kind: crunKind, root: t.TempDir(), id: "job-1"}
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
	if err := writeSpec(file, valid(t).spec([]string{"JIT=credential"}, nil)); err != nil {
		t.Fatal(err)
	}
	if err := c.disown(valid(t).spec([]string{"A=b"}, nil)); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil || bytes.Contains(raw, []byte("credential")) || !bytes.Contains(raw, []byte(`"env":["A=b"]`)) {
		t.Errorf("%v: %s", err, raw)
	}
}
