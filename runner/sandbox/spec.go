// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// capabilities is the bounding set of the strict profile: what sudo and apt need, valid in the sandbox's own user
// namespace only. The runner's user holds none of them.
var capabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP",
	"CAP_SETFCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_AUDIT_WRITE",
}

// masked paths read as empty. A fresh sysfs and procfs show nothing of configfs, securityfs or kettled; these show or
// steer the machine.
var masked = [...]string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kallsyms", "/proc/kcore", "/proc/key-users", "/proc/keys",
	"/proc/kmsg", "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/sched_debug",
	"/proc/scsi", "/proc/sysrq-trigger", "/proc/timer_list", "/proc/timer_stats", "/sys/class/virtio-ports", "/sys/class/tpm",
	"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/bpf", "/sys/fs/pstore", "/sys/hypervisor", "/sys/kernel/config",
	"/sys/kernel/debug", "/sys/kernel/security", "/sys/kernel/tracing",
}

var readOnly = [...]string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"}

// spec is the container as the OCI runtime specification, config.md and config-linux.md, describes it.
func (c Config) spec(argv, env []string) *specs.Spec {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: idBase, Size: idSize}}
	args := append(append([]string{}, c.Init...), argv...)
	oomScore := 500 // before kettled, whenever the kernel must choose
	return &specs.Spec{
		Version:  "1.0.2", // the oldest that has all of this
		Hostname: "runner",
		Root:     &specs.Root{Path: c.Scratch + "/root"},
		Process: &specs.Process{
			Args: args, Env: env, Cwd: RunnerRoot,
			User:         specs.User{UID: User, GID: User},
			Capabilities: &specs.LinuxCapabilities{Bounding: capabilities[:]},
			Rlimits: []specs.POSIXRlimit{
				{Type: "RLIMIT_NOFILE", Soft: c.Limits.Files, Hard: c.Limits.Files}, {Type: "RLIMIT_CORE"},
			},
			OOMScoreAdj: &oomScore,
		},
		Mounts: c.mounts(),
		Linux: &specs.Linux{
			UIDMappings: ids, GIDMappings: ids,
			Namespaces:  namespaces(),
			CgroupsPath: c.cgroupPath(),
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}, // crun adds the default six
				Memory:  &specs.LinuxMemory{Limit: &c.Limits.Memory, Swap: &c.Limits.Memory},
				Pids:    &specs.LinuxPids{Limit: c.Limits.Processes},
			},
			Seccomp:           seccomp(),
			RootfsPropagation: "private",
			MaskedPaths:       masked[:],
			ReadonlyPaths:     readOnly[:],
		},
	}
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

// mounts lists what lies over the overlay. /tmp and the workspace are not among them: kettled hashes outputs through the
// overlay.
func (c Config) mounts() []specs.Mount {
	mount := func(kind, target string, options ...string) specs.Mount {
		return specs.Mount{Type: kind, Source: kind, Destination: target, Options: options}
	}
	return []specs.Mount{
		mount("proc", "/proc", "nosuid", "noexec", "nodev"),
		mount("tmpfs", "/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=64k"),
		mount("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
		mount("tmpfs", "/dev/shm", "nosuid", "nodev", "noexec", "mode=1777"),
		mount("mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev"),
		mount("sysfs", "/sys", "nosuid", "noexec", "nodev", "ro"),
		mount("cgroup", "/sys/fs/cgroup", "nosuid", "noexec", "nodev", "ro"),
		mount("tmpfs", "/run", "nosuid", "nodev", "mode=755"),
		{Type: "bind", Source: c.Door, Destination: doorMount, Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"}},
	}
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
