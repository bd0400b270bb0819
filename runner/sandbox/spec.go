// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The range of ids outside that the sandbox's ids 0 to 2^18-1 stand for. Nothing else may own files or run there.
const (
	idBase = 1 << 20
	idSize = 1 << 18
)

func mappings() []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: idBase, Size: idSize}}
}

func namespaces() []specs.LinuxNamespace {
	var all []specs.LinuxNamespace
	for _, t := range []specs.LinuxNamespaceType{
		specs.UserNamespace, specs.PIDNamespace, specs.MountNamespace, specs.NetworkNamespace, specs.IPCNamespace,
		specs.UTSNamespace, specs.CgroupNamespace,
	} {
		all = append(all, specs.LinuxNamespace{Type: t})
	}
	return all
}

// devices of the docker profile, besides the six that every sandbox has.
var devices = [...]struct {
	path         string
	major, minor int64
}{
	{"/dev/fuse", 10, 229},
	{"/dev/net/tun", 10, 200},
}

func (p Profile) deviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}} // the runtime adds the default six
	if p == Docker {
		for _, d := range devices {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &d.major, Minor: &d.minor, Access: "rw"})
		}
	}
	return rules
}

// capabilities of both profiles' bounding sets: what sudo and apt need. They are valid in the sandbox's own user namespace
// only, and the runner's user holds none of them until sudo gives them.
var capabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_SETFCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE",
}

// dockerCapabilities are all the others that the kernel knows: an engine cannot give a privileged container more than it
// has, and fails where it has less than all.
var dockerCapabilities = [...]string{
	"CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE", "CAP_DAC_READ_SEARCH",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD",
	"CAP_NET_ADMIN", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT",
	"CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
}

// masked paths read as empty. A fresh sysfs and procfs show nothing of configfs, securityfs or kettled; these show or
// steer the machine. The docker profile masks nothing: the kernel refuses a new procfs or sysfs to who sees only a part of
// the old one, and the user namespace closes what these paths hold.
var masked = [...]string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys",
	"/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/sched_debug",
	"/proc/scsi", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats", "/sys/class/virtio-ports", "/sys/class/tpm",
	"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/hypervisor", "/sys/kernel/config",
	"/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing",
}

var readOnly = [...]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"}

// spec is the container as the OCI runtime specification, config.md and config-linux.md, describes it. Limits are not in
// it: kettled sets them itself, on a group around the container's own.
func (c Config) spec(env []string, groups []uint32) *specs.Spec {
	oomScore := 0 // kettled's own is not inherited; engines set it to 0, which must not be less
	linux := &specs.Linux{
		UIDMappings: mappings(), GIDMappings: mappings(),
		Namespaces:        namespaces(),
		CgroupsPath:       cgroupOf(c).inner(),
		Resources:         &specs.LinuxResources{Devices: c.Profile.deviceRules()},
		Seccomp:           c.Profile.seccomp(),
		RootfsPropagation: "private",
	}
	if c.Profile == Strict {
		linux.MaskedPaths, linux.ReadonlyPaths = masked[:], readOnly[:]
	}
	return &specs.Spec{
		Version:  "1.0.2", // the oldest that has all of this
		Hostname: "runner",
		Root:     &specs.Root{Path: c.layer("root")},
		Process:  c.process(env, groups, &oomScore),
		Mounts:   c.mounts(),
		Linux:    linux,
	}
}

// process is the sandbox's first one: the runner's user, without any capability, or systemd with all of them.
func (c Config) process(env []string, groups []uint32, oomScore *int) *specs.Process {
	bounding := c.Profile.bounding()
	p := &specs.Process{
		Args: c.arguments(), Env: env, Cwd: RunnerRoot,
		User:         specs.User{UID: User, GID: User, AdditionalGids: groups},
		Capabilities: &specs.LinuxCapabilities{Bounding: bounding},
		Rlimits: []specs.POSIXRlimit{
			{Type: "RLIMIT_NOFILE", Soft: c.Limits.Files, Hard: c.Limits.Files}, {Type: "RLIMIT_CORE"},
		},
		OOMScoreAdj: oomScore,
	}
	if c.Init == Systemd {
		p.User, p.Cwd, p.Env = specs.User{}, "/", append([]string{"container=oci"}, env...)
		p.Capabilities.Permitted, p.Capabilities.Effective = bounding, bounding
	}
	return p
}

func (p Profile) bounding() []string {
	if p == Docker {
		return slices.Concat(capabilities[:], dockerCapabilities[:])
	}
	return capabilities[:]
}

// mounts lists what lies over the overlay.
func (c Config) mounts() []specs.Mount {
	mount := func(kind, target string, options ...string) specs.Mount {
		return specs.Mount{Type: kind, Source: kind, Destination: target, Options: options}
	}
	bind := func(source, target string, options ...string) specs.Mount {
		return specs.Mount{Type: "bind", Source: source, Destination: target, Options: append([]string{"bind"}, options...)}
	}
	system := "ro"
	if c.Profile == Docker {
		system = "rw" // what may be written to, the user namespace decides
	}
	all := []specs.Mount{
		mount("proc", "/proc", "nosuid", "noexec", "nodev"),
		mount("tmpfs", "/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=64k"),
		mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
		mount("tmpfs", "/dev/shm", "nosuid", "nodev", "noexec", "mode=1777"),
		mount("mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev"),
		mount("sysfs", "/sys", "nosuid", "noexec", "nodev", system),
		mount("cgroup", "/sys/fs/cgroup", "nosuid", "noexec", "nodev", system),
		mount("tmpfs", "/run", "nosuid", "nodev", "mode=755"),
		bind(c.Door, doorMount, "ro", "nosuid", "nodev", "noexec"),
		bind(c.state("init"), initMount, "ro", "nosuid", "nodev", "noexec"),
	}
	if c.Init == Systemd {
		all = append(all, bind(c.state("init/"+unitName), unitMount, "ro", "nosuid", "nodev", "noexec"))
	}
	for _, v := range c.Profile.volumes() {
		all = append(all, bind(c.volume(v.name), v.inside, "rw", "nodev"))
	}
	if c.Profile == Docker {
		for _, d := range devices {
			all = append(all, bind(d.path, d.path, "rw", "nosuid", "noexec"))
		}
	}
	return all
}

func writeSpec(file string, spec *specs.Spec) error {
	raw, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("encoding the sandbox's specification: %w", err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return fmt.Errorf("writing the sandbox's specification: %w", err)
	}
	return nil
}
