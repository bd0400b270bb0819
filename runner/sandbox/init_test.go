// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

// TestMain is three programs: PID 1 of the guest, what runs in the sandbox, and the tests.
func TestMain(m *testing.M) {
	switch {
	case os.Getpid() == 1:
		os.Exit(boot(m))
	case filepath.Base(os.Args[0]) == "Runner.Listener" || filepath.Base(os.Args[0]) == "as-root":
		os.Exit(payload(os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// inGuest is set once the guest is ready for the tests that need it.
const inGuest = "KETTLE_TEST_GUEST"

// boot is the least of what runner/boot does, then the tests, then the end.
func boot(m *testing.M) int {
	if err := prepareGuest(); err != nil {
		fmt.Println("guest tests: preparing:", err)
	} else {
		os.Args = []string{"/init", "-test.v", "-test.run=^TestGuest", "-test.timeout=7m"}
		if m.Run() == 0 {
			fmt.Println(guestOK)
		} else {
			fmt.Println("guest tests: failed")
		}
	}
	unix.Sync()
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("guest tests: powering off:", err)
	return 1
}

func prepareGuest() error {
	if err := loadModules(); err != nil {
		return err
	}
	for _, m := range [][3]string{
		{"devtmpfs", "/dev", ""}, {"erofs", "/sysroot", ""}, {"proc", "/sysroot/proc", ""}, {"sysfs", "/sysroot/sys", ""},
		{"devtmpfs", "/sysroot/dev", ""}, {"tmpfs", "/sysroot/run", "mode=755"}, {"tmpfs", "/sysroot/tmp", "mode=1777"},
		{"tmpfs", "/sysroot/scratch", "mode=711"}, {"cgroup2", "/sysroot/sys/fs/cgroup", ""}, {"configfs", "/sysroot/sys/kernel/config", ""},
		{"securityfs", "/sysroot/sys/kernel/security", ""},
	} {
		source, flags := m[0], uintptr(0)
		if source == "erofs" {
			source, flags = "/dev/vda", unix.MS_RDONLY
		}
		err := unix.Mount(source, m[1], m[0], flags, m[2])
		if err != nil && m[0] != "configfs" { // a module that the image does without
			return fmt.Errorf("mounting %s: %w", m[1], err)
		}
	}
	if err := errors.Join(os.Chdir("/sysroot"), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), os.Chdir("/")); err != nil {
		return fmt.Errorf("switching the root: %w", err)
	}
	all, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(all)) {
		if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+"+name), 0o600); err != nil {
			return fmt.Errorf("enabling the controller %s: %w", name, err)
		}
	}
	return errors.Join(os.Setenv(inGuest, "1"), os.Setenv("PATH", "/usr/bin"), os.Setenv("TMPDIR", "/tmp"))
}

func loadModules() error {
	list, err := os.ReadFile(image.ModuleList)
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(list)) {
		f, err := os.Open(filepath.Join(image.ModulesDir, name))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("loading %s: %w", name, err)
		}
	}
	return nil
}
