// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	oomScore   = "/proc/self/oom_score_adj"
)

// secondStage prepares the root, starts the supervisor and stays as PID 1 until it ends. What it returns says why.
func secondStage(ctx context.Context) error {
	if err := errors.Join(hide(), survive(oomScore)); err != nil {
		return fmt.Errorf("boot stopped: %w", err)
	}
	var before state
	if err := json.Unmarshal([]byte(os.Getenv(handover)), &before); err != nil {
		return fmt.Errorf("boot stopped: reading the boot handover: %w", err)
	}
	watch := stopwatch{phases: before.Phases}
	if n := len(before.Phases); n > 0 {
		watch.last = before.Phases[n-1].Start + before.Phases[n-1].Duration
	}
	if err := prepareRoot(ctx); err != nil {
		return fmt.Errorf("boot stopped: %w", err)
	}
	watch.lap("root-prepare")
	environ, err := state{Phases: watch.phases}.environ()
	if err != nil {
		return fmt.Errorf("boot stopped: %w", err)
	}
	return supervise(environ)
}

func prepareRoot(ctx context.Context) error {
	if err := mountAll(lateMounts); err != nil {
		return err
	}
	if err := enableControllers(cgroupRoot); err != nil {
		return err
	}
	if err := Harden(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("kettle")); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	return raiseLoopback(ctx)
}

// enableControllers lets every controller of the root be used in the groups below it.
func enableControllers(root string) error {
	text, err := os.ReadFile(filepath.Join(root, "cgroup.controllers")) //nolint:gosec // the cgroup file system.
	if err != nil {
		return fmt.Errorf("listing the cgroup controllers: %w", err)
	}
	for _, name := range strings.Fields(string(text)) {
		if err := writeSetting(filepath.Join(root, "cgroup.subtree_control"), "+"+name); err != nil {
			return fmt.Errorf("enabling the cgroup controller %s: %w", name, err)
		}
	}
	return nil
}

// supervise starts the third stage and reaps every orphan until it ends. The supervisor itself is not PID 1, so that
// it may wait for its own children by the ordinary ways, and so that its crash still ends in a sentence.
func supervise(environ []string) error {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("boot stopped: %w", err)
	}
	child, err := syscall.ForkExec("/proc/self/exe", []string{"kettled"}, &syscall.ProcAttr{ //nolint:gosec // this program again.
		Dir: "/", Env: environ, Files: []uintptr{null.Fd(), 1, 2},
	})
	if err = errors.Join(err, null.Close()); err != nil {
		return fmt.Errorf("boot stopped: starting the supervisor: %w", err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for the supervisor: %w", err)
		case pid == child && status.Signaled():
			return fmt.Errorf("the supervisor was killed by a signal: %s", status.Signal())
		case pid == child:
			return fmt.Errorf("the supervisor ended with status %d", status.ExitStatus())
		}
	}
}
