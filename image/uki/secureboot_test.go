// SPDX-License-Identifier: Apache-2.0

package uki_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/uki"
)

// Debian's firmware that enforces Secure Boot, with variables that hold one certificate for tests, whose key is beside it.
const (
	secureCode     = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	secureVars     = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"
	snakeoilKey    = "/usr/share/ovmf/PkKek-1-snakeoil.key"
	snakeoilCert   = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
	snakeoilPhrase = "pass:snakeoil"
)

// snakeoil gives the firmware's own test key, its passphrase taken off.
func snakeoil(t testing.TB) uki.Keys {
	t.Helper()
	for _, file := range []string{secureCode, secureVars, snakeoilKey, snakeoilCert} {
		if _, err := os.Stat(file); err != nil {
			t.Skipf("this machine has no firmware with Secure Boot (scripts/apt-packages: ovmf): %v", err)
		}
	}
	key := filepath.Join(t.TempDir(), "snakeoil.key")
	out, err := exec.CommandContext(t.Context(), "openssl", "pkey", "-in", snakeoilKey, "-passin", snakeoilPhrase, "-out", key).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	return uki.Keys{Key: key, Certificate: snakeoilCert}
}

// boots starts a machine with Secure Boot from a disk with the image, and reports whether the firmware started it.
func boots(t testing.TB, image []byte) bool {
	t.Helper()
	const qemu = "qemu-system-x86_64"
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skipf("this machine has no %s (scripts/apt-packages)", qemu)
	}
	dir := t.TempDir()
	efi, path, vars := filepath.Join(dir, "uki.efi"), filepath.Join(dir, "disk.raw"), filepath.Join(dir, "vars.fd")
	variables, err := os.ReadFile(secureVars)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{efi: image, vars: variables} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := disk.Create(t.Context(), path, disk.Source{UKI: efi, Root: efi}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, "-M", "q35,smm=on", "-accel", "tcg", "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none",
		"-no-reboot", "-global", "driver=cfi.pflash01,property=secure,value=on", "-serial", "stdio",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file="+secureCode, "-drive", "if=pflash,format=raw,unit=1,file="+vars,
		"-drive", "if=virtio,format=raw,readonly=on,file="+path)
	console, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started, said := verdict(console)
	cancel()
	_ = cmd.Wait() // it was killed
	if said == "" {
		t.Fatal("the firmware said neither that it starts the image nor that it does not")
	}
	t.Log(said)
	return started
}

// verdict reads the firmware's console up to the line that says what became of the disk's image.
func verdict(console io.Reader) (started bool, said string) {
	lines := bufio.NewScanner(console)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.Contains(line, "BdsDxe: starting Boot"):
			return true, line
		case strings.Contains(line, "BdsDxe: failed to load Boot") && (strings.Contains(line, "Access Denied") || strings.Contains(line, "Security Violation")):
			return false, line
		}
	}
	return false, ""
}

// TestAttackSecureBoot: firmware with Secure Boot starts the image that its key signed and no other: not an unsigned one, not
// one that another key signed, not one whose command line was changed behind the signature.
func TestAttackSecureBoot(t *testing.T) {
	t.Parallel()
	needSigner(t)
	ours := snakeoil(t)
	image := build(t, systemdParts(t))
	good := signed(t, image, ours)
	changed := bytes.Replace(good, []byte("console=tty0 quiet"), []byte("console=tty0 debug"), 1)
	for name, test := range map[string]struct {
		image []byte
		want  bool
	}{
		"signed":      {good, true},
		"unsigned":    {image, false},
		"another key": {signed(t, image, keys(t)), false},
		"changed":     {changed, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := boots(t, test.image); got != test.want {
				t.Errorf("started: %v, want %v", got, test.want)
			}
		})
	}
}
