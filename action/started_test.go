// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// hook starts started.sh as the runner does, with a program of the test's own in the place of kettle-action.
func hook(t *testing.T, shell []string, program string) (*exec.Cmd, <-chan error, io.Reader) {
	t.Helper()
	text, err := os.ReadFile("started.sh")
	if err != nil {
		t.Fatal(err)
	}
	const actual = "/usr/lib/kettle/kettle-action"
	if bytes.Count(text, []byte("\n"+actual+" started && exit 0\n")) != 1 {
		t.Fatalf("the hook does not ask:\n%s", text)
	}
	dir := t.TempDir()
	fake, script := filepath.Join(dir, "kettle-action"), filepath.Join(dir, "started.sh")
	if program != "" {
		if err := os.WriteFile(fake, []byte("#!/bin/sh\n"+program+"\n"), 0o700); err != nil { //nolint:gosec // a program.
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(script, bytes.ReplaceAll(text, []byte(actual), []byte(fake)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, in, err := os.Pipe() // read until the test wants no more, whoever holds the other end
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	cmd := exec.CommandContext(t.Context(), shell[0], append(shell[1:], script)...) //nolint:gosec // a shell.
	cmd.Stdout, cmd.SysProcAttr = in, &syscall.SysProcAttr{Setpgid: true}
	if err := errors.Join(cmd.Start(), in.Close()); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	return cmd, done, out
}

// shells are how GitHub's runner runs a hook that is a .sh file.
func shells() map[string][]string {
	return map[string][]string{"bash": {"bash", "-e"}, "sh": {"sh", "-e"}}
}

func TestHookReturnsWhenAllowed(t *testing.T) {
	t.Parallel()
	for name, shell := range shells() {
		_, done, out := hook(t, shell, `[ "$*" = started ] && echo asked`)
		said, err := io.ReadAll(out)
		if waitErr := <-done; err != nil || waitErr != nil || string(said) != "asked\n" {
			t.Errorf("%s: %v, %v, %q", name, err, waitErr, said)
		}
	}
}

// TestHookNeverReturnsOtherwise demands that no failure and no cancelling signal ends the hook: the runner would go on
// to steps with "if: always()".
func TestHookNeverReturnsOtherwise(t *testing.T) {
	t.Parallel()
	for name, program := range map[string]string{
		"refused": "echo x; exit 5", "no runner": "echo x; exit 6", "killed": "echo x; kill -KILL $$", "still asking": "echo x; sleep 60", "missing": "",
	} {
		for shellName, shell := range shells() {
			t.Run(name+" in "+shellName, func(t *testing.T) {
				t.Parallel()
				cmd, done, out := hook(t, shell, program)
				if program != "" {
					if _, err := io.ReadFull(out, make([]byte, 2)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(200 * time.Millisecond)
				for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
					_ = cmd.Process.Signal(s)
					time.Sleep(50 * time.Millisecond)
				}
				select {
				case err := <-done:
					t.Errorf("the hook returned: %v", err)
				default:
				}
			})
		}
	}
}
