// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/measuretest"
)

// ukiParts writes firmware and variables beside an image, and gives the launch digest of a boot of its UKI.
func ukiParts(t *testing.T, dir, uki string) (firmware, variables, digest string) {
	t.Helper()
	firmware, variables = filepath.Join(dir, "code.fd"), filepath.Join(dir, "vars.fd")
	if err := errors.Join(os.WriteFile(firmware, []byte("code"), 0o600), os.WriteFile(variables, []byte("vars"), 0o600)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(uki)
	if err != nil {
		t.Fatal(err)
	}
	d := measure.SimUKI(measure.UKILaunch{Firmware: sha256.Sum256([]byte("code")), Variables: sha256.Sum256([]byte("vars")), UKI: sha256.Sum256(b)})
	return firmware, variables, hex.EncodeToString(d[:])
}

// TestImageMeasureSimUKI predicts the simulator's digest of a boot from a disk.
func TestImageMeasureSimUKI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	builtImage(t, dir, measuretest.Plain().Bytes(), nil)
	uki := filepath.Join(dir, "uki.efi")
	firmware, variables, want := ukiParts(t, dir, uki)
	code, out, errOut := call(t.Context(), "image", "measure", "--platform", "sim", "--uki", uki, "--ovmf", firmware, "--variables", variables)
	if code != cli.ExitOK || !strings.Contains(out, want) {
		t.Errorf("code %d, want %s\n%s%s", code, want, out, errOut)
	}
	for says, args := range map[string][]string{
		"--uki and --variables belong together":     {"--platform", "sim", "--uki", uki, "--ovmf", firmware},
		"--variables says nothing about --platform": {"--platform", "tpm", "--uki", uki, "--variables", variables},
		"--platform sim needs --ovmf":               {"--platform", "sim", "--uki", uki, "--variables", variables},
	} {
		if code, _, errOut := call(t.Context(), append([]string{"image", "measure"}, args...)...); code != cli.ExitUsage || !strings.Contains(errOut, says) {
			t.Errorf("%s: code %d, %s", says, code, errOut)
		}
	}
}

// TestImageAttestSimUKI signs the values of both ways to boot; a signed UKI on the disk is the one that is measured, and has to be
// the image's.
func TestImageAttestSimUKI(t *testing.T) {
	t.Parallel()
	i := newInstance(t)
	for name, tc := range map[string]struct {
		signed func(uki []byte) []byte // nil: none
		code   int
	}{
		"unsigned": {nil, cli.ExitOK},
		"signed":   {withCertificate, cli.ExitOK},
		"another":  {func(b []byte) []byte { b = withCertificate(b); b[len(b)-600] ^= 1; return b }, cli.ExitInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, keys := t.TempDir(), t.TempDir()
			builtImage(t, dir, measuretest.Plain().Bytes(), nil)
			uki := filepath.Join(dir, "uki.efi")
			if tc.signed != nil {
				b, err := os.ReadFile(uki)
				if err == nil {
					uki = filepath.Join(dir, signedUKI)
					err = os.WriteFile(uki, tc.signed(b), 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			firmware, variables, want := ukiParts(t, keys, uki)
			args := append([]string{"image", "attest", dir, "--platform", "sim", "--uki-firmware", firmware, "--uki-variables", variables}, i.flags(t, keys, imageIdentity())...)
			code, out, errOut := call(t.Context(), args...)
			if code != tc.code {
				t.Fatalf("code %d\n%s%s", code, out, errOut)
			}
			if code != cli.ExitOK {
				return
			}
			if got := i.simValues(t, filepath.Join(dir, imageBundle)); got[statement.BootUKI] != want || len(got) != 2 {
				t.Errorf("want %s, got %v", want, got)
			}
		})
	}
	dir := t.TempDir()
	builtImage(t, dir, measuretest.Plain().Bytes(), nil)
	if code, _, errOut := call(t.Context(), append([]string{"image", "attest", dir, "--platform", "sim", "--uki-firmware", "x"}, i.flags(t, dir, imageIdentity())...)...); code != cli.ExitUsage ||
		!strings.Contains(errOut, "--uki-firmware and --uki-variables") {
		t.Errorf("code %d, %s", code, errOut)
	}
}

// withCertificate gives the image a certificate table.
func withCertificate(b []byte) []byte {
	const entry = 0x40 + 24 + 112 + 4*8 // of the data directory, in what measuretest makes
	at := uint32(len(b))
	out := append([]byte(nil), b...)
	for i := range 4 {
		out[entry+i], out[entry+4+i] = byte(at>>(8*i)), byte(uint32(16)>>(8*i))
	}
	return append(out, make([]byte, 16)...)
}

// simValues gives the simulator's reference values of a bundle by the way to boot.
func (i instance) simValues(t *testing.T, path string) map[string]string {
	t.Helper()
	trust, err := bundle.ParseTrust(i.fake.TrustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := bundle.Certified(text)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, line := range lines {
		payload, _, err := trust.Verify(line)
		if err != nil {
			t.Fatal(err)
		}
		values, err := statement.ParseReferenceValues(payload)
		if err != nil {
			continue // the provenance
		}
		for _, v := range values.Values {
			if v.Key == statement.KeySimMeasurement {
				found[v.Conditions.Boot] = v.Value
			}
		}
	}
	return found
}
