// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"math"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// denied system calls fail with EPERM in both profiles: they reach the machine, or have been a way out of containers and
// are of no use in one.
var denied = [...]string{
	"_sysctl", "acct", "adjtimex", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module",
	"fanotify_init", "finit_module", "get_kernel_syms", "init_module", "io_uring_enter", "io_uring_register",
	"io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "lookup_dcookie", "mbind",
	"migrate_pages", "move_pages", "nfsservctl", "open_by_handle_at", "perf_event_open", "pidfd_getfd",
	"process_madvise", "query_module", "quotactl", "quotactl_fd", "reboot", "set_mempolicy", "settimeofday", "stime",
	"swapoff", "swapon", "sysfs", "syslog", "uselib", "userfaultfd", "ustat", "vhangup", "vm86", "vm86old",
}

// strictDenied is what the strict profile takes away besides: mounts, namespaces, other processes' memory, keyrings.
var strictDenied = [...]string{
	"add_key", "fsconfig", "fsmount", "fsopen", "fspick", "keyctl", "mount", "mount_setattr", "move_mount", "open_tree",
	"pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "request_key", "setns", "umount", "umount2", "unshare",
}

// Absent system calls fail with ENOSYS, so that a C library falls back: the 32-bit socketcall hides the address family in
// memory, where a filter cannot look, and so does clone3 with the flags that the strict profile denies.
const (
	absent       = "socketcall"
	strictAbsent = "clone3"
)

// namespaceFlags are the flags of clone(2) that make namespaces.
var namespaceFlags = [...]uint64{
	unix.CLONE_NEWNS, unix.CLONE_NEWCGROUP, unix.CLONE_NEWUTS, unix.CLONE_NEWIPC, unix.CLONE_NEWUSER, unix.CLONE_NEWPID,
	unix.CLONE_NEWNET,
}

// families of sockets that reach the host (vsock) or large parts of the kernel that a build does not need. The docker
// profile has packet sockets too, which reach the sandbox's own network only.
var (
	families       = [...]uint64{unix.AF_VSOCK, unix.AF_ALG, unix.AF_XDP, unix.AF_RDS, unix.AF_TIPC}
	strictFamilies = [...]uint64{unix.AF_PACKET}
)

// seccomp is the deny-list; everything else is allowed, since builds use everything.
func (p Profile) seccomp() *specs.LinuxSeccomp {
	fail := func(errno uint, names []string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: specs.ActErrno, ErrnoRet: &errno, Args: args}
	}
	calls := []specs.LinuxSyscall{
		fail(uint(unix.EPERM), denied[:]),
		fail(uint(unix.ENOSYS), []string{absent}),
	}
	closed := families[:]
	if p == Strict {
		calls = append(calls, fail(uint(unix.EPERM), strictDenied[:]), fail(uint(unix.ENOSYS), []string{strictAbsent}))
		for _, flag := range namespaceFlags {
			calls = append(calls, fail(uint(unix.EPERM), []string{"clone"}, firstArgument(flag, flag)))
		}
		closed = slices.Concat(closed, strictFamilies[:])
	}
	for _, family := range closed {
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
