// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// secret is in kettled's environment, in a file that only kettled may read, and in a key.
const secret = "kettled-s-own-secret"

// processes looks for kettled: the sandbox has its own pid 1, so that kettled is looked for among all that it sees, and
// by the number that it has outside.
func (a *attacker) processes() {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	seen := fmt.Errorf("not among %d processes", len(dirs))
	environment, memory := seen, seen
	for _, dir := range dirs {
		text, _ := os.ReadFile(dir + "/cmdline")
		if line := string(text); strings.HasPrefix(line, "/init\x00") || strings.Contains(line, "-test.run") {
			seen = nil
			environment, memory = holds(dir+"/environ", secret), readable(dir+"/mem")
		}
		if holds(dir+"/environ", secret) == nil {
			environment = nil
		}
	}
	a.try("see kettled in /proc", seen)
	a.try("read kettled's environment", environment)
	a.try("open kettled's memory", memory)
	one, _ := os.ReadFile("/proc/1/cmdline")
	if !strings.Contains(string(one), "catatonit") && os.Getenv("NESTED") == "" {
		a.try("pid 1 is not the sandbox's own", nil)
	}
	if a.supervisor != "1" {
		a.try("signal the number that kettled has outside", unix.Kill(atoi(a.supervisor), 0))
	}
	for _, name := range []string{"/scratch", "/proc/1/root/scratch", "/run/kettle-secret", "/proc/1/root/run/kettle-secret", "/host/run/kettle-secret"} {
		a.try("read "+name, readable(name))
	}
	a.try("write /run/kettle", os.WriteFile("/run/kettle/x", nil, 0o600))
	a.try("write kettled's note", writable("/run/kettle/note"))
	a.try("write the start script", writable("/run/kettle-init/start"))
	_, err := unixDial("@kettled-outside")
	a.try("abstract socket of the outside", err)
	parent := uintptr(os.Getppid())
	a.strictly("ptrace another process", func() error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, parent) })
	a.strictly("process_vm_readv", func() error { return call(unix.SYS_PROCESS_VM_READV, parent, 0, 0, 0, 0) })
}

func atoi(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 1 << 30
	}
	return n
}

// ordinary devices are in every sandbox.
var ordinary = []string{"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd", "stdin", "stdout", "stderr", "core"}

func (a *attacker) devices() {
	allowed := slices.Clone(ordinary)
	if !a.strict {
		allowed = append(allowed, "fuse", "net")
	}
	found, _ := os.ReadDir("/dev")
	for _, entry := range found {
		if !slices.Contains(allowed, entry.Name()) {
			a.try("see /dev/"+entry.Name(), nil)
		}
	}
	for _, dir := range []string{"/tmp", "/dev", "/var/tmp", "/dev/shm", "/run"} {
		for _, d := range []struct {
			name         string
			kind         uint32
			major, minor uint32
		}{
			{"mem", unix.S_IFCHR, 1, 1}, {"port", unix.S_IFCHR, 1, 4}, {"kmsg", unix.S_IFCHR, 1, 11}, {"ttyS0", unix.S_IFCHR, 4, 64},
			{"sev-guest", unix.S_IFCHR, 10, 124}, {"tdx_guest", unix.S_IFCHR, 10, 125}, {"tpm0", unix.S_IFCHR, 10, 224},
			{"kvm", unix.S_IFCHR, 10, 232}, {"vsock", unix.S_IFCHR, 10, 121}, {"loop-control", unix.S_IFCHR, 10, 237},
			{"hwrng", unix.S_IFCHR, 10, 183}, {"mapper-control", unix.S_IFCHR, 10, 236}, {"ram0", unix.S_IFBLK, 1, 0},
		} {
			a.tryNode(filepath.Join(dir, "node-"+d.name), d.kind, unix.Mkdev(d.major, d.minor))
		}
	}
	a.numbers()
}

func (a *attacker) tryNode(node string, kind uint32, number uint64) {
	err := unix.Mknod(node, kind|0o666, int(number))
	if err == nil {
		var fd int
		fd, err = unix.Open(node, unix.O_RDONLY|unix.O_NONBLOCK, 0)
		_ = unix.Close(fd)
		_ = os.Remove(node)
	}
	a.try("make and open "+node, err)
}

