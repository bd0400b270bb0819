// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// escapeAs runs the attacks as the runner's user or, through the set-user-ID program, as the sandbox's root.
func escapeAs(who, supervisor string) int {
	if who == "root" && os.Geteuid() != 0 {
		cmd := exec.Command("/usr/bin/as-root", "escape", who, supervisor)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Println(err)
			return 1
		}
		return 0
	}
	if who == "root" {
		if err := errors.Join(syscall.Setgid(0), syscall.Setuid(0)); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("uid", os.Getuid())
	pid, err := strconv.Atoi(supervisor)
	if err != nil {
		return 1
	}
	a := &attacker{}
	a.processes(pid)
	a.devices()
	a.fileSystems()
	a.systemCalls()
	a.files()
	a.network()
	if a.reached > 0 {
		return 1
	}
	return 0
}

// attacker reports each attempt as a line of a table.
type attacker struct{ reached int }

func (a *attacker) try(name string, err error) {
	if err == nil {
		a.reached++
		fmt.Printf("REACHED %s\n", name)
		return
	}
	fmt.Printf("denied  %-44s %v\n", name, err)
}

func call(number uintptr, args ...uintptr) error {
	var all [6]uintptr
	copy(all[:], args)
	if _, _, errno := syscall.RawSyscall6(number, all[0], all[1], all[2], all[3], all[4], all[5]); errno != 0 {
		return errno
	}
	return nil
}

// readable is nil when at least one byte can be read.
func readable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		names, err := f.Readdirnames(1)
		if len(names) > 0 {
			return nil
		}
		return err
	}
	n, err := f.Read(make([]byte, 16))
	if n > 0 {
		return nil
	}
	return err
}

// writable is nil when name can be opened for writing and is not the null device, which masks it.
func writable(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
		return errors.New("masked by the null device")
	}
	return nil
}

// processes looks for kettled: the sandbox has its own pid 1, so that kettled is looked for among all that it sees.
func (a *attacker) processes(pid int) {
	seen, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	err := fmt.Errorf("not among %d processes", len(seen))
	for _, name := range seen {
		if text, _ := os.ReadFile(name); strings.Contains(string(text), "/init") {
			err = nil
		}
	}
	a.try("see the supervisor in /proc", err)
	one, _ := os.ReadFile("/proc/1/cmdline")
	if pid != 1 || !strings.Contains(string(one), "catatonit") {
		a.try("pid 1 is not the sandbox's own", nil)
	}
	a.try("ptrace another process", call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(os.Getppid())))
	a.try("process_vm_readv", call(unix.SYS_PROCESS_VM_READV, uintptr(os.Getppid()), 0, 0, 0, 0))
	a.try("kcmp", call(unix.SYS_KCMP, 1, 1, 0))
}

func (a *attacker) devices() {
	dir := "/tmp/dev" + strconv.Itoa(os.Getuid())
	_ = os.Mkdir(dir, 0o755)
	for _, d := range []struct {
		name         string
		kind         uint32
		major, minor uint32
	}{
		{"mem", unix.S_IFCHR, 1, 1}, {"port", unix.S_IFCHR, 1, 4}, {"kmsg", unix.S_IFCHR, 1, 11}, {"ttyS0", unix.S_IFCHR, 4, 64},
		{"vda", unix.S_IFBLK, 254, 0}, {"vport1p1", unix.S_IFCHR, 250, 1}, {"vport2p1", unix.S_IFCHR, 249, 1},
		{"sev-guest", unix.S_IFCHR, 10, 124}, {"tdx_guest", unix.S_IFCHR, 10, 125}, {"tpm0", unix.S_IFCHR, 10, 224},
		{"tpmrm0", unix.S_IFCHR, 253, 0}, {"kvm", unix.S_IFCHR, 10, 232}, {"vsock", unix.S_IFCHR, 10, 121}, {"fuse", unix.S_IFCHR, 10, 229},
		{"loop-control", unix.S_IFCHR, 10, 237}, {"hwrng", unix.S_IFCHR, 10, 183},
	} {
		a.try("open /dev/"+d.name, readable("/dev/"+d.name))
		node := filepath.Join(dir, d.name)
		err := unix.Mknod(node, d.kind|0o666, int(unix.Mkdev(d.major, d.minor)))
		if err == nil {
			err = readable(node)
		}
		a.try("mknod and open "+d.name, err)
	}
	for _, name := range []string{"/dev/vport*", "/dev/vd*", "/dev/tpm*", "/dev/sev*", "/dev/disk"} {
		found, _ := filepath.Glob(name)
		if len(found) > 0 {
			a.try("see "+name, nil)
		} else {
			a.try("see "+name, os.ErrNotExist)
		}
	}
}

func (a *attacker) fileSystems() {
	_ = os.Mkdir("/tmp/m", 0o777)
	for _, kind := range []string{"configfs", "securityfs", "debugfs", "tracefs", "bpf", "devtmpfs", "proc", "sysfs", "tmpfs", "overlay", "cgroup2", "9p"} {
		a.try("mount "+kind, unix.Mount("none", "/tmp/m", kind, 0, ""))
	}
	a.try("mount the root disk", unix.Mount("/dev/vda", "/tmp/m", "erofs", unix.MS_RDONLY, ""))
	a.try("remount / writable", unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, ""))
	a.try("unmount /run/kettle", unix.Unmount("/run/kettle", unix.MNT_DETACH))
	a.try("write /run/kettle", os.WriteFile("/run/kettle/x", nil, 0o600))
	a.try("write kettled's note", os.WriteFile("/run/kettle/note", nil, 0o600))
}

