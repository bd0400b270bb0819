// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestWriteSettings(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := write(t, filepath.Join(root, "kernel/sysrq"), "16\n")
	write(t, filepath.Join(root, "kernel/modprobe"), "/")
	if err := writeSettings(root, []setting{{"kernel/sysrq", "0", ""}, {"kernel/modprobe", "", ""}}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(got), "0\n") {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestAttackSettingThatDoesNotTake writes to what takes every line and keeps none, as a kernel may.
func TestAttackSettingThatDoesNotTake(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Symlink(os.DevNull, filepath.Join(root, "sysrq")); err != nil {
		t.Fatal(err)
	}
	if err := writeSettings(root, []setting{{"sysrq", "0", ""}}); err == nil || !strings.Contains(err.Error(), `should be "0" and is ""`) {
		t.Errorf("a setting that did not take: %v", err)
	}
}

// TestAttackKernelWithoutSetting boots, so to speak, a kernel that lacks one.
func TestAttackKernelWithoutSetting(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := writeSettings(root, []setting{{"absent", "1", ""}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a setting that this kernel lacks: %v", err)
	}
	if err := os.Mkdir(filepath.Join(root, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeSettings(root, []setting{{"folder", "1", ""}}); err == nil {
		t.Error("a setting that cannot be written was left out")
	}
}

// TestSettings demands a reason for each line, and each line once.
func TestSettings(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, s := range settings() {
		if s.reason == "" || seen[s.name] || filepath.Clean("/"+s.name) != "/"+s.name || strings.Join(strings.Fields(s.value), " ") != s.value {
			t.Errorf("%+v", s)
		}
		seen[s.name] = true
	}
}

func TestAttackKernelNotLockedDown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lockdown")
	for text, ok := range map[string]bool{
		"none [integrity] confidentiality\n": true, "[none] integrity confidentiality\n": false, "none integrity [confidentiality]\n": false, "": false,
	} {
		write(t, path, text)
		if err := lockedDown(path); (err == nil) != ok {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if err := lockedDown(path + ".not"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a kernel that cannot be locked down: %v", err)
	}
}

func TestAttackDieForMemory(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "score"), "0\n")
	if err := survives(path); err == nil || !strings.Contains(err.Error(), "its score is 0") {
		t.Errorf("got %v", err)
	}
	if err := survive(path); err != nil {
		t.Errorf("got %v", err)
	}
	if err := survive(os.DevNull); err == nil {
		t.Error("a score that did not take")
	}
}

// AsVictim makes a test program the process that is attacked: it hides itself if told so, says that it is ready, and waits.
const AsVictim = "KETTLE_TEST_VICTIM"

// Victim is that process.
func Victim(kind string) int {
	if kind == "hidden" {
		if err := hide(); err != nil {
			return 1
		}
	}
	_, err := os.Stdout.WriteString("ready\n")
	_, _ = os.Stdin.Read(make([]byte, 1))
	if err != nil {
		return 1
	}
	return 0
}

// TestAttackReadAHiddenProcess reads, as the same user without any right, the environment of a process that hides itself
// and, to show that the attack works, of one that does not.
func TestAttackReadAHiddenProcess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become two processes of nobody")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}, Pdeathsig: syscall.SIGKILL}
	for kind, readable := range map[string]bool{"visible": true, "hidden": false} {
		victim := exec.CommandContext(t.Context(), "/proc/self/fd/3") //nolint:gosec // this program.
		file, err := os.Open(program)                                 //nolint:gosec // this program.
		if err != nil {
			t.Fatal(err)
		}
		victim.Dir, victim.ExtraFiles = "/", []*os.File{file}
		victim.Env, victim.SysProcAttr = []string{AsVictim + "=" + kind, "SECRET=of kettled"}, nobody
		stdin, err := victim.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := victim.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(victim.Start(), file.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := stdout.Read(make([]byte, 16)); err != nil {
			t.Fatalf("%s: it is not ready: %v", kind, err)
		}
		attack := exec.CommandContext(t.Context(), "cat", "/proc/"+strconv.Itoa(victim.Process.Pid)+"/environ") //nolint:gosec // a process of this test.
		attack.Dir, attack.SysProcAttr = "/", nobody
		said, err := attack.Output()
		if got := err == nil && strings.Contains(string(said), "SECRET=of kettled"); got != readable {
			t.Errorf("%s: readable: %v, %v", kind, got, err)
		}
		if err := errors.Join(stdin.Close(), victim.Wait()); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
