// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ociRuntime drives one container runtime for one container. Deleting it is not among the commands: kettled kills the
// processes, removes the cgroup and the runtime's state itself, within a bound that a job cannot stretch.
type ociRuntime struct {
	kind    string // crun or runc
	version string
	program string
	root    string // its state, private
	id      string
}

// String names the runtime for the statement.
func (r ociRuntime) String() string { return r.kind + " " + r.version }

// create makes the container, whose first process gets output as stdout and stderr, and returns that process's id.
func (r ociRuntime) create(ctx context.Context, bundle string, output *os.File) (int, error) {
	pidFile := filepath.Join(bundle, "pid")
	if err := r.run(ctx, output, "create", "--bundle", bundle, "--pid-file", pidFile, r.id); err != nil {
		return 0, err
	}
	raw, err := os.ReadFile(pidFile) //nolint:gosec // a file of our own folder.
	if err != nil {
		return 0, fmt.Errorf("reading the sandbox's first process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, fmt.Errorf("reading the sandbox's first process: %w", err)
	}
	return pid, nil
}

// disown replaces the copy of the configuration that crun has made for its later commands, and which they need, by one
// without the caller's variables. The first process does not read it: it has its own from before it was copied. runc
// keeps none.
func (r ociRuntime) disown(spec *specs.Spec) error {
	file := filepath.Join(r.root, r.id, "config.json")
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return writeSpec(file, spec)
}

func (r ociRuntime) start(ctx context.Context) error { return r.run(ctx, nil, "start", r.id) }

// arguments come before every command. Both runtimes write errors into a file of their own, since stderr is the
// container's, and drive the cgroup file system themselves: crun has to be told.
func (r ociRuntime) arguments(logFile string) []string {
	args := []string{"--root", r.root, "--log-format", "json", "--log"}
	if r.kind == crunKind {
		return append(args, "file:"+logFile, "--cgroup-manager", "cgroupfs")
	}
	return append(args, logFile)
}

// run executes one command.
func (r ociRuntime) run(ctx context.Context, output *os.File, command string, args ...string) error {
	logFile := filepath.Join(r.root, "log-"+command)
	full := append(append(r.arguments(logFile), command), args...)
	cmd := exec.CommandContext(ctx, r.program, full...) //nolint:gosec // the path is part of the measured configuration.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	var own bytes.Buffer
	if output != nil {
		cmd.Stdout, cmd.Stderr = output, output
	} else {
		cmd.Stderr = &own
	}
	if err := cmd.Run(); err != nil {
		said := errors.Join(messages(logFile), trimmed(own.String()))
		return fmt.Errorf("running %s %s: %w", r.kind, command, errors.Join(err, said))
	}
	return nil
}

// messages turns a runtime's log, one JSON object a line with a "msg", into one error.
func messages(logFile string) error {
	f, err := os.Open(logFile) //nolint:gosec // a file of our own folder.
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return err
	}
	var said []error
	for line := range strings.Lines(string(raw)) {
		var entry struct {
			Msg string `json:"msg"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			entry.Msg = line
		}
		said = append(said, trimmed(entry.Msg))
	}
	return errors.Join(said...)
}

func trimmed(text string) error {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil
	}
	return errors.New(text)
}
