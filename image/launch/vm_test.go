// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/uki"
)

// The parts of a machine that shows its TPM, as Debian's packages have them.
const (
	efiStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	device  = "/usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0"
	// Variables that hold one certificate for tests, whose key is beside the firmware.
	secureVariables = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"
	secureKey       = "/usr/share/ovmf/PkKek-1-snakeoil.key"
	secureCert      = "/usr/share/ovmf/PkKek-1-snakeoil.pem"
)

// shown is the UKI of the machine that shows its TPM, made once.
var shown struct {
	once  sync.Once
	image []byte
	err   error
	first *booted // of the first boot without keys
}

// booted is what a boot left behind.
type booted struct {
	registers map[int][]byte // as tpm2_pcrread showed them
	log       []byte         // the firmware's
	digest    [48]byte       // what the simulated processor measured
}

// guestUKI gives it. Where the parts are missing it skips, or fails if KETTLE_REQUIRE_VM=1 says that they must be there.
func guestUKI(t *testing.T) []byte {
	t.Helper()
	shown.once.Do(func() { shown.image, shown.err = makeUKI(context.WithoutCancel(t.Context()), t.TempDir()) })
	if shown.err != nil && os.Getenv("KETTLE_REQUIRE_VM") == "1" {
		t.Fatalf("KETTLE_REQUIRE_VM=1, but no machine can be made: %v", shown.err)
	}
	if shown.err != nil {
		t.Skipf("no machine can be made here (scripts/apt-packages): %v", shown.err)
	}
	return shown.image
}

func makeUKI(ctx context.Context, dir string) ([]byte, error) {
	for _, name := range []string{"qemu-system-x86_64", "swtpm", "mkfs.vfat", "mcopy", "tpm2_pcrread"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, err
		}
	}
	stub, err := os.ReadFile(efiStub)
	if err != nil {
		return nil, err
	}
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	found, err := build.CachedKernel(cache)
	if err != nil {
		return nil, err
	}
	kernel, err := os.ReadFile(found.Image)
	if err != nil {
		return nil, err
	}
	initrd, err := makeInitrd(ctx, dir)
	if err != nil {
		return nil, err
	}
	return uki.Build(uki.Parts{
		Stub: stub, Kernel: kernel, Initrd: initrd, CommandLine: "console=tty0 quiet panic=-1", OSRelease: []byte("ID=test\n"), Uname: found.Version,
	})
}

// makeInitrd puts the guest, tpm2_pcrread and the libraries that it names into an archive.
func makeInitrd(ctx context.Context, dir string) ([]byte, error) {
	guest := filepath.Join(dir, "guest")
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "./testdata/guest")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the guest: %w: %s", err, out)
	}
	tool, err := exec.LookPath("tpm2_pcrread")
	if err != nil {
		return nil, err
	}
	files := map[string]string{"init": guest, "usr/bin/tpm2_pcrread": tool, device[1:]: device}
	for _, program := range []string{tool, device} {
		out, err := exec.CommandContext(ctx, "ldd", program).Output()
		if err != nil {
			return nil, fmt.Errorf("ldd %s: %w", program, err)
		}
		for word := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(word, "/") {
				files[word[1:]] = word
			}
		}
	}
	return archive(files)
}

// archive writes a cpio archive of the kind "newc" (Linux Documentation/driver-api/early-userspace/buffer-format.rst).
func archive(files map[string]string) ([]byte, error) {
	var b bytes.Buffer
	inode := 0
	add := func(name string, mode int, data []byte) {
		inode++
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
		b.Write(make([]byte, -b.Len()&3))
		b.Write(data)
		b.Write(make([]byte, -b.Len()&3))
	}
	folders := map[string]bool{"proc": true, "sys": true, "dev": true}
	for name := range files {
		for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
			folders[dir] = true
		}
	}
	var names []string
	for dir := range folders {
		names = append(names, dir)
	}
	slices.Sort(names)
	for _, dir := range names {
		add(dir, 0o040755, nil)
	}
	for name, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		add(name, 0o100755, data)
	}
	add("TRAILER!!!", 0, nil)
	return b.Bytes(), nil
}

