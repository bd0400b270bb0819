// SPDX-License-Identifier: Apache-2.0

package uki_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/measure/pe"
	"github.com/kettle/attest/image/uki"
)

// keys makes a key for Secure Boot in a folder of its own.
func keys(t testing.TB) uki.Keys {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k := uki.Keys{Key: filepath.Join(dir, "db.key"), Certificate: filepath.Join(dir, "db.crt")}
	for path, block := range map[string]*pem.Block{k.Key: {Type: "PRIVATE KEY", Bytes: private}, k.Certificate: {Type: "CERTIFICATE", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func needSigner(t testing.TB) {
	t.Helper()
	for _, p := range []string{"sbsign", "sbverify"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("this machine has no %s (scripts/apt-packages: sbsigntool)", p)
		}
	}
}

// verifies asks sbverify.
func verifies(t testing.TB, image []byte, certificate string) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.efi")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), "sbverify", "--cert", certificate, path).Run() == nil
}

func signed(t testing.TB, image []byte, k uki.Keys) []byte {
	t.Helper()
	needSigner(t)
	b, err := uki.Sign(t.Context(), image, k)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSign: a signed image is the same image, predicted alike.
func TestSign(t *testing.T) {
	t.Parallel()
	k, image := keys(t), build(t, systemdParts(t))
	b := signed(t, image, k)
	if !verifies(t, b, k.Certificate) || verifies(t, image, k.Certificate) {
		t.Error("sbverify does not tell signed from unsigned")
	}
	var digests [2][]byte
	var fours [2][32]byte
	for i, image := range [][]byte{image, b} {
		m, err := pe.Parse(image)
		if err != nil {
			t.Fatal(err)
		}
		digests[i] = m.Authenticode(sha256.New())
		l, err := boot.UKI{Image: image, Loader: boot.Disk}.Log(boot.TPM)
		if err != nil {
			t.Fatal(err)
		}
		if fours[i], err = l.PCR(4); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(digests[0], digests[1]) || fours[0] != fours[1] {
		t.Error("the signed image is measured otherwise")
	}
}

// TestAttackChangedUnderSecureBoot: a changed byte anywhere in what is hashed takes the signature away, and so does the
// signature's absence.
func TestAttackChangedUnderSecureBoot(t *testing.T) {
	t.Parallel()
	k, image := keys(t), build(t, systemdParts(t))
	b := signed(t, image, k)
	for _, at := range []int{0x200, 0x3ff, len(image) / 2, len(image) - 1} {
		changed := bytes.Clone(b)
		changed[at] ^= 1
		if verifies(t, changed, k.Certificate) {
			t.Errorf("byte %#x changed: it is still signed", at)
		}
	}
	if verifies(t, image, k.Certificate) {
		t.Error("the unsigned image is signed")
	}
}

// TestAttackOtherKeyUnderSecureBoot: an image that another key signed, anew or in addition, is refused.
func TestAttackOtherKeyUnderSecureBoot(t *testing.T) {
	t.Parallel()
	ours, theirs := keys(t), keys(t)
	other := systemdParts(t)
	other.CommandLine = "init=/bin/sh"
	if verifies(t, signed(t, build(t, other), theirs), ours.Certificate) {
		t.Error("another key's image is taken for ours")
	}
}

// TestAttackSignerChangesImage: a signing tool that hands back another image is found out. It replaces PATH, so it is not
// parallel.
func TestAttackSignerChangesImage(t *testing.T) {
	dir := t.TempDir()
	other := parts("257")
	other.CommandLine = "init=/bin/sh"
	evil := filepath.Join(dir, "evil.efi")
	if err := os.WriteFile(evil, build(t, other), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"sbsign": "#!/bin/sh\nexec /bin/cp " + evil + " \"$6\"\n", "sbverify": "#!/bin/sh\nexit 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil { //nolint:gosec // a program.
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	if b, err := uki.Sign(t.Context(), build(t, parts("257")), uki.Keys{Key: "key", Certificate: "cert"}); !errors.Is(err, uki.ErrChanged) || b != nil {
		t.Errorf("got %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	needSigner(t)
	k, other, image := keys(t), keys(t), build(t, parts("257"))
	for name, test := range map[string]struct {
		image []byte
		keys  uki.Keys
	}{
		"no image":            {nil, k},
		"no key":              {image, uki.Keys{Certificate: k.Certificate}},
		"no certificate":      {image, uki.Keys{Key: k.Key}},
		"another certificate": {image, uki.Keys{Key: k.Key, Certificate: other.Certificate}},
	} {
		if b, err := uki.Sign(t.Context(), test.image, test.keys); err == nil || b != nil {
			t.Errorf("%s: no error", name)
		}
	}
}
