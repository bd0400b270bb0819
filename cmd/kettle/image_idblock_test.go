// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/idblock"
	"github.com/kettle/attest/image/measure/measuretest"
)

// keyFile writes a new key and gives its name.
func keyFile(t *testing.T, curve elliptic.Curve, mode os.FileMode) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestImageIDBlock: what is signed is the digest that measure predicts, the launcher takes it, and the same image and keys give
// the same bytes.
func TestImageIDBlock(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "image")
	builtImage(t, folder, measuretest.AMDSEV().Bytes(), nil)
	id, author := keyFile(t, elliptic.P384(), 0o600), keyFile(t, elliptic.P384(), 0o600)
	args := []string{
		"image", "id-block", folder, "--vcpus", "4", "--vcpu-type", "EPYC-Milan", "--key", id, "--author-key", author,
		"--family-id", strings.Repeat("ab", 16), "--guest-svn", "7", "--json",
	}
	code, out, errOut := call(t.Context(), args...)
	var said idBlockJSON
	if err := json.Unmarshal([]byte(out), &said); code != cli.ExitOK || err != nil {
		t.Fatalf("code %d, %v, %s%s", code, err, out, errOut)
	}
	files := [2][]byte{contents(t, said.Block), contents(t, said.Auth)}
	signed, err := idblock.Read(files[0], files[1])
	if err != nil {
		t.Fatal(err)
	}
	got, err := idblock.Verify(signed)
	if err != nil || hex.EncodeToString(got.IDKeyDigest[:]) != said.IDKeyDigest || hex.EncodeToString(got.AuthorKeyDigest[:]) != said.AuthorKeyDigest {
		t.Errorf("%v, %+v, said %+v", err, got, said)
	}
	if got.Block.GuestSVN != 7 || got.Block.FamilyID != [16]byte(bytes.Repeat([]byte{0xab}, 16)) || got.Block.ImageID != [16]byte{} {
		t.Errorf("%+v", got.Block)
	}
	code, out, errOut = call(t.Context(), "image", "measure", "--platform", "snp", "--manifest", filepath.Join(folder, image.ManifestName),
		"--vcpus", "4", "--vcpu-type", "EPYC-Milan", "--json")
	if code != cli.ExitOK || !strings.Contains(out, said.LaunchDigest) || said.LaunchDigest != hex.EncodeToString(got.Block.LaunchDigest[:]) {
		t.Errorf("measure: code %d, %s%s; signed %s", code, out, errOut, said.LaunchDigest)
	}
	if code, out, errOut = call(t.Context(), args...); code != cli.ExitOK {
		t.Fatalf("again: code %d, %s%s", code, out, errOut)
	}
	if !bytes.Equal(files[0], contents(t, said.Block)) || !bytes.Equal(files[1], contents(t, said.Auth)) {
		t.Error("the same image and keys gave other bytes")
	}
	code, out, errOut = call(t.Context(), "image", "run", folder, "--unverified", "--platform", "snp", "--cpus", "4", "--vcpu-type", "EPYC-Milan",
		"--id-block", said.Block, "--id-auth", said.Auth, "--print-command")
	if code != cli.ExitOK || !strings.Contains(out, "id-block=") || !strings.Contains(out, "author-key-enabled=on") {
		t.Errorf("run: code %d, %s%s", code, out, errOut)
	}
}

func TestImageIDBlockRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	folder, altered := filepath.Join(dir, "image"), filepath.Join(dir, "altered")
	builtImage(t, folder, measuretest.AMDSEV().Bytes(), nil)
	builtImage(t, altered, measuretest.AMDSEV().Bytes(), nil)
	if err := os.WriteFile(filepath.Join(altered, "initrd.cpio"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain.fd")
	if err := os.WriteFile(plain, measuretest.Plain().Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	key, open, small := keyFile(t, elliptic.P384(), 0o600), keyFile(t, elliptic.P384(), 0o644), keyFile(t, elliptic.P256(), 0o600)
	for name, tc := range map[string]struct {
		folder string
		args   []string
		code   int
		says   string
	}{
		"no processors":        {folder, []string{"--vcpu-type", "EPYC", "--key", key}, cli.ExitUsage, "--vcpus is required"},
		"no type":              {folder, []string{"--vcpus", "1", "--key", key}, cli.ExitUsage, "--vcpu-type is required"},
		"no key":               {folder, []string{"--vcpus", "1", "--vcpu-type", "EPYC"}, cli.ExitUsage, "--key is required"},
		"too many processors":  {folder, []string{"--vcpus", "100000", "--vcpu-type", "EPYC", "--key", key}, cli.ExitUsage, "--vcpus"},
		"another type":         {folder, []string{"--vcpus", "1", "--vcpu-type", "Skylake", "--key", key}, cli.ExitUsage, "--vcpu-type"},
		"a key that many read": {folder, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", open}, cli.ExitUsage, "chmod 600"},
		"a small key":          {folder, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", small}, cli.ExitUsage, "P-384"},
		"a small author key":   {folder, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", key, "--author-key", small}, cli.ExitUsage, "--author-key"},
		"a short number":       {folder, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", key, "--image-id", "ab"}, cli.ExitUsage, "--image-id"},
		"a guest to debug":     {folder, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", key, "--guest-policy", "0xb0000"}, cli.ExitPolicy, "debug"},
		"no firmware for SEV":  {folder, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", key, "--firmware", plain}, cli.ExitUnsupported, ""},
		"an altered image":     {altered, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", key}, cli.ExitInvalid, "refused"},
		"no image":             {dir, []string{"--vcpus", "1", "--vcpu-type", "EPYC", "--key", key}, cli.ExitUsage, "image.json"},
	} {
		code, out, errOut := call(t.Context(), append([]string{"image", "id-block", tc.folder}, tc.args...)...)
		if code != tc.code || !strings.Contains(out+errOut, tc.says) {
			t.Errorf("%s: code %d, want %d and %q: %s%s", name, code, tc.code, tc.says, out, errOut)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*.block")); err != nil || len(left) > 0 {
		t.Errorf("written: %v, %v", left, err)
	}
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