// bootUKI boots an image from a disk and gives what the guest showed, and the launch digest.
func bootUKI(t *testing.T, image []byte, variables string) *booted {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	efi, path := filepath.Join(dir, "uki.efi"), filepath.Join(dir, "disk.raw")
	must(t, os.WriteFile(efi, image, 0o600))
	_, err := disk.Create(t.Context(), path, disk.Source{UKI: efi, Root: efi})
	must(t, err)
	code, _, err := FindOVMF()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	console := filepath.Join(dir, "console")
	vm, err := Start(ctx, Config{
		Firmware: code, UKI: &UKI{Variables: variables}, Disk: path, MemoryMiB: 512, CPUs: 1, Acceleration: TCG, Console: console,
		NewProcessor: func([48]byte) (Processor, error) { return silent{}, nil },
	})
	must(t, err)
	err = errors.Join(vm.Wait(), vm.Control().Close())
	said, readErr := os.ReadFile(console)
	t.Logf("%v, console:\n%.3000s", vm.Timings().Ended.Sub(vm.Timings().Started), said)
	must(t, errors.Join(err, readErr))
	if left, err := filepath.Glob(filepath.Join(dir, "kettle-vm-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	b := read(t, string(said))
	b.digest = vm.LaunchDigest()
	return b
}

// firstBoot is that of the image without keys, done once.
func firstBoot(t *testing.T) *booted {
	t.Helper()
	image := guestUKI(t)
	if shown.first == nil {
		_, variables, err := FindOVMF()
		must(t, err)
		shown.first = bootUKI(t, image, variables)
	}
	return shown.first
}

// register is one line of tpm2_pcrread.
var register = regexp.MustCompile(`(?m)^\s*(\d+)\s*:\s*0x([0-9A-F]{64})\s*$`)

func read(t *testing.T, said string) *booted {
	t.Helper()
	said = strings.ReplaceAll(said, "\r", "")
	_, rest, ok := strings.Cut(said, "== registers\n")
	shown, rest, ok2 := strings.Cut(rest, "== log\n")
	log, _, ok3 := strings.Cut(rest, "\n== end")
	if !ok || !ok2 || !ok3 {
		t.Fatal("the guest did not show its registers")
	}
	b := &booted{registers: registers(t, shown)}
	var err error
	b.log, err = hex.DecodeString(log)
	must(t, err)
	return b
}

// registers reads what tpm2_pcrread prints.
func registers(t *testing.T, said string) map[int][]byte {
	t.Helper()
	found := map[int][]byte{}
	for _, m := range register.FindAllStringSubmatch(said, -1) {
		n, err := strconv.Atoi(m[1])
		must(t, err)
		found[n], err = hex.DecodeString(m[2])
		must(t, err)
	}
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestPCRs boots a unified kernel image from a disk, and demands that the registers which stock tpm2-tools read in the machine
// are the predicted ones, without and with Secure Boot.
func TestPCRs(t *testing.T) {
	image := guestUKI(t)
	_, fresh, err := FindOVMF()
	must(t, err)
	for _, tt := range []struct {
		name, variables string
		secure          bool
	}{{"no keys", fresh, false}, {"secure boot", secureVariables, true}} {
		if tt.secure && !nightly {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			image := image
			var got *booted
			if tt.secure {
				image = signed(t, image)
				got = bootUKI(t, image, tt.variables)
			} else {
				got = firstBoot(t)
			}
			predicted, err := boot.UKI{Image: image, Loader: boot.Disk, SecureBoot: tt.secure}.Log(boot.TPM)
			must(t, err)
			for _, n := range []int{4, 9, 11, 12} {
				want, err := predicted.PCR(n)
				must(t, err)
				if !bytes.Equal(got.registers[n], want[:]) {
					t.Errorf("PCR %d: want %x, got %x", n, want, got.registers[n])
				}
			}
			// What the image does not determine, PCR 7 among it, is as the firmware's own log says.
			account, err := match(got.log, got.registers)
			must(t, err)
			if on := account.Facts().SecureBoot == tcg.SecureBootOn; on != tt.secure || !slices.Contains(account.Covered(), 7) {
				t.Errorf("Secure Boot by PCR 7: %v, covered %v", account.Facts().SecureBoot, account.Covered())
			}
			if want := measure.SimUKI(launchOf(t, image, tt.variables)); got.digest != want {
				t.Errorf("launch digest: want %x, got %x", want, got.digest)
			}
		})
	}
}

// match replays a firmware's log into registers.
func match(log []byte, registers map[int][]byte) (*tcg.Account, error) {
	l, err := tcg.ParseTPM(log)
	if err != nil {
		return nil, err
	}
	logged := map[int][]byte{}
	for _, n := range l.Registers() {
		logged[n] = registers[n]
	}
	return l.Match(tcg.SHA256, logged)
}

// TestAttackTPMReset resets the TPM between the boot and the quote: the registers are those of a TPM that saw no boot, and the
// log of the boot does not lead there. Whoever resets a TPM of his own can extend it anew by the log, which is why one that the
// launcher runs proves nothing.
func TestAttackTPMReset(t *testing.T) {
	boot := firstBoot(t)
	dir := t.TempDir()
	socket := filepath.Join(dir, "tpm")
	ctx, cancel := context.WithCancel(t.Context())
	reset := exec.CommandContext(ctx, "swtpm", "socket", "--tpm2", "--flags", "startup-clear", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl")
	must(t, reset.Start())
	defer func() {
		cancel()
		_ = reset.Wait() // it was killed
	}()
	read := exec.CommandContext(t.Context(), "tpm2_pcrread", "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15")
	read.Env = append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+socket)
	var said []byte
	var err error
	for range 100 { // swtpm listens soon
		if _, err = os.Stat(socket + ".ctrl"); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	must(t, err)
	said, err = read.CombinedOutput()
	if err != nil {
		t.Fatalf("tpm2_pcrread: %v: %s", err, said)
	}
	if _, err := match(boot.log, registers(t, string(said))); !errors.Is(err, refusal.ErrEventLogMismatch) {
		t.Errorf("want %v, got %v", refusal.ErrEventLogMismatch, err)
	}
}

// signed signs with the firmware's own test key.
func signed(t *testing.T, image []byte) []byte {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key")
	out, err := exec.CommandContext(t.Context(), "openssl", "pkey", "-in", secureKey, "-passin", "pass:snakeoil", "-out", key).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v: %s", err, out)
	}
	image, err = uki.Sign(t.Context(), image, uki.Keys{Key: key, Certificate: secureCert})
	must(t, err)
	return image
}

// launchOf hashes what a boot starts, as a verifier would who has the files.
func launchOf(t *testing.T, image []byte, variables string) measure.UKILaunch {
	t.Helper()
	code, _, err := FindOVMF()
	must(t, err)
	firmware, err := os.ReadFile(code)
	must(t, err)
	vars, err := os.ReadFile(variables)
	must(t, err)
	return measure.UKILaunch{Firmware: measure.CommandLine(string(firmware)), Variables: measure.CommandLine(string(vars)), UKI: measure.CommandLine(string(image))}
}
