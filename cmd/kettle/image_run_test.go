// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/runner/channel"
)

// runFolder writes the files that a signed image is verified and started from.
func runFolder(t *testing.T) (dir string, flags []string) {
	t.Helper()
	dir = t.TempDir()
	for name, b := range signedFiles(t) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, []string{"--policy", filepath.Join(dir, "policy.yaml"), "--trusted-root", filepath.Join(dir, "trusted_root.json")}
}

// TestAttackImageRun: nothing is started of an image that was changed, that somebody else signed, that is a debug build, or that
// nobody looked at; and nothing is left behind.
func TestAttackImageRun(t *testing.T) {
	t.Parallel()
	dir, flags := runFolder(t)
	if err := os.WriteFile(filepath.Join(dir, "other", "initrd.cpio"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(policy string) []string {
		return []string{"--policy", filepath.Join(dir, policy), flags[2], flags[3]}
	}
	root := filepath.Join(dir, "root.pem")
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"nobody looked":     {[]string{"image"}, cli.ExitUsage, "--unverified starts it without"},
		"no root":           {append([]string{"image"}, flags[:2]...), cli.ExitUsage, "--trusted-root"},
		"both":              {append([]string{"image", "--unverified"}, flags...), cli.ExitUsage, "--unverified looks at no policy"},
		"changed":           {append([]string{"other"}, flags...), cli.ExitInvalid, "initrd.cpio"},
		"of a fork":         {append([]string{"fork"}, flags...), cli.ExitPolicy, "mallory/images"},
		"of another ref":    {append([]string{"image"}, with("policy-branch.yaml")...), cli.ExitPolicy, "refs/tags/w*"},
		"revoked":           {append([]string{"image"}, with("policy-revoked.yaml")...), cli.ExitInvalid, "revoked"},
		"debug":             {append([]string{"debug"}, flags...), cli.ExitPolicy, "production image"},
		"one file":          {append([]string{"image/uki.efi"}, flags...), cli.ExitUsage, "no image folder"},
		"another's bundle":  {append([]string{"image", "--bundle", filepath.Join(dir, "other", "image.intoto.jsonl")}, flags...), cli.ExitInvalid, "provenance"},
		"debug, unverified": {[]string{"debug", "--unverified", "--profile", "grub"}, cli.ExitUsage, "--profile"},
	} {
		args := append([]string{"image", "run", filepath.Join(dir, tc.args[0])}, tc.args[1:]...)
		code, out, errOut := call(t.Context(), append(args, "--sim-root", root)...)
		if code != tc.code || !strings.Contains(out+errOut, tc.says) || strings.Contains(out, "launched") {
			t.Errorf("%s: code %d, want %d and %q\n%s%s", name, code, tc.code, tc.says, out, errOut)
		}
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a root was written: %v", err)
	}
}

func TestImageRunUsage(t *testing.T) {
	t.Parallel()
	dir, _ := runFolder(t)
	noDisk := filepath.Join(dir, "no-disk")
	builtImage(t, noDisk, measuretest.Plain().Bytes(), nil)
	if err := os.Remove(filepath.Join(noDisk, imageDisk)); err != nil {
		t.Fatal(err)
	}
	for says, args := range map[string][]string{
		"--platform snp needs --vcpu-type":                              {"--platform", "snp"},
		`--platform "sgx"`:                                              {"--platform", "sgx"},
		"--profile uki is for --platform sim":                           {"--platform", "tdx", "--profile", "uki"},
		"--vcpu-type says nothing about --profile direct":               {"--vcpu-type", "EPYC"},
		"--simulator says nothing about --profile direct --platform td": {"--platform", "tdx", "--simulator", "sim"},
		"--variables says nothing about --profile direct":               {"--variables", "vars"},
		"--id-block and --id-auth belong together":                      {"--platform", "snp", "--vcpu-type", "EPYC-Milan", "--id-block", "x"},
		"want two endpoints of IPv4":                                    {"--forward", "10.0.2.100:443"},
		"lets the host debug":                                           {"--platform", "snp", "--vcpu-type", "EPYC-Milan", "--guest-policy", "0xb0000", "--print-command"},
		"at least 128 MiB":                                              {"--memory", "1", "--print-command"},
	} {
		args = append([]string{"image", "run", filepath.Join(dir, "image"), "--unverified"}, args...)
		if code, out, errOut := call(t.Context(), args...); code != cli.ExitUsage || !strings.Contains(errOut, says) {
			t.Errorf("%s: code %d\n%s%s", says, code, out, errOut)
		}
	}
	if code, _, errOut := call(t.Context(), "image", "run", noDisk, "--unverified"); code != cli.ExitUsage || !strings.Contains(errOut, "--format raw makes it") {
		t.Errorf("no disk: code %d, %s", code, errOut)
	}
}

// TestImageRunHardware prints QEMU's command line for hardware that this machine has not got.
func TestImageRunHardware(t *testing.T) {
	t.Parallel()
	dir, flags := runFolder(t)
	for platform, tc := range map[string]struct {
		args []string
		want []string
	}{
		"snp": {[]string{"--vcpu-type", "EPYC-Milan", "--cpus", "2"}, []string{"kernel-hashes=on", "policy=0x30000", "-cpu EPYC-Milan", "-smp 2", "KVM", "sev_snp"}},
		"tdx": {nil, []string{"tdx-guest", "/var/run/tdx-qgs/qgs.socket", "kernel-irqchip=split", "tdx"}},
	} {
		if _, err := os.Stat("/sys/module/kvm_amd/parameters/sev_snp"); err == nil {
			t.Skip("this machine may launch such guests")
		}
		args := append(append([]string{"image", "run", filepath.Join(dir, "image"), "--platform", platform}, tc.args...), flags...)
		code, out, errOut := call(t.Context(), args...)
		if code != cli.ExitUnsupported || !strings.Contains(errOut, "this machine launches no guest on "+platform) || !strings.Contains(errOut, "is verified: signed on") {
			t.Errorf("%s: code %d\n%s%s", platform, code, out, errOut)
		}
		for _, want := range tc.want {
			if want != "KVM" && !strings.Contains(out+errOut, want) {
				t.Errorf("%s: want %q\n%s%s", platform, want, out, errOut)
			}
		}
		code, again, errOut := call(t.Context(), append(args, "--print-command")...)
		if code != cli.ExitOK || again != out {
			t.Errorf("%s: printed alone: code %d\n%s%s", platform, code, again, errOut)
		}
	}
}

// TestImageRunEvents shows the messages of a machine.
func TestImageRunEvents(t *testing.T) {
	t.Parallel()
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		l := newRunLog(&cli.IO{Out: &out, Err: &out}, asJSON, time.Now())
		for _, m := range []channel.Message{
			channel.Hello{Program: "kettled"}, channel.Phase{Name: "self-verified", Elapsed: 1500e6}, channel.Journal{Seq: 0, Line: `{"a":1}`},
			channel.Journal{Seq: 1, Line: "no JSON \x1b"}, channel.Status{State: "idle"}, channel.End{Outcome: "done"},
		} {
			if err := l.show(l.event(m)); err != nil {
				t.Fatal(err)
			}
		}
		wants := []string{"hello     kettled", "phase     self-verified 1.5s", `journal   {"a":1}`, "status    idle", "end       done"}
		if asJSON {
			wants = []string{`"event":"hello"`, `"program":"kettled"`, `"phase":"self-verified","elapsed":1.5`, `"seq":0,"line":{"a":1}`, `"seq":1,"line":"no JSON \u001b"`, `"outcome":"done"`}
		}
		for _, want := range wants {
			if !strings.Contains(out.String(), want) {
				t.Errorf("want %q in %s", want, out.String())
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Error("an escape of the machine's reaches the terminal")
		}
	}
}
