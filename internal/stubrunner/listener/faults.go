// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// FaultsVariable is the environment variable, or line of <root>/.env, that holds the fault switches. The comment of package
// stubrunner has their table.
const FaultsVariable = "STUBRUNNER_FAULTS"

// The points of a runner's life at which a switch can act.
const (
	PointStart     = "start"     // configured, no session yet
	PointListening = "listening" // "Listening for Jobs" was said
	PointOffered   = "offered"   // an offer was acknowledged, not acquired
	PointAcquired  = "acquired"  // the job is in progress, there is no Worker yet
	PointRunning   = "running"   // the Worker has the job
	PointFinished  = "finished"  // the Worker has ended, the registration's files are still there
)

// Faults are the switches. The zero Faults is a runner that behaves.
type Faults struct {
	// IgnoreStop makes the Listener deaf to SIGTERM and SIGINT.
	IgnoreStop bool
	// Ghost ignores every offer and goes on listening.
	Ghost bool
	// NoHooks starts the Worker without its hooks.
	NoHooks bool
	// Version is the version to claim; empty: the real one.
	Version string

	points map[string][]deed
}

// deed is what happens at a point.
type deed struct {
	kind string // crash, hang, exit or daemon
	code int    // of exit
}

// ParseFaults reads switches: words separated by commas, each name[=value][@point].
func ParseFaults(text string) (Faults, error) {
	f := Faults{points: map[string][]deed{}}
	var failures []error
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			failures = append(failures, f.parse(word))
		}
	}
	return f, errors.Join(failures...)
}

func (f *Faults) parse(word string) error {
	rest, point, placed := strings.Cut(word, "@")
	name, value, valued := strings.Cut(rest, "=")
	points := []string{PointStart, PointListening, PointOffered, PointAcquired, PointRunning, PointFinished}
	acts := slices.Contains([]string{"crash", "hang", "exit", "daemon"}, name)
	takes := name == "exit" || name == "version"
	if acts != placed || placed && !slices.Contains(points, point) || takes != valued {
		return fmt.Errorf("reading fault switch %q: its value or its point does not fit", word)
	}
	switch name {
	case "ignore-sigterm":
		f.IgnoreStop = true
	case "ghost":
		f.Ghost = true
	case "no-hooks":
		f.NoHooks = true
	case "version":
		f.Version = value
	case "crash", "hang", "daemon":
		f.points[point] = append(f.points[point], deed{kind: name})
	case "exit":
		code, err := strconv.ParseUint(value, 10, 8)
		if err != nil {
			return fmt.Errorf("reading fault switch %q: %w", word, err)
		}
		f.points[point] = append(f.points[point], deed{kind: name, code: int(code)})
	default:
		return fmt.Errorf("reading fault switch %q: there is none of that name", word)
	}
	return nil
}

// exitError ends the program with a code.
type exitError struct{ code int }

// Error implements error.
func (e *exitError) Error() string {
	return "a fault switch ends the runner with " + strconv.Itoa(e.code)
}

// reach does what the switches say of a point. An error ends the program. A hang ends when the runner is asked to stop.
func (l *Listener) reach(ctx context.Context, stop <-chan struct{}, point string) error {
	for _, d := range l.Faults.points[point] {
		l.Trace.Info("Faults", d.kind+" at "+point)
		switch d.kind {
		case "crash":
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				return fmt.Errorf("crashing: %w", err)
			}
			select {} // the signal is on its way
		case "hang":
			<-stop
			return context.Canceled
		case "exit":
			return &exitError{d.code}
		case "daemon":
			if err := l.leaveDaemon(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// DaemonName is the name under which the program is the process that outlives a job.
const DaemonName = "Runner.Daemon"

// daemonLife bounds a daemon that nobody ends.
const daemonLife = 10 * time.Minute

// leaveDaemon forks twice: the first child is in a session of its own and ends at once, so that nobody is the second's parent.
func (l *Listener) leaveDaemon(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding daemon program: %w", err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program, "fork", filepath.Join(l.Root, "_diag", "daemon.pid")) //nolint:gosec // This program.
	cmd.Args[0] = DaemonName
	cmd.Env = []string{} // nothing that tells whose it is
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("leaving daemon: %w", err)
	}
	return nil
}

// Daemon is the program under [DaemonName]: "fork <file>" starts the process that stays and writes its number into the file.
func Daemon(ctx context.Context, args []string) error {
	if len(args) == 0 {
		select {
		case <-ctx.Done():
		case <-time.After(daemonLife):
		}
		return nil
	}
	if len(args) != 2 || args[0] != "fork" {
		return errors.New("the daemon is started by the Listener")
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding daemon program: %w", err)
	}
	cmd := exec.CommandContext(ctx, program) //nolint:gosec // This program.
	cmd.Args[0] = DaemonName
	cmd.Env = []string{}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting daemon: %w", err)
	}
	if err := os.WriteFile(args[1], []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return errors.Join(fmt.Errorf("noting daemon: %w", err), cmd.Process.Kill())
	}
	return cmd.Process.Release()
}
