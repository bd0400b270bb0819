// SPDX-License-Identifier: Apache-2.0

// Package soak_test runs many jobs, one environment each, while things go wrong.
//
// An environment is a process in PID and mount namespaces of its own: killing it kills everything in it at once, as a
// power cut does. In it live the real agent, GitHub client, identifier, policy, simulated secure processor, sink, door and
// journal; the runner program is the stand-in, in a process group instead of a sandbox. Outside are the stand-in for
// GitHub, which can misbehave, and the real launcher's side: the channel, the copy of the journal, the reaper.
//
// scripts/soak runs a thousand jobs. What a VM adds, its boot, sandbox, gate and power, is in the other half, with the build tag
// vms: there each environment is a machine that kettle-dispatch itself starts, with the stand-in for the runner program in its
// image. Both have the same faults, the same books and the same verifier.
package soak_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// roleVariable makes this program an environment instead of a test.
const roleVariable = "KETTLE_SOAK_ENVIRONMENT"

func TestMain(m *testing.M) {
	if text := os.Getenv(roleVariable); text != "" {
		if err := environment([]byte(text)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// programs are what an environment starts.
type programs struct{ listener, action string }

// build makes them once.
func build(t *testing.T) programs {
	t.Helper()
	dir := t.TempDir()
	p := programs{filepath.Join(dir, "Runner.Listener"), filepath.Join(dir, "kettle-action")}
	for out, pkg := range map[string]string{p.listener: "internal/stubrunner/cmd/stubrunner", p.action: "cmd/kettle-action"} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", out, "github.com/kettle/attest/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", pkg, err, text)
		}
	}
	return p
}
