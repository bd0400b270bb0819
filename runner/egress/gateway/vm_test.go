// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
)

// What stops a packet is the kernel: the tests of this package run once more on the kernel of the image.

// vmTests are the ones that ask a kernel; vmOver is the line after the last of them.
const (
	vmTests = "^Test(Attack|Every|Inside|Settings|Close)"
	vmOver  = "vm: over"
)

// guest is PID 1 of the VM: this program. It does not return.
func guest(m *testing.M) {
	code := 1
	if err := prepareGuest(); err != nil {
		fmt.Println(err) //nolint:forbidigo // the console is all there is.
	} else {
		os.Args = []string{os.Args[0]}
		flag.Parse()
		err := errors.Join(flag.Set("test.v", "true"), flag.Set("test.run", vmTests))
		if code = m.Run(); err != nil {
			code = 1
		}
	}
	fmt.Println(vmOver, code) //nolint:forbidigo // as above.
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func prepareGuest() error {
	var errs []error
	for target, kind := range map[string]string{"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs"} {
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mounting %s: %w", target, err))
		}
	}
	errs = append(errs, os.WriteFile("/proc/sys/kernel/printk", []byte("4"), 0o600)) // errors alone stand among the lines of the tests
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for fd := range 3 {
		errs = append(errs, unix.Dup3(int(console.Fd()), fd, 0))
	}
	_ = console.Close() // goes on as 0, 1 and 2
	module, err := os.Open(filepath.Join(image.ModulesDir, "veth.ko"))
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer func() { _ = module.Close() }()
	return errors.Join(append(errs, unix.FinitModule(int(module.Fd()), "", 0))...)
}

func TestVM(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a VM")
	}
	t.Parallel()
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
	initrd, config := vmInitrd(t, dir, kernel)
	root, console := filepath.Join(dir, "root"), filepath.Join(dir, "console")
	if err := os.WriteFile(root, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	vm, err := launch.Start(t.Context(), launch.Config{
		Firmware: firmware, Kernel: kernel.Image, Initrd: initrd, Root: root,
		CommandLine: image.CommandLine{Config: config, Root: image.Verity{RootHash: image.SHA256{1}, DataBlocks: 1}, Debug: true}.String(),
		MemoryMiB:   768, CPUs: 1, Acceleration: launch.Auto, Console: console,
		NewProcessor: func([48]byte) (launch.Processor, error) { return silent{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-vm.Done():
	case <-time.After(8 * time.Minute):
		t.Error("the VM did not end in time")
	}
	vm.Kill()
	_ = vm.Wait()
	said, err := os.ReadFile(console)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(said), "\r\n", "\n")
	if !strings.Contains(text, "\n"+vmOver+" 0\n") || strings.Count(text, "\n--- PASS: ") < 10 || strings.Contains(text, "--- SKIP: ") {
		t.Errorf("the VM said:\n%s", text)
	}
}

// vmInitrd writes an initrd with this very package's tests as its only program.
func vmInitrd(t *testing.T, dir string, kernel *build.Kernel) (string, image.SHA256) {
	t.Helper()
	program := filepath.Join(dir, "init")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", program, ".") //nolint:gosec // a folder of this test.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	folder := filepath.Join(dir, "config")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, filepath.Base(image.ConfigFile)), []byte("none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	digest, err := build.WriteInitrd(t.Context(), &b, build.Initrd{Init: program, Config: folder, Modules: kernel.Modules, Profile: build.Strict})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "initrd")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name, digest
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

// silent is a secure processor that nobody asks.
type silent struct{}

func (silent) Serve(_ context.Context, stream io.ReadWriter) error {
	_, err := io.Copy(io.Discard, stream)
	return err
}
