// SPDX-License-Identifier: Apache-2.0

package listener

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// inputPrefix marks the environment variables that stand for arguments.
const inputPrefix = "ACTIONS_RUNNER_INPUT_"

// Options is the command line.
type Options struct {
	// Run says that "run" was asked for.
	Run bool
	// Once says that one job ends the runner even if it is not ephemeral.
	Once bool
	// JIT is the JIT configuration, if there is one.
	JIT string
	// Unknown are the arguments that mean nothing.
	Unknown []string
}

// ParseOptions reads the arguments after the program's name. What they lack is taken from ACTIONS_RUNNER_INPUT_….
func ParseOptions(args, environ []string) Options {
	var o Options
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		switch strings.ToLower(name) {
		case "run":
			o.Run = true
		case "--once":
			o.Once = true
		case "--jitconfig":
			if !joined && i+1 < len(args) {
				i++
				value = args[i]
			}
			o.JIT = value
		case "--startuptype":
			if !joined {
				i++
			}
		default:
			o.Unknown = append(o.Unknown, args[i])
		}
	}
	if len(args) == 0 {
		o.Run = true
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch strings.ToUpper(name) {
		case inputPrefix + "JITCONFIG":
			if o.JIT == "" {
				o.JIT = value
			}
		case inputPrefix + "ONCE":
			o.Once = o.Once || strings.EqualFold(value, "true") || value == "1"
		}
	}
	return o
}

// ClearInputs removes every ACTIONS_RUNNER_INPUT_… from this process's environment, so that no child inherits it.
func ClearInputs() error {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(strings.ToUpper(name), inputPrefix) {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("clearing environment: %w", err)
			}
		}
	}
	return nil
}

// LoadEnvFile puts the "K=V" lines of <root>/.env into this process's environment. There is no quoting; an empty value
// removes the variable, as in the real runner.
func LoadEnvFile(root string) error {
	file, err := os.Open(filepath.Join(root, ".env")) //nolint:gosec // A fixed name in the runner's root.
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading environment file: %w", err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), "=")
		if !ok || name == "" {
			continue
		}
		if value == "" {
			err = os.Unsetenv(name)
		} else {
			err = os.Setenv(name, value)
		}
		if err != nil {
			return fmt.Errorf("setting environment: %w", err)
		}
	}
	return lines.Err()
}
