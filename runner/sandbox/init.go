// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// What the sandbox's first process needs of kettled lies in one directory: the script that it runs, a pipe for the exit
// code and one for what the runner program writes.
const (
	initMount   = "/run/kettle-init" // inside
	startScript = "start"
	endPipe     = "end"
	outputPipe  = "output"
)

// Programs of the image.
const (
	smallInit   = "/usr/bin/catatonit"
	systemdInit = "/usr/lib/systemd/systemd"
)

// arguments of the sandbox's first process.
func (c Config) arguments() []string {
	if c.Init == Systemd {
		return []string{systemdInit, "--unit=multi-user.target"}
	}
	return []string{smallInit, "--", "/bin/sh", initMount + "/" + startScript}
}

// The first process does not end with the runner program: what the job has left running would die unseen with the pid
// namespace. The script reports the exit code and then stands still until kettled, having looked, kills everything. A job
// that reports one itself, or kills the script, ends its own sandbox and nothing else.
func (c Config) script(argv []string) string {
	var b strings.Builder
	if c.Init == Systemd { // whose services do not inherit its output
		fmt.Fprintf(&b, "exec >%s/%s 2>&1\n", initMount, outputPipe)
	}
	for _, arg := range argv {
		fmt.Fprintf(&b, "'%s' ", strings.ReplaceAll(arg, "'", `'\''`))
	}
	fmt.Fprintf(&b, "\necho $? >%s/%s\nkill -STOP $$\n", initMount, endPipe)
	return b.String()
}

// writeInit fills the directory. Both pipes belong to the runner's user, who may only write.
func (c Config) writeInit(argv, env []string) error {
	dir := c.state("init")
	for _, name := range []string{endPipe, outputPipe} {
		pipe := filepath.Join(dir, name)
		if err := unix.Mkfifo(pipe, 0o200); err != nil {
			return fmt.Errorf("making the pipe %s: %w", name, err)
		}
		if err := os.Chown(pipe, idBase+User, idBase+User); err != nil {
			return fmt.Errorf("making the pipe %s: %w", name, err)
		}
	}
	files := map[string]string{startScript: c.script(argv)}
	if c.Init == Systemd {
		files[unitName] = c.unit(env)
	}
	for name, text := range files {
		file := filepath.Join(dir, name)
		err := os.WriteFile(file, []byte(text), 0o644)                  //nolint:gosec // the job may read it.
		if err := errors.Join(err, os.Chmod(file, 0o644)); err != nil { //nolint:gosec // the same.
			return fmt.Errorf("writing what the sandbox's first process runs: %w", err)
		}
	}
	return nil
}

// Where systemd finds the unit that runs the script (systemd.unit(5)).
const (
	unitName  = "kettle-runner.service"
	unitMount = "/run/systemd/system/" + unitName
	unitWant  = "etc/systemd/system/multi-user.target.wants/" + unitName
)

// unit runs the script as soon as the system can run anything, beside the other services. Its variables come from the
// environment of systemd itself, where no other service sees them. When the script ends, which it does only by force, the
// sandbox ends with its status.
func (c Config) unit(env []string) string {
	var names []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
	}
	return fmt.Sprintf(`[Unit]
Description=The runner program
SuccessAction=exit-force
FailureAction=exit-force

[Service]
Type=exec
User=runner
WorkingDirectory=%s
PassEnvironment=%s
ExecStart=/bin/sh %s/%s
StandardOutput=null
LimitNOFILE=%d
LimitCORE=0
TasksMax=infinity
`, RunnerRoot, strings.Join(names, " "), initMount, startScript, c.Limits.Files)
}