// systemCalls demands of each denied call the filter's own error: the arguments are nonsense, and another error would
// mean that the kernel looked at them.
func (a *attacker) systemCalls() {
	for name, number := range map[string]uintptr{
		"mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "pivot_root": unix.SYS_PIVOT_ROOT, "unshare": unix.SYS_UNSHARE,
		"setns": unix.SYS_SETNS, "open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN,
		"fsmount": unix.SYS_FSMOUNT, "fsconfig": unix.SYS_FSCONFIG, "fspick": unix.SYS_FSPICK, "mount_setattr": unix.SYS_MOUNT_SETATTR,
		"ptrace": unix.SYS_PTRACE, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV, "bpf": unix.SYS_BPF,
		"perf_event_open": unix.SYS_PERF_EVENT_OPEN, "io_uring_setup": unix.SYS_IO_URING_SETUP, "userfaultfd": unix.SYS_USERFAULTFD,
		"open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT, "init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE,
		"delete_module": unix.SYS_DELETE_MODULE, "kexec_load": unix.SYS_KEXEC_LOAD, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD,
		"reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF, "settimeofday": unix.SYS_SETTIMEOFDAY,
		"clock_settime": unix.SYS_CLOCK_SETTIME, "adjtimex": unix.SYS_ADJTIMEX, "iopl": unix.SYS_IOPL, "ioperm": unix.SYS_IOPERM,
		"acct": unix.SYS_ACCT, "quotactl": unix.SYS_QUOTACTL, "syslog": unix.SYS_SYSLOG, "keyctl": unix.SYS_KEYCTL,
		"add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY, "fanotify_init": unix.SYS_FANOTIFY_INIT,
		"pidfd_getfd": unix.SYS_PIDFD_GETFD, "process_madvise": unix.SYS_PROCESS_MADVISE, "move_pages": unix.SYS_MOVE_PAGES,
	} {
		if err := call(number, ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0), ^uintptr(0)); !errors.Is(err, unix.EPERM) {
			fmt.Printf("%s passed the filter: %v\n", name, err)
			a.try("call "+name, nil)
			continue
		}
		a.try("call "+name, unix.EPERM)
	}
	if err := call(unix.SYS_CLONE3, 0, 0); !errors.Is(err, unix.ENOSYS) {
		a.try("clone3", nil)
	}
	for name, flag := range map[string]uintptr{"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID} {
		_, err := syscall.ForkExec("/proc/self/exe", []string{"Runner.Listener", "exit"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: flag}})
		a.try("clone a "+name+" namespace", err)
	}
}

func (a *attacker) files() {
	for _, name := range []string{
		"/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/key-users", "/proc/kmsg", "/proc/timer_list", "/proc/sysrq-trigger",
		"/sys/firmware", "/sys/kernel/security", "/sys/kernel/config", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/bpf",
		"/sys/class/virtio-ports", "/sys/kernel/config/tsm/report", "/sys/kernel/security/tpm0/binary_bios_measurements", "/scratch",
		"/proc/1/root/scratch",
	} {
		a.try("read "+name, readable(name))
	}
	for _, name := range []string{
		"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname",
		"/sys/power/state", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids.max",
		"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cgroup.freeze", "/proc/1/oom_score_adj_",
	} {
		a.try("write "+name, writable(name))
	}
	a.try("raise the limit of files", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	a.try("lower the OOM score below kettled's", os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0o600))
}

func (a *attacker) network() {
	for name, family := range map[string]int{"AF_VSOCK": unix.AF_VSOCK, "AF_ALG": unix.AF_ALG, "AF_PACKET": unix.AF_PACKET, "AF_XDP": unix.AF_XDP} {
		_, err := unix.Socket(family, unix.SOCK_STREAM, 0)
		a.try("socket "+name, err)
	}
	a.wideFamilies()
	_, err := net.Dial("unix", "@kettle-test-outside")
	a.try("abstract socket of the outside", err)
	for _, address := range []string{"169.254.169.254:80", "10.0.2.2:80", "10.0.2.100:443", "1.1.1.1:53", "[fd00::1]:80"} {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		a.try("connect "+address, err)
	}
	_, err = net.LookupHost("example.com")
	a.try("resolve a name that is not listed", err)
	a.try("add an address", addAddress())
}

// wideFamilies hides the family of a socket below bits that the kernel does not look at. Only the filter answers
// EAFNOSUPPORT to all of them: the kernel would ask a packet socket for CAP_NET_RAW first.
func (a *attacker) wideFamilies() {
	for name, family := range map[string]uintptr{
		"AF_VSOCK": unix.AF_VSOCK, "AF_ALG": unix.AF_ALG, "AF_XDP": unix.AF_XDP, "AF_RDS": unix.AF_RDS, "AF_TIPC": unix.AF_TIPC,
		"AF_PACKET": unix.AF_PACKET,
	} {
		for _, upper := range []uintptr{1 << 32, 1 << 63, 0xffffffff << 32} {
			err := call(unix.SYS_SOCKET, upper|family, unix.SOCK_RAW, 0)
			if !errors.Is(err, unix.EAFNOSUPPORT) {
				fmt.Printf("socket %#x passed the filter: %v\n", upper|family, err)
				err = nil
			}
			a.try(fmt.Sprintf("socket %s as %#x", name, upper|family), err)
		}
	}
}

// addAddress tries what only CAP_NET_ADMIN may: to bring an interface down (netdevice(7)).
func addAddress() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var request [40]byte
	copy(request[:], "lo")
	return call(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
}
