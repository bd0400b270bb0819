// SPDX-License-Identifier: Apache-2.0

package bootattack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Exit codes of kettle, see the README.
const (
	exitFailure = 1
	exitInvalid = 3
	exitPolicy  = 5
)

// kettle runs the command, and gives its exit code and both streams.
func (w *world) kettle(t *testing.T, args ...string) (int, []byte, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.Bin, "kettle"), args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.Bytes(), errOut.String()
}

// TestRun starts the image with the command for people. It verifies itself, and stops for want of a credential.
func TestRun(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	profiles := []string{"direct"}
	if nightly {
		profiles = append(profiles, "uki")
	}
	for _, profile := range profiles {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			policy := filepath.Join(t.TempDir(), "policy.yaml")
			must(t, os.WriteFile(policy, []byte(w.policy()), 0o600))
			code, out, errOut := w.kettle(t, "image", "run", w.Image, "--policy", policy, "--trusted-root", filepath.Join(w.Dir, "trusted_root.json"),
				"--simulator", w.Simulator(), "--profile", profile, "--forward", "10.0.2.100:443=127.0.0.1:9", "--json")
			if code != exitFailure || !strings.Contains(errOut, "is verified: signed on") || !strings.Contains(errOut, "takes its credential from launcher") {
				t.Errorf("code %d\n%s\n%s", code, out, errOut)
			}
			var events []string
			for line := range bytes.Lines(out) {
				var event struct{ Event, Phase, Measurement string }
				must(t, json.Unmarshal(line, &event))
				events = append(events, event.Event+event.Phase)
			}
			if got := strings.Join(events, " "); !strings.HasPrefix(got, "launched hello phaseboot-kernel ") || !strings.HasSuffix(got, " phaseself-verified end") {
				t.Errorf("events: %s", got)
			}
		})
	}
}

// folder is the image's folder with one file that may be changed.
func (w *world) folder(t *testing.T, own string) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(w.Image)
	must(t, err)
	for _, e := range entries {
		from, to := filepath.Join(w.Image, e.Name()), filepath.Join(dir, e.Name())
		if e.Name() != own {
			must(t, os.Symlink(from, to))
			continue
		}
		b, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(to, b, 0o600))
	}
	return dir
}

// TestAttackKilledLauncher kills the command while its machine starts: neither QEMU nor the TPM outlives it.
func TestAttackKilledLauncher(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	temporary := t.TempDir()
	cmd := exec.CommandContext(t.Context(), filepath.Join(w.Bin, "kettle"), "image", "run", w.Image, "--unverified", "--profile", "uki", "--json")
	cmd.Env = append(os.Environ(), "TMPDIR="+temporary)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	first := make([]byte, 16)
	_, err = io.ReadFull(out, first) // the machine is launched
	must(t, err)
	started := within(t, temporary)
	if len(started) < 2 {
		t.Errorf("want QEMU and swtpm, got %q", started)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	for deadline := time.Now().Add(10 * time.Second); len(within(t, temporary)) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %q", within(t, temporary))
		}
	}
}

// within gives the command lines of the processes whose working folder lies in dir.
func within(t *testing.T, dir string) (found []string) {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cwd")
	must(t, err)
	for _, cwd := range processes {
		if at, err := os.Readlink(cwd); err == nil && strings.HasPrefix(at, dir+"/") {
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(cwd), "cmdline")) // it may just have ended
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// policy is that of somebody who launches this image.
func (w *world) policy() string {
	return `apiVersion: kettle/v1
expires: never
environments:
  platforms: [sim]
  floor: strict
  revocation: if-present
  images: [` + w.sigstore.Signer() + `]
  measurements: signed
  lateCompromise: none
revoked: none
`
}

// TestAttackRun: the command starts no image that was changed, nor one that somebody else signed.
func TestAttackRun(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	dir := t.TempDir()
	policy, stranger := filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "stranger.yaml")
	must(t, os.WriteFile(policy, []byte(w.policy()), 0o600))
	must(t, os.WriteFile(stranger, []byte(strings.ReplaceAll(w.policy(), "refs/tags/v*", "refs/tags/w*")), 0o600))
	changed, disk := w.folder(t, w.manifest.Files.Initrd.Name), w.folder(t, filepath.Base(w.Disk()))
	must(t, os.Truncate(filepath.Join(changed, w.manifest.Files.Initrd.Name), 4096))
	w.changeUKI(t, filepath.Join(disk, filepath.Base(w.Disk())))
	for name, tt := range map[string]struct {
		folder, policy string
		code           int
	}{
		"another initrd":          {changed, policy, exitInvalid},
		"of another workflow":     {w.Image, stranger, exitPolicy},
		"another UKI on the disk": {disk, policy, exitPolicy}, // which no manifest names: it is measured, and the machine ended at once
	} {
		code, out, errOut := w.kettle(t, "image", "run", tt.folder, "--policy", tt.policy, "--trusted-root", filepath.Join(w.Dir, "trusted_root.json"),
			"--simulator", w.Simulator(), "--profile", "uki", "--json")
		if code != tt.code || bytes.Contains(out, []byte("launched")) {
			t.Errorf("%s: code %d\n%s\n%s", name, code, out, errOut)
		}
	}
}
