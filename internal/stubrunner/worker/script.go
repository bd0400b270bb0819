// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// shell is a program with the form of its arguments; "{0}" stands for the script.
type shell struct {
	program string
	args    string
	suffix  string
}

func builtinArgs(name string) string {
	switch strings.ToLower(name) {
	case "bash":
		return "--noprofile --norc -e -o pipefail {0}"
	case "sh":
		return "-e {0}"
	case "python":
		return "{0}"
	case "pwsh", "powershell":
		return `-command ". '{0}'"`
	default:
		return ""
	}
}

func suffix(name string) string {
	switch strings.ToLower(name) {
	case "bash", "sh":
		return ".sh"
	case "python":
		return ".py"
	case "pwsh", "powershell":
		return ".ps1"
	default:
		return ""
	}
}

var errShell = errors.New("Invalid shell option. Shell must be a valid built-in (bash, sh, cmd, powershell, pwsh) " + //nolint:staticcheck // The real runner's words.
	"or a format string containing '{0}'")

// findShell reads a step's shell option; without one the script runs with bash, or sh where there is none.
func (j *Job) findShell(option string) (shell, error) {
	if option == "" {
		program, err := j.which("bash")
		if err != nil {
			program, err = j.which("sh")
		}
		return shell{program: program, args: builtinArgs("sh"), suffix: ".sh"}, err
	}
	name, args, _ := strings.Cut(option, " ")
	program, err := j.which(name)
	if err != nil {
		return shell{}, err
	}
	args = strings.TrimLeft(args, " ")
	if args == "" {
		args = builtinArgs(name)
	}
	if !strings.Contains(args, "{0}") {
		return shell{}, errShell
	}
	return shell{program: program, args: args, suffix: suffix(name)}, nil
}

// which finds a program in the folders of GITHUB_PATH, then in the Worker's PATH.
func (j *Job) which(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dirs := slices.Clone(j.paths)
	slices.Reverse(dirs)
	for _, dir := range append(dirs, filepath.SplitList(j.environ["PATH"])...) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: command not found", name)
}

// runScript writes a step's script to a file and runs it.
func (f *frame) runScript(ctx context.Context, given inputs) error {
	option := given.Text("shell")
	if option == "" && f.scope == "" {
		option = f.job.defaults["shell"]
	}
	sh, err := f.job.findShell(option)
	if err != nil {
		return err
	}
	script := given.Text("script")
	f.printScript(script, sh)
	wd, set := given.Get("workingDirectory")
	dir, _ := wd.(string)
	if !set && f.scope == "" {
		dir = f.job.defaults["working-directory"]
	}
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(f.github.Text("workspace"), dir)
	}
	path := filepath.Join(f.job.config.temp(), uuid.NewString()+sh.suffix)
	if err := os.WriteFile(path, []byte(script), 0o644); err != nil { //nolint:gosec // As the real runner's file.
		return fmt.Errorf("writing script: %w", err)
	}
	return f.runShell(ctx, sh, path, dir)
}

// runShell runs a script file with a shell in a folder.
func (f *frame) runShell(ctx context.Context, sh shell, path, dir string) error {
	return f.runFile(ctx, command{program: sh.program, dir: dir, env: f.environment()}, sh, path)
}

func (f *frame) runFile(ctx context.Context, spec command, sh shell, path string) error {
	for _, arg := range splitArguments(sh.args) {
		spec.args = append(spec.args, strings.ReplaceAll(arg, "{0}", path))
	}
	code, err := f.runCommand(ctx, spec)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("Process completed with exit code %d.", code) //nolint:revive,staticcheck // The real runner's words.
	}
	return nil
}

func (f *frame) printScript(script string, sh shell) {
	f.output("##[group]Run " + firstLine(script))
	for line := range strings.SplitSeq(strings.TrimRight(strings.ReplaceAll(script, "\r\n", "\n"), "\n"), "\n") {
		f.output("\x1b[36;1m" + line + "\x1b[0m")
	}
	f.output("shell: " + sh.program + " " + sh.args)
	f.printEnv()
	f.output("##[endgroup]")
}

// splitArguments cuts a command line at spaces outside of double quotes.
func splitArguments(line string) []string {
	var out []string
	var current strings.Builder
	quoted, open := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, open = !quoted, true
		case r == ' ' && !quoted:
			if open {
				out = append(out, current.String())
				current.Reset()
				open = false
			}
		default:
			current.WriteRune(r)
			open = true
		}
	}
	if open {
		out = append(out, current.String())
	}
	return out
}

// runHookShell runs a hook with a shell in the workspace.
func (f *frame) runHookShell(ctx context.Context, sh shell, path string) error {
	spec := command{program: sh.program, dir: f.github.Text("workspace"), env: f.hookEnvironment()}
	return f.runFile(ctx, spec, sh, path)
}
