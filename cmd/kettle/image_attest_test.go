// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure/measuretest"
)

// TestImageAttestRefuses signs nothing where something is wrong, and leaves no file behind.
func TestImageAttestRefuses(t *testing.T) {
	t.Parallel()
	dir, i := t.TempDir(), newInstance(t)
	folder, debug := filepath.Join(dir, "image"), filepath.Join(dir, "debug")
	builtImage(t, folder, measuretest.AMDSEV().Bytes(), nil)
	builtImage(t, debug, measuretest.AMDSEV().Bytes(), func(m *image.Manifest) { m.Build = image.Debug })
	altered := filepath.Join(dir, "altered")
	builtImage(t, altered, measuretest.AMDSEV().Bytes(), nil)
	if err := os.WriteFile(filepath.Join(altered, "vmlinuz"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	builtImage(t, plain, measuretest.Plain().Bytes(), nil)
	good := i.flags(t, dir, imageIdentity())
	with := func(n int, value string) []string {
		out := append([]string(nil), good...)
		out[n] = value
		return out
	}
	noJob := filepath.Join(dir, "no-job")
	if err := os.WriteFile(noJob, []byte("e30.e30.e30"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		folder string
		args   []string
		code   int
		says   string
	}{
		"debug":             {debug, append([]string{"--platform", "sim"}, good...), cli.ExitPolicy, "debug"},
		"altered":           {altered, append([]string{"--platform", "sim"}, good...), cli.ExitInvalid, "vmlinuz sha256:"},
		"no folder":         {dir, append([]string{"--platform", "sim"}, good...), cli.ExitUsage, "image.json"},
		"no platform":       {folder, good, cli.ExitUsage, "--platform"},
		"unknown platform":  {folder, append([]string{"--platform", "nitro"}, good...), cli.ExitUsage, "nitro"},
		"no processors":     {folder, append([]string{"--platform", "snp"}, good...), cli.ExitUsage, "--vcpus"},
		"firmware of none":  {plain, append([]string{"--platform", "snp", "--vcpus", "1", "--vcpu-type", "EPYC-Milan"}, good...), cli.ExitUnsupported, "snp"},
		"no root":           {folder, []string{"--platform", "sim"}, cli.ExitUsage, "--trusted-root"},
		"in the clear":      {folder, append([]string{"--platform", "sim"}, with(1, "http://fulcio.example")...), cli.ExitUsage, "https"},
		"no service":        {folder, append([]string{"--platform", "sim"}, with(1, i.url+"/nowhere")...), cli.ExitRemote, "signing service"},
		"token of no job":   {folder, append([]string{"--platform", "sim"}, with(7, noJob)...), cli.ExitUsage, "lacks the claim"},
		"token of nothing":  {folder, append([]string{"--platform", "sim"}, with(7, filepath.Join(folder, "vmlinuz"))...), cli.ExitUsage, "no JSON Web Token"},
		"bad input":         {folder, append([]string{"--platform", "sim", "--input", "x"}, good...), cli.ExitUsage, "NAME=VALUE"},
		"bad property":      {folder, append([]string{"--platform", "sim", "--shown", "SECURE=x"}, good...), cli.ExitUsage, "--shown"},
		"other firmware":    {folder, append([]string{"--platform", "sim", "--firmware-provenance", noJob}, good...), cli.ExitUsage, "no-job"},
		"statement as root": {folder, append([]string{"--platform", "sim"}, with(9, noJob)...), cli.ExitUsage, "trusted root"},
	} {
		code, out, errOut := call(t.Context(), append([]string{"image", "attest", tc.folder}, tc.args...)...)
		if code != tc.code || !strings.Contains(errOut, tc.says) {
			t.Errorf("%s: code %d, want %d and %q\n%s%s", name, code, tc.code, tc.says, out, errOut)
		}
	}
	for _, f := range []string{folder, debug, altered, plain} {
		if left, _ := filepath.Glob(filepath.Join(f, "*.jsonl*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// TestIdentityTokenRefuses asks for the token of a job where there is none, or nobody to ask.
func TestIdentityTokenRefuses(t *testing.T) {
	t.Parallel()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for i := 0; i+1 < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	for name, tc := range map[string]struct {
		getenv func(string) string
		code   int
	}{
		"no job":       {env(), cli.ExitUsage},
		"no key":       {env("ACTIONS_ID_TOKEN_REQUEST_URL", "https://pipelines.example/x?api-version=1"), cli.ExitUsage},
		"in the clear": {env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"), cli.ExitRemote},
		"nobody there": {env("ACTIONS_ID_TOKEN_REQUEST_URL", "https://127.0.0.1:1/x", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"), cli.ExitRemote},
	} {
		if token, err := identityToken(t.Context(), "", tc.getenv); cli.ExitCode(err) != tc.code || !token.Empty() {
			t.Errorf("%s: %v", name, err)
		}
	}
}
