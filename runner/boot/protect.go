// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// hide makes this process show its memory, environment and open files to no process but those with CAP_SYS_PTRACE in the
// machine's own user namespace, and leave no core dump (prctl(2), PR_SET_DUMPABLE; ptrace(2), access mode checking).
// Executing a program ends it, so that each stage begins with it.
func hide() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core dumps: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hiding this process: %w", err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		return errors.Join(fmt.Errorf("hiding this process: it is dumpable (%d)", dumpable), err)
	}
	return nil
}

// lockMemory keeps every page of this process in memory from when it is first touched: no key in it is ever written
// anywhere, and no page of its program has to be read again while a job fills the machine. Pages that the Go runtime only
// reserves are not filled (mlockall(2), MCL_ONFAULT). Executing a program ends it.
func lockMemory() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("locking this process's memory: %w", err)
	}
	return nil
}

// openFiles is how many files the supervisor may have open: two for each connection that the gate carries, two for each
// output that is held, and room.
const openFiles = 1 << 14

// allowFiles lets this process open as many files as the job can make it open. The kernel begins with 4096.
func allowFiles() error {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: openFiles, Max: openFiles}); err != nil {
		return fmt.Errorf("allowing open files: %w", err)
	}
	return nil
}

// neverOOM is the score of what the kernel never kills when memory runs out (proc(5), oom_score_adj). Processes inherit
// it; the sandbox gives its own another.
const neverOOM = "-1000"

// survive keeps this process and those that it starts from being chosen when memory runs out.
func survive(path string) error {
	if err := writeSetting(path, neverOOM); err != nil {
		return fmt.Errorf("setting the score for when memory runs out: %w", err)
	}
	return survives(path)
}

// survives demands that an earlier stage has seen to it.
func survives(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // proc; a parameter for tests.
	if err != nil {
		return fmt.Errorf("asking for the score for when memory runs out: %w", err)
	}
	if got := string(bytes.TrimSpace(text)); got != neverOOM {
		return fmt.Errorf("the kernel may kill this process when memory runs out: its score is %s", got)
	}
	return nil
}
