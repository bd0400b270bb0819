// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"fmt"
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
	// contained gives the program mount and process namespaces of its own: whatever it mounts or starts ends with it,
	// however it ends.
	contained bool
}

// run gives the program's standard output. On failure the error holds the end of what it said.
func run(ctx context.Context, t tool) ([]byte, error) {
	cmd := exec.CommandContext(ctx, t.name, t.args...) //nolint:gosec // our own arguments.
	cmd.Dir, cmd.Env = t.dir, t.env
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if t.contained {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID
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
