// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tool is one run of a program.
type tool struct {
	name string
	args []string
	dir  string
	env  []string // the whole environment; nil means this process's
	// contained gives the program namespaces of its own for mounts and processes: whatever it mounts or starts ends with
	// it, however it ends. It also has no network, not even to this machine itself.
	contained bool
}

// toolEnv is the environment of the programs whose work goes into an image: nothing of the caller's but where programs
// are found.
func toolEnv(temporary string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C.UTF-8", "TZ=UTC", "SOURCE_DATE_EPOCH=" + sourceDateEpoch, "TMPDIR=" + temporary,
	}
}

// run gives the program's standard output. On failure the error holds the end of what it said.
func run(ctx context.Context, t tool) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.name, t.args...) //nolint:gosec // our own arguments.
	cmd.Dir, cmd.Env = t.dir, t.env
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if t.contained {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC
		cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS // makes every mount private first.
	}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("running %s: %w: %s", t.name, err, lastLines(complaint.String()))
	}
	return out.Bytes(), nil
}

// lastLines keeps the end of a program's complaints, where the reason usually is.
func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	const most = 8
	return strings.Join(lines[max(0, len(lines)-most):], " | ")
}
