// SPDX-License-Identifier: Apache-2.0

//go:build vms

package soak_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/test/stage"
)

// verified has the real program judge what a machine attested, as its job made it and with one letter changed.
func (v *vms) verified(e ended, run *fakegithub.Run, fault func(string, ...any)) {
	bundle := e.files["response-1.intoto.jsonl"]
	if bundle == nil || run == nil {
		return
	}
	runner := ""
	for _, r := range v.world.github.Runs() {
		if r.ID == run.ID {
			runner = r.Jobs[0].RunnerName
		}
	}
	dir := v.t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	keys, err := stage.Trust(v.world.github, v.world.server, time.Now())
	if err != nil {
		fault("%v", err)
		return
	}
	err = errors.Join(
		os.WriteFile(file("out.txt.intoto.jsonl"), bundle, 0o600), os.WriteFile(file("keys.json"), keys, 0o600),
		os.WriteFile(file("roots.pem"), v.simulator.RootsPEM(), 0o600),
		os.WriteFile(file("policy.yaml"), fmt.Appendf(nil, consumerPolicy, hex.EncodeToString(v.measurement[:]), v.world.server), 0o600),
	)
	if err != nil {
		fault("%v", err)
		return
	}
	made := fmt.Sprintf("%d %s\n", run.ID, runner)
	for text, want := range map[string]int{made: 0, made[1:]: 3} {
		if err := os.WriteFile(file("out.txt"), []byte(text), 0o600); err != nil {
			fault("%v", err)
			return
		}
		cmd := exec.CommandContext(v.t.Context(), filepath.Join(v.stage.Bin, "kettle"), "verify", file("out.txt"),
			"--policy", file("policy.yaml"), "--root", file("roots.pem"), "--trusted-root", file("keys.json"))
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != want {
			fault("kettle verify of %q ended with %d, want %d: %s", text, cmd.ProcessState.ExitCode(), want, out)
		}
	}
}
