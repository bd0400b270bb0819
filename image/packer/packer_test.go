// SPDX-License-Identifier: Apache-2.0

// Package packer_test holds the Packer templates to what they promise, with the last Packer that Debian has: they are valid,
// they run kettle once and change nothing that it made, and they import with the flags for confidential machines.
package packer_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pluginsFile is the one that Packer before 1.7 cannot read.
const pluginsFile = "plugins.pkr.hcl"

// templates copies the templates that Packer 1.6.6 knows into a folder.
func templates(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob("*.pkr.hcl")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f) //nolint:gosec // our own file.
		if err != nil {
			t.Fatal(err)
		}
		if plugins := bytes.Contains(b, []byte("required_plugins {")); plugins != (f == pluginsFile) {
			t.Errorf("%s: required_plugins belong into %s alone", f, pluginsFile)
		}
		if f == pluginsFile {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// world is a folder with templates, programs that stand in for kettle and the clouds' command lines, and a place for output.
type world struct{ dir, bin, output, calls string }

// standIn writes down its arguments, one call a line, and answers as the real one does.
const standIn = `#!/bin/sh
name=${0##*/}
{ printf '%s' "$name"; for a in "$@"; do printf ' <%s>' "$a"; done; echo; } >>"$CALLS"
case "$name $*" in
  kettle*)
    while [ $# -gt 0 ]; do
      case $1 in --output) out=$2 ;; --format) format=$2 ;; esac
      shift
    done
    mkdir -p "$out"
    for f in disk.raw uki.efi vmlinuz initrd.cpio root.erofs firmware.bin packages.txt sbom.spdx.json image.json; do
      echo "content of $f" >"$out/$f"
    done
    case $format in qcow2) echo qcow2 >"$out/disk.qcow2" ;; vhd) echo vhd >"$out/disk.vhd" ;; tar.gz) echo gcp >"$out/disk.tar.gz" ;; esac ;;
  *"blob url"*) echo https://account.example/images/disk.vhd ;;
  *"import-snapshot "*) echo import-snap-1 ;;
  *describe-import-snapshot-tasks*) echo snap-1 ;;
esac
`

func newWorld(t testing.TB) world {
	t.Helper()
	if _, err := exec.LookPath("packer"); err != nil {
		t.Skip("this machine has no packer (scripts/apt-packages)")
	}
	dir := templates(t)
	w := world{dir: dir, bin: filepath.Join(dir, "bin"), output: filepath.Join(dir, "out $(touch pwned)'s"), calls: filepath.Join(dir, "calls")}
	if err := os.Mkdir(w.bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kettle", "az", "aws"} {
		if err := os.WriteFile(filepath.Join(w.bin, name), []byte(standIn), 0o700); err != nil { //nolint:gosec // a program.
			t.Fatal(err)
		}
	}
	return w
}

// packer runs Packer with all of the templates' required variables.
func (w world) packer(t testing.TB, verb string, args ...string) (string, error) {
	t.Helper()
	args = append([]string{verb}, args...)
	if verb != "fmt" {
		args = append(args, "-var", "settings=/settings of ours", "-var", "runner=/runner", "-var", "output="+w.output)
	}
	cmd := exec.CommandContext(t.Context(), "packer", append(args, w.dir)...) //nolint:gosec // the test's own.
	cmd.Dir = w.dir
	cmd.Env = []string{
		"PATH=" + w.bin + ":" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + t.TempDir(), "CALLS=" + w.calls,
		"PACKER_CONFIG_DIR=" + w.dir, "PACKER_CACHE_DIR=" + filepath.Join(w.dir, "cache"), "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1",
	}
	out, err := cmd.CombinedOutput()
	return string(out), err //nolint:wrapcheck // the test looks at it.
}

// build runs one of the builds and gives what was called.
func (w world) build(t testing.TB, name string, args ...string) []string {
	t.Helper()
	if out, err := w.packer(t, "build", append([]string{"-only=" + name + ".null.image"}, args...)...); err != nil {
		t.Fatalf("packer build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(w.calls)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(w.dir, "pwned")); err == nil {
		t.Error("a value was run by the shell")
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func (w world) kettle(name, format string) string {
	return "kettle <image> <build> <--name> <" + name + "> <--settings> </settings of ours> <--runner> </runner> <--output> <" + w.output + "> <--format> <" + format + ">"
}

// TestValidate: Packer 1.6.6 finds nothing wrong with what it knows, and would find a mistake.
func TestValidate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if out, err := w.packer(t, "validate"); err != nil {
		t.Errorf("packer validate: %v\n%s", err, out)
	}
	if out, err := w.packer(t, "fmt", "-check", "-diff"); err != nil {
		t.Errorf("packer fmt: %v\n%s", err, out)
	}
	mistakes := map[string][2]string{
		"image.pkr.hcl": {"strip_path = true", "strip_paths = true"},
		"gcp.pkr.hcl":   {"image_guest_os_features", "guest_features"},
		"azure.pkr.hcl": {"keep_input_artifact = true", "keep_artifact = true"},
		"aws.pkr.hcl":   {"\"shell-local\"", "\"shell\""},
	}
	for file, m := range mistakes {
		wrong := newWorld(t)
		path := filepath.Join(wrong.dir, file)
		b, err := os.ReadFile(path) //nolint:gosec // our own file.
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.ReplaceAll(b, []byte(m[0]), []byte(m[1]))
		if bytes.Equal(changed, b) {
			t.Fatalf("%s: there is no %q", file, m[0])
		}
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := wrong.packer(t, "validate"); err == nil {
			t.Errorf("%s with %q is valid:\n%s", file, m[1], out)
		}
	}
}

// TestBuildQEMU: the build is one call of kettle, and every file is as kettle left it, with its digest written down.
func TestBuildQEMU(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got, want := w.build(t, "qemu"), []string{w.kettle("kettle", "qcow2")}; !slices.Equal(got, want) {
		t.Errorf("want\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	sums, err := os.ReadFile(filepath.Join(w.output, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct {
		Builds []struct {
			Files []struct{ Name string }
		}
	}
	b, err := os.ReadFile(filepath.Join(w.output, "packer-manifest.json"))
	if err != nil || json.Unmarshal(b, &manifest) != nil || len(manifest.Builds) != 1 {
		t.Fatalf("the manifest: %v\n%s", err, b)
	}
	for name, content := range map[string]string{
		"disk.qcow2": "qcow2\n", "disk.raw": "content of disk.raw\n", "uki.efi": "content of uki.efi\n", "image.json": "content of image.json\n",
		"firmware.bin": "content of firmware.bin\n", "root.erofs": "content of root.erofs\n",
	} {
		got, err := os.ReadFile(filepath.Join(w.output, name))
		if err != nil || string(got) != content {
			t.Errorf("%s is %q: %v", name, got, err)
		}
		sum := sha256.Sum256([]byte(content))
		if !strings.Contains(string(sums), hex.EncodeToString(sum[:])) {
			t.Errorf("%s has no digest in\n%s", name, sums)
		}
		if !slices.ContainsFunc(manifest.Builds[0].Files, func(f struct{ Name string }) bool { return f.Name == name }) {
			t.Errorf("%s is not in the manifest\n%s", name, b)
		}
	}
}

// TestImportAzure: the command line is Azure's, with a stand-in for it.
func TestImportAzure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.build(t, "azure", "-var", "azure_resource_group=a group", "-var", "azure_gallery=g", "-var", "azure_storage_account=s",
		"-var", "azure_location=westeurope", "-var", "azure_version=2.3.4")
	want := []string{
		w.kettle("kettle", "vhd"),
		"az <storage> <blob> <upload> <--auth-mode> <login> <--account-name> <s> <--container-name> <images> <--type> <page> <--name> <kettle-2.3.4.vhd> <--file> <" + w.output + "/disk.vhd>",
		"az <storage> <blob> <url> <--auth-mode> <login> <--account-name> <s> <--container-name> <images> <--name> <kettle-2.3.4.vhd> <--output> <tsv>",
		"az <sig> <image-definition> <create> <--resource-group> <a group> <--location> <westeurope> <--gallery-name> <g> <--gallery-image-definition> <kettle> <--publisher> <kettle> <--offer> <attest> <--sku> <strict> <--os-type> <Linux> <--os-state> <Specialized> <--hyper-v-generation> <V2> <--architecture> <x64> <--features> <SecurityType=ConfidentialVmSupported>",
		"az <sig> <image-version> <create> <--resource-group> <a group> <--location> <westeurope> <--gallery-name> <g> <--gallery-image-definition> <kettle> <--gallery-image-version> <2.3.4> <--os-vhd-uri> <https://account.example/images/disk.vhd> <--os-vhd-storage-account> <s>",
	}
	if !slices.Equal(got, want) {
		t.Errorf("want\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

// TestImportAWS: the command line is Amazon's, with a stand-in for it.
func TestImportAWS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.build(t, "aws", "-var", "aws_bucket=b", "-var", "aws_region=eu-west-1", "-var", "name=kettle-7")
	want := []string{
		w.kettle("kettle-7", "raw"),
		"aws <s3> <cp> <" + w.output + "/disk.raw> <s3://b/kettle-7.raw>",
		"aws <ec2> <import-snapshot> <--description> <kettle-7> <--disk-container> <Format=RAW,UserBucket={S3Bucket=b,S3Key=kettle-7.raw}> <--query> <ImportTaskId> <--output> <text>",
		"aws <ec2> <wait> <snapshot-imported> <--import-task-ids> <import-snap-1>",
		"aws <ec2> <describe-import-snapshot-tasks> <--import-task-ids> <import-snap-1> <--query> <ImportSnapshotTasks[0].SnapshotTaskDetail.SnapshotId> <--output> <text>",
		"aws <ec2> <register-image> <--name> <kettle-7> <--architecture> <x86_64> <--virtualization-type> <hvm> <--ena-support> <--boot-mode> <uefi> <--tpm-support> <v2.0> <--imds-support> <v2.0> <--root-device-name> </dev/xvda> <--block-device-mappings> <DeviceName=/dev/xvda,Ebs={SnapshotId=snap-1,VolumeType=gp3,DeleteOnTermination=true}>",
	}
	if !slices.Equal(got, want) {
		t.Errorf("want\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
}

// TestFailureEndsBuild: where kettle fails, nothing is imported.
func TestFailureEndsBuild(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"qemu", "azure", "aws", "gcp"} {
		w := newWorld(t)
		if err := os.WriteFile(filepath.Join(w.bin, "kettle"), []byte("#!/bin/sh\nexit 3\n"), 0o700); err != nil { //nolint:gosec // a program.
			t.Fatal(err)
		}
		out, err := w.packer(t, "build", "-only="+name+".null.image")
		if _, left := os.Lstat(w.calls); err == nil || left == nil {
			t.Errorf("%s: the build went on: %v\n%s", name, err, out)
		}
	}
}