// numbers makes and opens a node for every device that this kernel has, whatever its number.
func (a *attacker) numbers() {
	tried := 0
	for kind, mode := range map[string]uint32{"char": unix.S_IFCHR, "block": unix.S_IFBLK} {
		entries, _ := os.ReadDir("/sys/dev/" + kind)
		for _, e := range entries {
			var major, minor uint32
			if _, err := fmt.Sscanf(e.Name(), "%d:%d", &major, &minor); err != nil {
				continue
			}
			free := kind == "char" && (major == 1 && minor != 1 && minor != 4 && minor != 11 || major == 5 || major == 10 && (minor == 229 || minor == 200) && !a.strict)
			if major == 4 && minor > 1 && minor < 64 || free { // consoles, all alike
				continue
			}
			tried++
			target, _ := os.Readlink(filepath.Join("/sys/dev", kind, e.Name()))
			a.tryNode("/dev/node-"+filepath.Base(target), mode, unix.Mkdev(major, minor))
		}
	}
	if tried < 5 {
		a.try(fmt.Sprintf("only %d devices in /sys/dev", tried), nil)
	}
}

func (a *attacker) mounts() {
	_ = os.Mkdir("/tmp/m", 0o777)
	mount := func(source, kind, data string) error {
		err := unix.Mount(source, "/tmp/m", kind, 0, data)
		if err == nil {
			err = readable("/tmp/m") // an empty one shows nothing
			_ = unix.Unmount("/tmp/m", unix.MNT_DETACH)
		}
		return err
	}
	for _, kind := range []string{
		"configfs", "securityfs", "debugfs", "tracefs", "devtmpfs", "efivarfs", "pstore", "fusectl", "hugetlbfs", "cgroup", "bpf",
		"nfs", "cifs", "rpc_pipefs", "nfsd", "resctrl", "selinuxfs", "smackfs",
	} {
		a.try("mount "+kind, mount("none", kind, ""))
		a.try("open file system "+kind, fsopen(kind))
	}
	a.try("mount 9p", mount("kettle", "9p", "trans=virtio"))
	a.try("mount virtiofs", mount("kettle", "virtiofs", ""))
	for name, kind := range map[string]string{"vda": "erofs", "ram0": "xfs"} {
		_ = unix.Mknod("/tmp/disk-"+name, unix.S_IFBLK|0o666, int(unix.Mkdev(254, 0)))
		for _, source := range []string{"/dev/" + name, "/dev/root", "/tmp/disk-" + name, name} {
			a.try("mount "+source, mount(source, kind, ""))
			a.try("mount "+source+" as ext4", mount(source, "ext4", ""))
		}
	}
	for _, kind := range []string{"proc", "sysfs", "tmpfs", "overlay", "cgroup2", "mqueue", "devpts"} {
		a.strictly("mount "+kind, func() error { return mount("none", kind, "") })
	}
	// Root may change the flags of its own mounts in the docker profile, and gains nothing by it.
	remount := func(dir string) error { return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, "") }
	for _, file := range []string{"/run/kettle/note", "/run/kettle-init/start"} {
		dir := filepath.Dir(file)
		a.strictly("remount writable "+dir, func() error { return remount(dir) })
		_ = remount(dir)
		a.try("write "+file+" after a remount", writable(file))
		a.try("write "+dir+" after a remount", os.WriteFile(dir+"/x", nil, 0o600))
		a.strictly("unmount "+dir, func() error { return unix.Unmount(dir, 0) })
	}
	for _, dir := range []string{"/home/runner", "/tmp", "/"} {
		a.strictly("allow devices on "+dir, func() error { return remount(dir) })
		_ = remount(dir)
		a.tryNode(filepath.Join(dir, "node-vda"), unix.S_IFBLK, unix.Mkdev(254, 0))
		a.tryNode(filepath.Join(dir, "node-kmsg"), unix.S_IFCHR, unix.Mkdev(1, 11))
	}
	a.strictly("unmount /proc", func() error { return unix.Unmount("/proc", unix.MNT_DETACH) })
}

