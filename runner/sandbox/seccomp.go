// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"math"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// denied system calls fail with EPERM. The first group reaches the machine or has been a way out of containers; the
// second is what the strict profile takes away.
var denied = [...]string{
	"_sysctl", "acct", "adjtimex", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module",
	"fanotify_init", "finit_module", "get_kernel_syms", "init_module", "io_uring_enter", "io_uring_register",
	"io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "lookup_dcookie", "mbind",
	"migrate_pages", "move_pages", "nfsservctl", "open_by_handle_at", "perf_event_open", "pidfd_getfd",
	"process_madvise", "query_module", "quotactl", "quotactl_fd", "reboot", "set_mempolicy", "settimeofday", "stime",
	"swapoff", "swapon", "sysfs", "syslog", "uselib", "userfaultfd", "ustat", "vhangup", "vm86", "vm86old",

	"add_key", "fsconfig", "fsmount", "fsopen", "fspick", "keyctl", "mount", "mount_setattr", "move_mount", "open_tree",
	"pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "request_key", "setns", "umount", "umount2", "unshare",
}

// absent system calls fail with ENOSYS, so that a C library falls back: clone3 hides its flags in memory, where a filter
// cannot look, and the 32-bit socketcall hides the address family.
var absent = [...]string{"clone3", "socketcall"}

// namespaceFlags are the flags of clone(2) that make namespaces.
var namespaceFlags = [...]uint64{
	unix.CLONE_NEWNS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER, unix.CLONE_NEWPID,
	unix.CLONE_NEWNET,
}

// families of sockets that reach the host (vsock) or large parts of the kernel that a build does not need.
var families = [...]uint64{unix.AF_VSOCK, unix.AF_ALG, unix.AF_XDP, unix.AF_RDS, unix.AF_TIPC, unix.AF_PACKET}

// seccomp is the deny-list; everything else is allowed, since builds use everything.
func seccomp() *specs.LinuxSeccomp {
	fail := func(errno uint, names []string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &errno, Args: args}
	}
	calls := []specs.LinuxSyscall{
		fail(uint(unix.EPERM), denied[:]),
		fail(uint(unix.ENOSYS), absent[:]),
	}
	for _, flag := range namespaceFlags {
		calls = append(calls, fail(uint(unix.EPERM), []string{"clone"}, firstArgument(flag, flag)))
	}
	for _, family := range families {
		calls = append(calls, fail(uint(unix.EAFNOSUPPORT), []string{"socket"}, firstArgument(math.MaxUint32, family)))
	}
	return &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
		Syscalls:      calls,
	}
}

// firstArgument matches a call by some bits of its first argument. A filter sees the whole 64-bit register, while the
// kernel takes an int from its lower half, so that a comparison of all bits could be dodged by any of the upper ones.
func firstArgument(mask, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: 0, Value: mask, ValueTwo: value, Op: specs.OpMaskedEqual}
}
