// SPDX-License-Identifier: Apache-2.0

// Package proc lists the processes this one can see and ends trees of them.
//
// Guarantees: nothing about processes that start meanwhile. Trusts: /proc. Does not: wait for an end.
package proc

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Process is what /proc tells of one process.
type Process struct {
	// PID and Parent are the numbers of the process and of its parent.
	PID, Parent int
	// Name is the kernel's name of the process.
	Name string
}

// List lists the processes this one can see.
func List() []Process {
	dirs, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil
	}
	var out []Process
	for _, path := range dirs {
		text, err := os.ReadFile(path) //nolint:gosec // A file of the kernel.
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid …; the name may hold spaces and parentheses (proc_pid_stat(5))
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if open < 1 || end < open {
			continue
		}
		pid, errPid := strconv.Atoi(strings.TrimSpace(string(text[:open])))
		fields := strings.Fields(string(text[end+1:]))
		if errPid != nil || len(fields) < 2 {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		out = append(out, Process{PID: pid, Parent: parent, Name: string(text[open+1 : end])})
	}
	return out
}

// KillTree ends a process and its descendants with SIGKILL.
func KillTree(root int) {
	children := map[int][]int{}
	for _, p := range List() {
		children[p.Parent] = append(children[p.Parent], p.PID)
	}
	pending := []int{root}
	for len(pending) > 0 {
		pid := pending[0]
		pending = append(pending[1:], children[pid]...)
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by now
	}
}