// fsopen goes the way of the newer calls (fsopen(2)).
func fsopen(kind string) error {
	fd, err := unix.Fsopen(kind, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.FsconfigCreate(fd); err != nil {
		return err
	}
	mnt, err := unix.Fsmount(fd, 0, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(mnt) }()
	return readable("/proc/self/fd/" + strconv.Itoa(mnt))
}

// calls demands of each denied call the filter's own error: the arguments are nonsense, and another error would mean that
// the kernel looked at them.
func (a *attacker) calls() {
	all := map[string]uintptr{
		"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "io_uring_setup": unix.SYS_IO_URING_SETUP,
		"io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER, "userfaultfd": unix.SYS_USERFAULTFD,
		"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE,
		"delete_module": unix.SYS_DELETE_MODULE, "kexec_load": unix.SYS_KEXEC_LOAD, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD,
		"reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF, "settimeofday": unix.SYS_SETTIMEOFDAY,
		"clock_settime": unix.SYS_CLOCK_SETTIME, "clock_adjtime": unix.SYS_CLOCK_ADJTIME, "adjtimex": unix.SYS_ADJTIMEX, "iopl": unix.SYS_IOPL,
		"ioperm": unix.SYS_IOPERM, "acct": unix.SYS_ACCT, "quotactl": unix.SYS_QUOTACTL, "quotactl_fd": unix.SYS_QUOTACTL_FD,
		"syslog": unix.SYS_SYSLOG, "fanotify_init": unix.SYS_FANOTIFY_INIT, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "kcmp": unix.SYS_KCMP,
		"process_madvise": unix.SYS_PROCESS_MADVISE, "move_pages": unix.SYS_MOVE_PAGES, "mbind": unix.SYS_MBIND,
		"migrate_pages": unix.SYS_MIGRATE_PAGES, "set_mempolicy": unix.SYS_SET_MEMPOLICY, "vhangup": unix.SYS_VHANGUP,
		"lookup_dcookie": unix.SYS_LOOKUP_DCOOKIE, "ustat": unix.SYS_USTAT, "sysfs": unix.SYS_SYSFS,
	}
	if a.strict {
		for name, number := range map[string]uintptr{
			"mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT, "unshare": unix.SYS_UNSHARE,
			"setns": unix.SYS_SETNS, "open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN,
			"fsmount": unix.SYS_FSMOUNT, "fsconfig": unix.SYS_FSCONFIG, "fspick": unix.SYS_FSPICK, "mount_setattr": unix.SYS_MOUNT_SETATTR,
			"ptrace": unix.SYS_PTRACE, "process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV,
			"keyctl": unix.SYS_KEYCTL, "add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY,
		} {
			all[name] = number
		}
		if err := call(unix.SYS_CLONE3, 0, 0); !errors.Is(err, unix.ENOSYS) {
			a.try("call clone3", nil)
		}
	}
	none := ^uintptr(0)
	for name, number := range all {
		err := call(number, none, none, none, none, none)
		if !errors.Is(err, unix.EPERM) {
			fmt.Printf("%s passed the filter: %v\n", name, err)
			err = nil
		}
		a.try("call "+name, err)
	}
}

func (a *attacker) kernelFiles() {
	for _, name := range []string{
		"/proc/kcore", "/proc/kmsg", "/proc/timer_list", "/proc/vmallocinfo", "/proc/slabinfo", "/proc/pagetypeinfo", "/proc/kpagecount",
		"/sys/kernel/security", "/sys/kernel/config", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/fs/pstore",
		"/sys/kernel/config/tsm/report", "/sys/kernel/security/tpm0/binary_bios_measurements", "/sys/firmware/acpi/tables/DSDT",
		"/proc/1/root/sys/kernel/config/tsm", "/sys/class/dmi/id/product_serial",
	} {
		a.try("read "+name, readable(name))
	}
	a.try("read kernel addresses", addresses("/proc/kallsyms"))
	for _, name := range []string{"/proc/kallsyms", "/proc/keys", "/proc/key-users", "/sys/firmware", "/sys/class/virtio-ports", "/proc/interrupts"} {
		a.strictly("read "+name, func() error { return readable(name) })
	}
	for _, name := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sysrq-trigger",
		"/proc/sys/kernel/modules_disabled", "/proc/sys/kernel/kptr_restrict", "/proc/sys/kernel/unprivileged_bpf_disabled",
		"/proc/sys/kernel/sysrq", "/proc/sys/kernel/panic", "/proc/sys/vm/drop_caches", "/proc/sys/vm/overcommit_memory",
		"/proc/sys/fs/suid_dumpable", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sys/vm/mmap_min_addr", "/proc/kcore",
		"/sys/power/state", "/sys/power/disk", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper",
		"/sys/module/brd/uevent", "/sys/block/vda/queue/scheduler", "/sys/block/ram0/uevent", "/sys/bus/virtio/drivers/virtio_blk/unbind",
		"/sys/bus/pci/rescan", "/proc/irq/default_smp_affinity", "/proc/mtrr",
	} {
		a.try("write "+name, writable(name))
	}
	for _, name := range []string{"/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward"} {
		a.strictly("write "+name, func() error { return writable(name) })
	}
	a.try("raise the limit of files", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	a.try("lower the OOM score below kettled's", os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0o600))
}

