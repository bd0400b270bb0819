// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/disk/slot"
)

// TestImageDisk: the bundle that was given stands in the disk and in every form that is written then.
func TestImageDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder, lines := filepath.Join(dir, "image"), filepath.Join(dir, "signed.intoto.jsonl")
	var layout disk.Layout
	builtImage(t, folder, []byte("firmware"), func(m *image.Manifest) {
		layout = disk.Layout{Size: m.Disk.Size, ESP: disk.Range(m.Disk.ESP), Root: disk.Range(m.Disk.Root), Bundle: disk.Range(m.Disk.Bundle)}
	})
	empty, err := slot.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.OpenFile(filepath.Join(folder, imageDisk), os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_, err = raw.WriteAt(empty, layout.Bundle.Offset)
	signed := attesttest.SignedImage(t, attesttest.Image{Measurement: attesttest.LaunchDigest()})
	if err := errors.Join(err, raw.Truncate(layout.Size), os.WriteFile(lines, signed, 0o600)); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := call(t.Context(), "image", "disk", folder, "--bundle", lines, "--format", "vhd,raw,vhd")
	if code != cli.ExitOK || !strings.Contains(out, "disk.raw, disk.vhd\n") {
		t.Fatalf("code %d, %s%s", code, out, errOut)
	}
	for _, name := range []string{"disk.raw", "disk.vhd"} {
		file, err := os.Open(filepath.Join(folder, name)) //nolint:gosec // the test's own.
		if err != nil {
			t.Fatal(err)
		}
		if got, err := disk.Bundle(file, layout); err != nil || !bytes.Equal(got, signed) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		_ = file.Close() // only read
	}
	if left, err := filepath.Glob(filepath.Join(folder, ".disk-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for name, tc := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no bundle":      {[]string{folder}, cli.ExitUsage, "--bundle"},
		"unknown form":   {[]string{folder, "--bundle", lines, "--format", "iso"}, cli.ExitUsage, "--format"},
		"another bundle": {[]string{folder, "--bundle", filepath.Join(folder, "packages.txt")}, cli.ExitInvalid, "refused"},
		"no folder":      {[]string{dir, "--bundle", lines}, cli.ExitUsage, "image.json"},
	} {
		if code, out, errOut := call(t.Context(), append([]string{"image", "disk"}, tc.args...)...); code != tc.code || !strings.Contains(out+errOut, tc.says) {
			t.Errorf("%s: code %d, %s%s", name, code, out, errOut)
		}
	}
}
