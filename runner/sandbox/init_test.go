// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

// TestMain is two programs: PID 1 of the guest, and the tests.
func TestMain(m *testing.M) {
	if os.Getpid() == 1 {
		os.Exit(boot(m))
	}
	goleak.VerifyTestMain(m)
}

// inGuest is set once the guest is ready for the tests that need it.
const inGuest = "KETTLE_TEST_GUEST"

// secret is kettled's own; the job looks for it.
const secret = "kettled-s-own-secret"

// boot is the least of what runner/boot does, then the tests, then the end. Its orders are lines of the configuration:
// "run" and "skip" with a pattern each, "mutant" with the name of a program below mutantsDir and a pattern, and "set" with
// a variable and its value.
func boot(m *testing.M) int {
	orders, err := os.ReadFile(image.ConfigFile)
	if err == nil {
		err = prepareGuest()
	}
	if err != nil {
		fmt.Println("guest: preparing:", err)
	} else {
		obey(m, string(orders))
		fmt.Println(guestOver)
	}
	unix.Sync()
	err = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("guest: powering off:", err)
	return 1
}

func obey(m *testing.M, orders string) {
	args := []string{"/init", "-test.v", "-test.timeout=24m"}
	for line := range strings.Lines(orders) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch verb {
		case "set":
			name, value, _ := strings.Cut(rest, " ")
			_ = os.Setenv(name, value)
		case "mutant":
			name, attack, _ := strings.Cut(rest, " ")
			runMutant(name, attack)
		default:
			args = append(args, "-test."+verb+"="+rest)
		}
	}
	if len(args) > 3 {
		os.Args = args
		m.Run()
	}
}

// runMutant runs one attack of a program that lacks a check, and frames what it says.
func runMutant(name, attack string) {
	cmd := exec.Command(filepath.Join(mutantsDir, name), "-test.v", "-test.timeout=2m", "-test.run="+attack)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	fmt.Printf("=== MUTANT %s\n%s\n=== MUTANT END %v\n", name, out.String(), err)
}

type mount struct {
	kind, source, target, data string
	flags                      uintptr
}

// mounts of the guest; those of files that hold secrets or devices are there to be looked for.
var mounts = []mount{
	{"devtmpfs", "devtmpfs", "/dev", "", 0}, {"erofs", "/dev/vda", "/sysroot", "", unix.MS_RDONLY}, {"proc", "proc", "/sysroot/proc", "", 0},
	{"sysfs", "sysfs", "/sysroot/sys", "", 0}, {"devtmpfs", "devtmpfs", "/sysroot/dev", "", 0},
	{"tmpfs", "tmpfs", "/sysroot/run", "mode=755", 0}, {"tmpfs", "tmpfs", "/sysroot/tmp", "mode=1777", 0},
	{"cgroup2", "cgroup2", "/sysroot/sys/fs/cgroup", "nsdelegate", 0}, {"securityfs", "securityfs", "/sysroot/sys/kernel/security", "", 0},
	{"debugfs", "debugfs", "/sysroot/sys/kernel/debug", "", 0}, {"bpf", "bpf", "/sysroot/sys/fs/bpf", "", 0},
}

func prepareGuest() error {
	if err := loadModules(); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	if err := errors.Join(os.Chdir("/sysroot"), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), os.Chdir("/")); err != nil {
		return fmt.Errorf("switching the root: %w", err)
	}
	for name, value := range map[string]string{
		inGuest: "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": "/tmp", "SECRET": secret,
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	for name, value := range map[string]string{"printk": "4", "kptr_restrict": "2", "dmesg_restrict": "1", "unprivileged_bpf_disabled": "2", "modules_disabled": "1"} {
		if err := os.WriteFile("/proc/sys/kernel/"+name, []byte(value), 0o600); err != nil {
			return err
		}
	}
	return prepareScratch()
}

// diskSize is the job's disk, the least that mkfs.xfs makes.
const diskSize = "300m"

func prepareScratch() error {
	out, err := exec.Command("mkfs.xfs", "-q", "-K", "-m", "reflink=1", "-d", "size="+size(), image.ScratchDevice).CombinedOutput()
	if err != nil {
		return fmt.Errorf("making the disk: %w: %s", err, out)
	}
	if err := unix.Mount(image.ScratchDevice, "/scratch", "xfs", unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mounting the disk: %w", err)
	}
	if err := os.WriteFile("/run/kettle-secret", []byte(secret), 0o600); err != nil {
		return err
	}
	return os.Chmod("/scratch", 0o711)
}

// size of the disk: what engines unpack needs more of it.
func size() string {
	if _, err := os.Stat("/usr/bin/podman"); err == nil {
		return "1500m"
	}
	return diskSize
}

func loadModules() error {
	list, err := os.ReadFile(image.ModuleList)
	if err != nil {
		return err
	}
	modules, err := image.ParseModules(string(list))
	if err != nil {
		return err
	}
	for _, module := range modules {
		if module.Optional {
			continue // hardware that the emulator does not have
		}
		f, err := os.Open(filepath.Join(image.ModulesDir, module.File))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), strings.Join(module.Parameters, " "), 0)
		if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("loading %s: %w", module.File, err)
		}
	}
	return nil
}
