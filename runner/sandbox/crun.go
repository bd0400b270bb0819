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

// crun drives the container runtime for one container.
type crun struct {
	program string
	root    string // its state, private
	id      string
}

// create makes the container, whose first process gets output as stdout and stderr, and returns that process's id.
func (c crun) create(ctx context.Context, bundle string, output *os.File) (int, error) {
	pidFile := filepath.Join(bundle, "pid")
	if err := c.run(ctx, output, "create", "--bundle", bundle, "--pid-file", pidFile, c.id); err != nil {
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
// without the caller's variables. The first process does not read it: it has its own from before it was copied.
func (c crun) disown(spec *specs.Spec) error {
	file := filepath.Join(c.root, c.id, "config.json")
	if _, err := os.Lstat(file); errors.Is(err, os.ErrNotExist) {
		return nil // a crun that keeps none
	}
	return writeSpec(file, spec)
}

func (c crun) start(ctx context.Context) error { return c.run(ctx, nil, "start", c.id) }

func (c crun) remove(ctx context.Context) error { return c.run(ctx, nil, "delete", "--force", c.id) }

// run executes one command. crun writes its errors into a file of their own, since stderr is the container's.
func (c crun) run(ctx context.Context, output *os.File, command string, args ...string) error {
	logFile := filepath.Join(c.root, "log-"+command)
	full := append([]string{"--root", c.root, "--cgroup-manager", "cgroupfs", "--log", "file:" + logFile, "--log-format", "json", command}, args...)
	cmd := exec.CommandContext(ctx, c.program, full...) //nolint:gosec // the path is part of the measured configuration.
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	var own bytes.Buffer
	if output != nil {
		cmd.Stdout, cmd.Stderr = output, output
	} else {
		cmd.Stderr = &own
	}
	if err := cmd.Run(); err != nil {
		said := errors.Join(messages(logFile), trimmed(own.String()))
		return fmt.Errorf("running crun %s: %w", command, errors.Join(err, said))
	}
	return nil
}

// messages turns crun's log, one JSON object a line with a "msg", into one error.
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