// addresses is nil when one of the first lines begins with another address than zero.
func addresses(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	first := make([]byte, 4096)
	n, err := f.Read(first)
	for line := range strings.Lines(string(first[:n])) {
		if word, _, _ := strings.Cut(line, " "); strings.Trim(word, "0\n") != "" {
			return nil
		}
	}
	return errors.Join(errors.New("all zero"), err)
}

// groups tries what is above the sandbox's own cgroup, and the files that hold limits.
func (a *attacker) groups() {
	where, _ := os.ReadFile("/proc/self/cgroup")
	err := fmt.Errorf("in %s", strings.TrimSpace(string(where)))
	if strings.Contains(string(where), "/..") || strings.Contains(string(where), "/kettle") {
		err = nil
	}
	a.try("see groups above", err)
	mine := os.Getpid()
	for _, base := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/..", "/sys/fs/cgroup/../.."} {
		for _, name := range []string{
			"pids.max", "memory.max", "memory.high", "memory.swap.max", "cpu.max", "cpu.weight", "io.max", "io.weight",
			"cgroup.freeze", "cgroup.kill", "cgroup.max.descendants", "cgroup.max.depth", "cgroup.type", "cpu.pressure",
		} {
			a.try("write "+base+"/"+name, writable(base+"/"+name))
		}
	}
	a.strictly("join a group", func() error {
		return os.WriteFile("/sys/fs/cgroup/cgroup.procs", []byte(strconv.Itoa(mine)), 0o600)
	})
	a.strictly("make a group", func() error { return os.Mkdir("/sys/fs/cgroup/own", 0o755) })
	outside, _ := filepath.Glob("/sys/fs/cgroup/kettle*")
	err = fs.ErrNotExist
	if len(outside) > 0 {
		err = nil
	}
	a.try("see kettled's groups", err)
}

// clock sets it to where it is: that would be enough.
func (a *attacker) clock() {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &now)
	value := unix.NsecToTimeval(now.Nano())
	a.try("settimeofday", unix.Settimeofday(&value))
	a.try("clock_settime", unix.ClockSettime(unix.CLOCK_REALTIME, &now))
	_, err := unix.Adjtimex(&unix.Timex{Modes: unix.ADJ_FREQUENCY})
	a.try("adjtimex", err)
	a.try("read /dev/rtc0", readable("/dev/rtc0"))
}

// keys looks for kettled's (keyrings(7)): by its number, and from the keyrings that a process has.
func (a *attacker) keys() {
	buf := make([]byte, 64)
	serial := atoi(a.key)
	_, err := unix.KeyctlBuffer(unix.KEYCTL_READ, serial, buf, len(buf))
	a.try("read kettled's key", err)
	_, err = unix.KeyctlString(unix.KEYCTL_DESCRIBE, serial)
	a.try("describe kettled's key", err)
	for name, ring := range map[string]int{
		"session": unix.KEY_SPEC_SESSION_KEYRING, "user": unix.KEY_SPEC_USER_KEYRING, "user session": unix.KEY_SPEC_USER_SESSION_KEYRING,
	} {
		_, err = unix.KeyctlSearch(ring, "user", "kettled", 0)
		a.try("search the "+name+" keyring for it", err)
	}
	_, err = unix.KeyctlInt(unix.KEYCTL_LINK, serial, unix.KEY_SPEC_PROCESS_KEYRING, 0, 0)
	a.try("link it", err)
	a.try("see it in /proc/keys", holds("/proc/keys", "kettled"))
	_, err = unix.RequestKey("user", "kettled", "", unix.KEY_SPEC_PROCESS_KEYRING)
	a.try("request it", err)
}

// disk asks the job's file system for what only its owner may.
func (a *attacker) disk() {
	for _, dir := range []string{"/home/runner", "/tmp", "/", "/host/home/runner", "/host/tmp"} {
		f, err := os.Open(dir)
		if err != nil {
			continue
		}
		var word [32]uint64
		for name, number := range map[string]uintptr{
			"FIFREEZE": 0xc0045877, "FITRIM": 0xc0185879, "XFS_IOC_GOINGDOWN": 0x8004587d, "XFS_IOC_FSGROWFSDATA": 0x4010586e,
			"XFS_IOC_ERROR_INJECTION": 0x40085874, "XFS_IOC_FSBULKSTAT": 0xc0205865, "XFS_IOC_SET_RESBLKS": 0xc0105872,
		} {
			a.try(name+" on "+dir, call(unix.SYS_IOCTL, f.Fd(), number, uintptr(unsafe.Pointer(&word))))
		}
		immutable := uint64(0x10)
		a.try("make immutable "+dir, call(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_SETFLAGS, uintptr(unsafe.Pointer(&immutable))))
		_ = f.Close()
	}
}
