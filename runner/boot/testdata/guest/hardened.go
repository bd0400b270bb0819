// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/boot"
)

// hardened looks at the machine and at this process as kettled's supervisor finds them. The values are written out here
// once more: the test does not ask the program that it tests.
func hardened(context.Context) (string, error) {
	for path, want := range map[string]string{
		"kernel/modules_disabled": "1", "kernel/modprobe": "", "kernel/usermodehelper/bset": "0 0", "kernel/usermodehelper/inheritable": "0 0",
		"kernel/core_pattern": "/dev/null", "fs/suid_dumpable": "0", "kernel/kexec_load_disabled": "1", "kernel/panic_on_oops": "1",
		"kernel/sysrq": "0", "dev/tty/ldisc_autoload": "0", "dev/tty/legacy_tiocsti": "0", "kernel/dmesg_restrict": "1",
		"kernel/kptr_restrict": "2", "kernel/randomize_va_space": "2", "vm/mmap_min_addr": "65536", "kernel/perf_event_paranoid": "3",
		"kernel/unprivileged_bpf_disabled": "1", "net/core/bpf_jit_harden": "2", "kernel/io_uring_disabled": "2",
		"vm/unprivileged_userfaultfd": "0", "kernel/yama/ptrace_scope": "1", "fs/protected_symlinks": "1", "fs/protected_hardlinks": "1",
		"fs/protected_fifos": "2", "fs/protected_regular": "2", "net/ipv4/ip_forward": "0", "net/ipv4/conf/all/route_localnet": "0",
		"net/ipv4/conf/default/route_localnet": "0", "net/ipv6/conf/all/disable_ipv6": "1", "net/ipv6/conf/default/disable_ipv6": "1",
	} {
		text, err := os.ReadFile("/proc/sys/" + path)
		if got := strings.Join(strings.Fields(string(text)), " "); err != nil || got != want {
			return "", fmt.Errorf("%s: want %q, got %q, %w", path, want, got, err)
		}
	}
	for path, value := range map[string]string{
		"kernel/modules_disabled": "0", "kernel/kexec_load_disabled": "0", "kernel/unprivileged_bpf_disabled": "0",
	} {
		if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0o600); err == nil {
			return "", fmt.Errorf("%s can be taken back", path)
		}
	}
	if err := errors.Join(closed(), process()); err != nil {
		return "", err
	}
	if err := userNamespace(); err != nil {
		return "", err
	}
	if code, err := nobody(); err != nil || code != made {
		return "", fmt.Errorf("nobody cannot make a user namespace to begin with: %d, %w", code, err)
	}
	if err := boot.ForbidUserNamespaces(); err != nil {
		return "", err
	}
	if code, err := nobody(); err != nil || code != refused {
		return "", fmt.Errorf("nobody can make a user namespace: %d, %w", code, err)
	}
	return "hardened", userNamespace()
}

// What asNobody exits with.
const (
	made    = 3
	refused = 4
)

// nobody runs asNobody in a process of a user without rights and gives its exit code.
func nobody() (int, error) {
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"nobody"}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1001, Gid: 1001}},
	})
	if err != nil {
		return 0, err
	}
	var status unix.WaitStatus
	_, err = unix.Wait4(pid, &status, 0, nil)
	return status.ExitStatus(), err
}

// asNobody tries to make a user namespace.
func asNobody() int {
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"nothing"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}})
	switch {
	case errors.Is(err, unix.EPERM):
		return refused
	case err != nil:
		return 1
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return 1
	}
	return made
}

// closed tries as root what lockdown and the settings forbid even to root.
func closed() error {
	var faults []error
	denied := func(what string, err error) {
		if err == nil {
			faults = append(faults, fmt.Errorf("%s: not denied", what))
		}
	}
	file, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err == nil {
		_, err = unix.Mmap(int(file.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		file.Close()
	}
	denied("reading /dev/mem", err)
	denied("writing to ports", unix.Iopl(3))
	own, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer own.Close()
	denied("loading a module", unix.FinitModule(int(own.Fd()), "", 0))
	denied("loading a kernel", unix.KexecFileLoad(int(own.Fd()), int(own.Fd()), "", 0))
	_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, uintptr(0), 0)
	if errno != unix.EPERM {
		faults = append(faults, fmt.Errorf("io_uring: want %v, got %v", unix.EPERM, errno))
	}
	return errors.Join(faults...)
}

// process looks at this process itself: hidden, locked, never chosen when memory runs out, without core dumps.
func process() error {
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		return fmt.Errorf("dumpable: %d, %w", dumpable, err)
	}
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core != (unix.Rlimit{}) {
		return fmt.Errorf("core dumps: %v, %w", core, err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil || files.Cur < 1<<14 {
		return fmt.Errorf("open files: %v, %w", files, err)
	}
	for _, pid := range []string{"self", "1"} {
		if score, err := os.ReadFile("/proc/" + pid + "/oom_score_adj"); err != nil || string(score) != "-1000\n" {
			return fmt.Errorf("%s: oom_score_adj %q, %w", pid, score, err)
		}
	}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); name == "VmLck" && strings.TrimSpace(value) == "0 kB" {
			return errors.New("the memory is not locked")
		}
	}
	return nil
}

// userNamespace makes one as the sandbox does: this program, stopped at its first instruction, in a map of its own. A
// hidden process must still be able to.
func userNamespace() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1 << 20, Size: 1 << 18}}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"userns"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true, Ptrace: true,
	}})
	if err != nil {
		return fmt.Errorf("making a user namespace: %w", err)
	}
	file, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err == nil {
		file.Close()
	}
	var status unix.WaitStatus
	killErr := unix.Kill(pid, unix.SIGKILL)
	_, waitErr := unix.Wait4(pid, &status, 0, nil)
	return errors.Join(err, killErr, waitErr)
}
