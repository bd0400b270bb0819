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

const cgroupRoot = "/sys/fs/cgroup"

// hardening is what one written line can close before any other program runs. Modules stay as they are from here on.
var hardening = map[string]string{
	"kernel/modules_disabled":          "1",
	"kernel/kexec_load_disabled":       "1",
	"kernel/sysrq":                     "0",
	"kernel/dmesg_restrict":            "1",
	"kernel/kptr_restrict":             "2",
	"kernel/perf_event_paranoid":       "3",
	"kernel/unprivileged_bpf_disabled": "1",
	"kernel/core_pattern":              "/dev/null",
	"fs/suid_dumpable":                 "0",
	"fs/protected_symlinks":            "1",
	"fs/protected_hardlinks":           "1",
	"fs/protected_fifos":               "2",
	"fs/protected_regular":             "2",
}

// secondStage prepares the root, starts the supervisor and stays as PID 1 until it ends. What it returns says why.
func secondStage(ctx context.Context) error {
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
	environ, err := state{RootSize: before.RootSize, Phases: watch.phases}.environ()
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
	if err := writeSettings("/proc/sys", hardening); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
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

// writeSettings writes every setting. Only one that this kernel does not have may be left out.
func writeSettings(root string, settings map[string]string) error {
	for name, value := range settings {
		if err := writeSetting(filepath.Join(root, name), value); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return nil
}

func writeSetting(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // proc and sysfs; a parameter for tests.
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
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
