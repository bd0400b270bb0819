// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
)

// guestOK is the line that a guest prints when its tests have passed.
const guestOK = "guest tests: ok"

// TestVM boots this test program as the only program of an initrd, on the kernel of the image and on a root of the
// image's kind, and runs every test named TestGuest… there: crun needs a machine that is all its own.
func TestVM(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("boots a VM")
	}
	vm := guest(t)
	defer func() {
		vm.Kill()
		_ = vm.Wait()
	}()
	select {
	case <-vm.Done():
	case <-time.After(8 * time.Minute):
		t.Error("the guest did not end in time")
	}
}

// guest prepares and runs the VM to its end, or skips when this machine lacks a part.
func guest(t *testing.T) *launch.VM {
	t.Helper()
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := build.CachedKernel(cache)
	need(t, err)
	_, err = launch.FindQEMU()
	need(t, err)
	firmware, err := launch.FindFirmware()
	need(t, err)
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	command(t, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	root := filepath.Join(dir, "root.erofs")
	command(t, "mkfs.erofs", "--quiet", "--all-root", root, guestRoot(t, program))
	initrd, config := guestInitrd(t, kernel, program)
	console := filepath.Join(dir, "console")
	vm, err := launch.Start(t.Context(), launch.Config{
		Firmware: firmware, Kernel: kernel.Image, Initrd: initrd, Root: root,
		CommandLine: image.CommandLine{Config: config, Root: image.SHA256{1}}.String(),
		// One CPU: the emulator of older QEMU lets a second one stumble over code that the kernel patches ("Oops: int3").
		MemoryMiB: 1536, CPUs: 1, Acceleration: launch.Auto, Console: console,
		NewProcessor: func([48]byte) (launch.Processor, error) { return silent{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		said, err := os.ReadFile(console)
		if err != nil || !strings.Contains(string(said), "\n"+guestOK) {
			t.Errorf("the guest's tests failed (%v):\n%s", err, said)
			return
		}
		t.Logf("%s on %s:\n%s", kernel.Version, vm.Acceleration(), said)
	})
	return vm
}

// need skips when err says what is missing, unless the machine must have it.
func need(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("KETTLE_REQUIRE_VM") == "1":
		t.Fatal(err)
	default:
		t.Skipf("no VM here: %v", err)
	}
}

// command runs a tool for static programs.
func command(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	need(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// silent is a secure processor that nobody asks.
type silent struct{}

func (silent) Serve(_ context.Context, stream io.ReadWriter) error {
	_, err := io.Copy(io.Discard, stream)
	return err
}

func guestInitrd(t *testing.T, kernel *build.Kernel, program string) (string, image.SHA256) {
	t.Helper()
	config := t.TempDir()
	if err := os.WriteFile(filepath.Join(config, "config.yaml"), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	digest, err := build.WriteInitrd(t.Context(), &b, build.Initrd{Init: program, Config: config, Modules: kernel.Modules})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(config, "initrd")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name, digest
}

// guestRoot makes a root like the image's: crun and its libraries, an init, and the test program three times: as the
// runner program, to be run by root through its set-user-ID bit, and as what only root may read.
func guestRoot(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"proc", "sys", "dev", "run", "scratch", "tmp", "var/tmp", "home", "etc", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/root:/bin/false\nrunner:x:1001:1001::/home/runner:/bin/false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"crun", "catatonit"} {
		path, err := exec.LookPath(name)
		need(t, err)
		install(t, path, filepath.Join(dir, "usr/bin", name), 0o755)
		for _, lib := range libraries(t, path) {
			install(t, lib, filepath.Join(dir, lib), 0o755)
		}
	}
	install(t, program, filepath.Join(dir, "usr/lib/kettle/runner/bin/Runner.Listener"), 0o755)
	install(t, program, filepath.Join(dir, "usr/bin/as-root"), 0o755|os.ModeSetuid)
	return dir
}

// libraries lists what the dynamic linker would load.
func libraries(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // static
	}
	if err != nil {
		t.Fatal(err)
	}
	var libs []string
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			libs = append(libs, word)
		}
	}
	return libs
}

func install(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(to, data, 0o755), os.Chmod(to, mode)); err != nil {
		t.Fatal(err)
	}
}
