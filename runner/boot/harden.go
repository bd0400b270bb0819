// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// setting is one line below /proc/sys, with the reason why it is written.
type setting struct{ name, value, reason string }

// settings close what one written line can close, before any program but kettled runs. They are of the machine: a job
// changes those of its own namespaces at most. What nothing writes needs no line (a job has no file of /proc/sys to write
// to): a line that repeats the kernel's own start is there to be demanded.
func settings() []setting {
	return []setting{
		{"kernel/modules_disabled", "1", "the measured list is loaded; nothing joins the kernel any more"},
		{"kernel/modprobe", "", "a missing module starts no program, which would run outside the sandbox"},
		{"kernel/usermodehelper/inheritable", "0 0", "whatever program the kernel starts by itself holds no capability"},
		{"kernel/usermodehelper/bset", "0 0", "and gets none"},
		{"kernel/core_pattern", "/dev/null", "the same for a core dump, which goes nowhere"},
		{"fs/suid_dumpable", "0", "a program that changed its rights shows its memory to nobody"},
		{"kernel/kexec_load_disabled", "1", "this kernel stays"},
		{"kernel/panic_on_oops", "1", "a kernel that stumbled over something does not go on"},
		{"kernel/sysrq", "0", "no key and no line makes the kernel do anything"},
		{"dev/tty/ldisc_autoload", "0", "a terminal gets no other line discipline"},
		{"dev/tty/legacy_tiocsti", "0", "nobody types into somebody else's terminal"},
		{"kernel/dmesg_restrict", "1", "the kernel's log, which has addresses, is not a job's to read"},
		{"kernel/kptr_restrict", "2", "nor are its addresses anywhere else"},
		{"kernel/randomize_va_space", "2", "programs lie where no attack expects them"},
		{"vm/mmap_min_addr", "65536", "a null pointer of the kernel points to nobody's memory"},
		{"kernel/perf_event_paranoid", "3", "performance counters, rich in kernel bugs and side channels, are kettled's"},
		// 1 and not 2: from 2 root could go back to 0 (Documentation/admin-guide/sysctl/kernel.rst).
		{"kernel/unprivileged_bpf_disabled", "1", "the kernel takes no program from a job, and nobody can change that"},
		{"net/core/bpf_jit_harden", "2", "nor machine code hidden in the constants of a filter"},
		{"kernel/io_uring_disabled", "2", "nobody here needs it, and seccomp does not see what goes through it"},
		{"vm/unprivileged_userfaultfd", "0", "a job cannot hold the kernel at a page fault of its choice"},
		// 1 and not 2: a debugger may start its program, as on the hosts that GitHub runs. A job has its own user namespace,
		// from which it can trace nothing of kettled's.
		{"kernel/yama/ptrace_scope", "1", "a process is traced by its ancestors and by root of its user namespace only"},
		{"fs/protected_symlinks", "1", "a link in a folder that all may write to leads nobody astray"},
		{"fs/protected_hardlinks", "1", "nobody links to a file of others"},
		{"fs/protected_fifos", "2", "nobody waits for a writer of others"},
		{"fs/protected_regular", "2", "nobody writes to a file that others put there"},
		{"net/ipv4/ip_forward", "0", "kettled's network carries no packet of a job"},
		{"net/ipv4/conf/all/route_localnet", "0", "the loopback addresses stay inside"},
		{"net/ipv4/conf/default/route_localnet", "0", "of interfaces that come later too"},
		{"net/ipv6/conf/all/disable_ipv6", "1", "the configuration names IPv4 addresses; the host announces no other way"},
		{"net/ipv6/conf/default/disable_ipv6", "1", "on interfaces that come later too"},
	}
}

// Harden closes, for good or until the machine ends, what the supervisor and its jobs have no use for: it writes the
// settings of the machine, reads them back, and asks whether the kernel is locked down as the measured command line says. A
// setting that the kernel lacks, or that did not take, is an error: what this kernel was measured with is known.
func Harden() error {
	if err := writeSettings("/proc/sys", settings()); err != nil {
		return err
	}
	return mountedBriefly("securityfs", "/sys/kernel/security", func(dir string) error {
		return lockedDown(filepath.Join(dir, "lockdown"))
	})
}

// ForbidUserNamespaces leaves making user namespaces to the machine's own root, kettled: for a profile whose jobs have no
// use for one, and most of what was ever found to attack in the kernel begins with one.
func ForbidUserNamespaces() error {
	return writeSettings("/proc/sys", []setting{
		{"kernel/unprivileged_userns_clone", "0", "CAP_SYS_ADMIN of a job's user namespace does not count"},
	})
}

// writeSettings writes every setting and demands that it took.
func writeSettings(root string, settings []setting) error {
	for _, s := range settings {
		path := filepath.Join(root, s.name)
		if err := writeSetting(path, s.value+"\n"); err != nil {
			return fmt.Errorf("setting %s: %w", s.name, err)
		}
		text, err := os.ReadFile(path) //nolint:gosec // proc; a parameter for tests.
		if err != nil {
			return fmt.Errorf("reading %s back: %w", s.name, err)
		}
		if got := strings.Join(strings.Fields(string(text)), " "); got != s.value {
			return fmt.Errorf("setting %s: it should be %q and is %q", s.name, s.value, got)
		}
	}
	return nil
}

func writeSetting(path, value string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // proc and sysfs; a parameter for tests.
	if err != nil {
		return err
	}
	_, err = file.WriteString(value)
	return errors.Join(err, file.Close())
}

// lockedDown demands the mode of the command line, from which the kernel goes only upwards (kernel_lockdown(7)): no
// unsigned module or kernel, no writing to the kernel's memory, ports or registers, root or not. Everything that kettled
// does with devices goes through their drivers, which "integrity" leaves alone; "confidentiality" would take the
// measurements of a build's processes away from it.
func lockedDown(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // securityfs; a parameter for tests.
	if err != nil {
		return fmt.Errorf("asking whether the kernel is locked down: %w", err)
	}
	if !strings.Contains(string(text), "[integrity]") {
		return fmt.Errorf("the kernel is not locked down: %q", strings.TrimSpace(string(text)))
	}
	return nil
}

// mountedBriefly mounts a file system of the kernel's for as long as look runs.
func mountedBriefly(kind, dir string, look func(dir string) error) error {
	if err := unix.Mount(kind, dir, kind, quiet, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", kind, err)
	}
	err := look(dir)
	if unmountErr := unix.Unmount(dir, 0); unmountErr != nil {
		return errors.Join(err, fmt.Errorf("unmounting %s: %w", kind, unmountErr))
	}
	return err
}
