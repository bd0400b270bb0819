// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/disk/slot"
	"github.com/kettle/attest/image/imagetest"
	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/internal/fakesigstore"
)

const (
	imageAt      = "2026-11-21T12:00:00Z"
	imageRepo    = "acme/images"
	imageFlow    = ".github/workflows/image.yml"
	imageProfile = "snp,tpm,sim"
)

// builtImage writes an image folder whose manifest names what is in it.
func builtImage(t testing.TB, dir string, firmware []byte, change func(*image.Manifest)) {
	t.Helper()
	kernel := measuretest.Kernel("kernel")
	m := imagetest.Manifest()
	if change != nil {
		change(m)
		imagetest.Relabel(m)
	}
	uki := measuretest.PE([]measuretest.Section{
		{Name: ".text", Data: []byte("stub")}, measuretest.Stub("257.9-1"), {Name: ".osrel", Data: []byte("ID=kettle\n")},
		{Name: ".cmdline", Data: []byte(m.CommandLine)}, {Name: ".initrd", Data: []byte("initrd")}, {Name: ".linux", Data: kernel},
	}, nil)
	write := func(name string, b []byte) {
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for file, b := range map[*image.File][]byte{
		&m.Files.Firmware: firmware, &m.Files.Kernel: kernel, &m.Files.Initrd: []byte("initrd"), &m.Files.Root: []byte("root " + m.Name),
		&m.Files.UKI: uki, &m.Files.Packages: []byte("packages"), &m.Files.SBOM: []byte("sbom"),
	} {
		if file != &m.Files.Root { // its size is in the disk's layout
			file.Size = int64(len(b))
		}
		file.SHA256 = sha256.Sum256(b)
		write(file.Name, b)
	}
	m.Toolchain.Packages = m.Files.Packages.SHA256
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	write(image.ManifestName, b)
	write(imageDisk, measuretest.Disk())
}

// instance is a Sigstore instance on loopback, and the identities that sign against it.
type instance struct {
	fake *fakesigstore.Instance
	url  string
}

func newInstance(t testing.TB) instance {
	t.Helper()
	at, err := time.Parse(time.RFC3339, imageAt)
	if err != nil {
		t.Fatal(err)
	}
	fake, err := fakesigstore.New(fakesigstore.Config{Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(fake.Handler())
	t.Cleanup(server.Close)
	return instance{fake, server.URL}
}

// flags gives the flags that sign as somebody, whose token is written beside.
func (i instance) flags(t testing.TB, dir string, id fakesigstore.Identity) []string {
	t.Helper()
	token, err := i.fake.Token(id)
	if err != nil {
		t.Fatal(err)
	}
	file, root := filepath.Join(dir, "token"), filepath.Join(dir, "trusted_root.json")
	if err := errors.Join(os.WriteFile(file, []byte(token+"\n"), 0o600), os.WriteFile(root, i.fake.TrustedRoot(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return []string{
		"--fulcio-url", i.url, "--rekor-url", i.url, "--timestamp-url", i.url + fakesigstore.PathTimestamp, "--identity-token", file, "--trusted-root", root,
	}
}

func imageIdentity() fakesigstore.Identity {
	id := fakesigstore.GitHub(imageRepo, imageFlow, "refs/tags/v1")
	id.JobWorkflowRef, id.JobWorkflowSHA = "kettle/attest/.github/workflows/image.yml@refs/tags/v1", strings.Repeat("b2", 20)
	return id
}

func imagePolicy(id fakesigstore.Identity, changes ...string) string {
	text := fmt.Sprintf(`apiVersion: kettle/v1
expires: 2027-06-01
environments:
  platforms: [snp]
  floor: strict
  revocation: required
  images:
    - issuer: %s
      workflow: https://github.com/kettle/attest/.github/workflows/image.yml
      refs: [refs/tags/v*]
      repository: {url: https://github.com/%s, id: %q, ownerId: %q}
  measurements: signed
  lateCompromise: none
revoked: none
`, id.Issuer, id.Repository, id.RepositoryID, id.OwnerID)
	return strings.NewReplacer(changes...).Replace(text)
}

// signedImages is what the scripts about verifying find: made once, as keys and signatures cost time.
var signedImages struct {
	once  sync.Once
	files map[string][]byte
}

func signedFiles(t *testing.T) map[string][]byte {
	t.Helper()
	signedImages.once.Do(func() {
		dir, i, id := t.TempDir(), newInstance(t), imageIdentity()
		attest := func(name string, id fakesigstore.Identity, change func(*image.Manifest)) {
			folder := filepath.Join(dir, name)
			builtImage(t, folder, measuretest.AMDSEV().Bytes(), change)
			args := append([]string{"image", "attest", folder, "--platform", imageProfile, "--vcpus", "2,4", "--vcpu-type", "EPYC-Milan"}, i.flags(t, dir, id)...)
			if code, out, errOut := call(t.Context(), args...); code != 0 {
				t.Fatalf("%s: code %d\n%s\n%s", name, code, out, errOut)
			}
		}
		attest("image", id, nil)
		attest("other", id, func(m *image.Manifest) { m.Name = "other" })
		fork := id
		fork.Repository, fork.RepositoryID, fork.OwnerID = "mallory/images", "99", "98"
		fork.WorkflowRef = strings.Replace(fork.WorkflowRef, imageRepo, fork.Repository, 1)
		attest("fork", fork, nil)
		builtImage(t, filepath.Join(dir, "debug"), measuretest.AMDSEV().Bytes(), func(m *image.Manifest) { m.Build = image.Debug })
		key, pub := operatorKey(t)
		manifest, err := os.ReadFile(filepath.Join(dir, "image", image.ManifestName))
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := fakesigstore.New(fakesigstore.Config{Now: func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }})
		if err != nil {
			t.Fatal(err)
		}
		signedImages.files = map[string][]byte{
			"policy.yaml":         []byte(imagePolicy(id)),
			"policy-branch.yaml":  []byte(imagePolicy(id, "refs/tags/v*", "refs/tags/w*")),
			"policy-any.yaml":     []byte(imagePolicy(id, imagePolicy(id)[strings.Index(imagePolicy(id), "    - issuer"):strings.Index(imagePolicy(id), "  measurements")], "", "images:\n", "images: any\n", "signed", "any")),
			"policy-revoked.yaml": []byte(imagePolicy(id, "revoked: none", "revoked: {images: ["+binding.Sum(manifest).String()+"], keys: none, chips: none}")),
			"stranger.json":       stranger.TrustedRoot(), "operator.pem": key, "operator.pub": pub,
		}
		if err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			name, _ := filepath.Rel(dir, path)
			b, err := os.ReadFile(path)
			signedImages.files[name] = b
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
	if signedImages.files == nil {
		t.Fatal("the images could not be made")
	}
	return signedImages.files
}

// TestImageVerifyScripts runs kettle image verify over folders that kettle image attest signed.
func TestImageVerifyScripts(t *testing.T) {
	t.Parallel()
	files := signedFiles(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/attest",
		Setup: func(env *testscript.Env) error {
			for name, b := range files {
				path := filepath.Join(env.WorkDir, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o600)); err != nil {
					return err
				}
			}
			manifest := sha256.Sum256(files["image/image.json"])
			uki := sha256.Sum256(files["image/uki.efi"])
			env.Setenv("AT", imageAt)
			env.Setenv("MANIFEST", fmt.Sprintf("sha256:%x", manifest))
			env.Setenv("UKI", fmt.Sprintf("sha256:%x", uki))
			return nil
		},
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"code": wantCode, "snapshot": snapshot, "unchanged": unchanged},
		RequireExplicitExec: true,
	})
}

// TestImageVSA reads the summary that was written with the operator's public key.
func TestImageVSA(t *testing.T) {
	t.Parallel()
	dir, files := t.TempDir(), signedFiles(t)
	for name, b := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	code, out, errOut := call(t.Context(), "image", "verify", at("image"), "--policy", at("policy.yaml"), "--trusted-root", at("trusted_root.json"),
		"--at", imageAt, "--vsa", at("vsa"), "--key", at("operator.pem"), "--resource-uri", "oci://registry.example/image", "--json")
	if code != cli.ExitOK {
		t.Fatalf("code %d\n%s\n%s", code, out, errOut)
	}
	line, err := os.ReadFile(at("vsa"))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := bundle.LoadPublicKey(files["operator.pub"])
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Parse([]byte(strings.TrimSpace(string(line))))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := b.Verify(spki)
	if err != nil {
		t.Fatal(err)
	}
	v, err := statement.ParseImageVSA(payload)
	if err != nil {
		t.Fatal(err)
	}
	manifest, _ := statement.DigestOf(v.Subjects, statement.ImageManifest)
	if !v.Has(statement.BuildLevel(3)) || !v.Has(statement.PropertyImage) || len(v.Inputs) != 2 || manifest != binding.Sum(files["image/image.json"]) ||
		v.Policy.Digest != binding.Sum(files["policy.yaml"]) || v.ResourceURI != "oci://registry.example/image" || v.Verifier.ID != imageVerifierID {
		t.Errorf("%s", payload)
	}
	var j imageVerifyJSON
	if err := json.Unmarshal([]byte(out), &j); err != nil || j.Verdict != verdictVerified || j.Image.BuildLevel != 3 || j.Image.Values["snp"] != 2 || j.VSA == "" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestImageAttestDisk puts the statements into the disk, and computes the values of a trust domain.
func TestImageAttestDisk(t *testing.T) {
	t.Parallel()
	dir, i := t.TempDir(), newInstance(t)
	folder := filepath.Join(dir, "image")
	builtImage(t, folder, measuretest.TDVF().Bytes(), nil)
	m := imagetest.Manifest().Disk
	f, err := os.OpenFile(filepath.Join(folder, imageDisk), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	empty, err := slot.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(empty, m.Bundle.Offset); errors.Join(err, f.Truncate(m.Size)) != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"image", "attest", folder, "--platform", "tdx", "--disk", "--memory", "2048", "--input", "profile=strict",
		"--shown", "NO_MAINTENANCE_AGENTS=image/build/agents_test.go", "--output", filepath.Join(dir, "out.jsonl"),
	}, i.flags(t, dir, imageIdentity())...)
	origin := fmt.Sprintf(`{"firmware":{"sha256":"%x"},"package":{"name":"ovmf","version":"1","sha256":"%s"},"index":{"uri":"https://deb.example","sha256":"%s","signatures":""}}`,
		sha256.Sum256(measuretest.TDVF().Bytes()), strings.Repeat("1", 64), strings.Repeat("2", 64))
	if err := os.WriteFile(filepath.Join(folder, firmwareProvenance), []byte(origin), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := call(t.Context(), args...); code != 0 {
		t.Fatalf("code %d\n%s\n%s", code, out, errOut)
	}
	onDisk, err := disk.Bundle(f, disk.Layout{Size: m.Size, ESP: disk.Range(m.ESP), Root: disk.Range(m.Root), Bundle: disk.Range(m.Bundle)})
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(filepath.Join(dir, "out.jsonl"))
	if err != nil || string(written) != string(onDisk) {
		t.Errorf("the disk has other statements: %v", err)
	}
	lines, err := bundle.Certified(onDisk)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	trust, err := bundle.ParseTrust(i.fake.TrustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsedPolicy(imagePolicy(imageIdentity()))
	if err != nil {
		t.Fatal(err)
	}
	at, _ := time.Parse(time.RFC3339, imageAt)
	manifest, err := os.ReadFile(filepath.Join(folder, image.ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	img, err := reference.Verify(reference.Request{Lines: lines, Trust: trust, Policy: p, At: at, Files: []binding.Digest{binding.Sum(manifest)}})
	if err != nil {
		t.Fatal(err)
	}
	registers := map[string]int{}
	for _, v := range img.Values().Values {
		registers[v.Conditions.Register+" "+v.Conditions.Boot]++
	}
	for _, want := range []string{"mrtd ", "rtmr1 direct", "rtmr2 direct", "rtmr1 uki", "rtmr2 uki"} {
		if registers[want] == 0 {
			t.Errorf("no values of %q: %v", want, registers)
		}
	}
	prov := img.Provenance()
	if prov.External.Inputs["profile"] != "strict" || prov.Materials[1].URI != "git+https://github.com/kettle/attest@refs/tags/v1" ||
		len(img.Values().Shown) != 1 || !strings.Contains(img.Values().Shown[0].Test, "/blob/"+strings.Repeat("b2", 20)+"/image/build/") {
		t.Errorf("%+v\n%+v", prov.Materials, img.Values().Shown)
	}
	for _, material := range prov.Materials {
		if material.Name == statement.MaterialFirmware && material.Annotations["package"] != "ovmf 1" {
			t.Errorf("the firmware comes from %v", material.Annotations)
		}
	}
}

// operatorKey makes the two halves of an operator's key.
func operatorKey(t testing.TB) (private, public []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
}

func parsedPolicy(text string) (*policy.Policy, error) { return policy.Parse([]byte(text)) }
