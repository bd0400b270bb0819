// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// erofsMagic is the statfs type of erofs (linux/magic.h, EROFS_SUPER_MAGIC_V1).
const erofsMagic = 0xE0F5E1E2

const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

type mountPoint struct {
	kind, target, data string
	flags              uintptr
	mode               os.FileMode // of the directory, when it has to be made
}

// earlyMounts are made on the initramfs and move to the root with it.
var earlyMounts = []mountPoint{
	{kind: "proc", target: "/proc", flags: quiet, mode: 0o555},
	{kind: "sysfs", target: "/sys", flags: quiet, mode: 0o555},
	{kind: "devtmpfs", target: "/dev", flags: unix.MS_NOSUID, data: "mode=0755", mode: 0o755},
}

// lateMounts are made on the root, whose image holds every one of these directories except those below /dev.
// Everything writable lies in memory, and little of it: they are kettled's. Where a job writes, see [MakeScratch].
var lateMounts = []mountPoint{
	{kind: "devpts", target: "/dev/pts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "mode=0620,gid=5,ptmxmode=0666", mode: 0o755},
	{kind: "tmpfs", target: "/dev/shm", flags: quiet, data: "mode=1777,size=16m", mode: 0o1777},
	{kind: "tmpfs", target: "/run", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755,size=64m"},
	{kind: "tmpfs", target: "/tmp", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777,size=16m"},
	{kind: "cgroup2", target: "/sys/fs/cgroup", flags: quiet},
	{kind: "configfs", target: "/sys/kernel/config", flags: quiet}, // where a secure processor is asked
}

func mountAll(mounts []mountPoint) error {
	for _, m := range mounts {
		if m.mode != 0 {
			if err := os.MkdirAll(m.target, m.mode); err != nil {
				return fmt.Errorf("making %s: %w", m.target, err)
			}
		}
		if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s on %s: %w", m.kind, m.target, err)
		}
	}
	return nil
}

// rootIsImage reports whether path lies on an erofs, which only the verified image is.
func rootIsImage(path string) (bool, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return false, fmt.Errorf("asking for the root's file system: %w", err)
	}
	return uint32(s.Type) == erofsMagic, nil //nolint:gosec // a magic number, compared as the 32 bits that it is.
}
