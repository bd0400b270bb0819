// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// layer is a directory of scratch that makes the sandbox's root: "image" (id-mapped), "fill" (kettled's own files, over
// the image's), "upper" and "work" (the job's), and "root", where the whole is mounted.
func (c Config) layer(name string) string { return filepath.Join(c.Scratch, name) }

// state is a directory of kettled's own.
func (c Config) state(name string) string { return filepath.Join(c.State, name) }

// mountImage mounts the image, id-mapped and read-only.
func (s *Sandbox) mountImage() error {
	userns, err := userNamespace()
	if err != nil {
		return err
	}
	defer func() { _ = userns.Close() }()
	if err := mountIDMapped(s.config.Image, s.config.layer("image"), userns); err != nil {
		return err
	}
	s.mounted = append(s.mounted, s.config.layer("image"))
	return nil
}

// mountRoot mounts the overlay. Its own layers are not id-mapped: kettled mounts it, and its id 0 is not in the map. What
// the sandbox writes lands in the upper layer under the sandbox's outer ids.
func (s *Sandbox) mountRoot() error {
	dir := s.config.layer
	options := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s,index=off,metacopy=off,redirect_dir=nofollow",
		dir("fill"), dir("image"), dir("upper"), dir("work"))
	if err := unix.Mount("overlay", dir("root"), "overlay", unix.MS_NODEV|unix.MS_NOATIME, options); err != nil {
		return fmt.Errorf("mounting the sandbox's overlay: %w", err)
	}
	s.mounted = append(s.mounted, dir("root"))
	if err := unix.Mount("", dir("root"), "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making the sandbox's overlay private: %w", err)
	}
	return nil
}

// mountIDMapped mounts the one file system at source on target, so that its id n is the sandbox's id n
// (mount_setattr(2), MOUNT_ATTR_IDMAP).
func mountIDMapped(source, target string, userns *os.File) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("taking the mount at %s: %w", source, err)
	}
	defer func() { _ = unix.Close(tree) }()
	attr := unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV,
		Propagation: unix.MS_PRIVATE,
		Userns_fd:   uint64(userns.Fd()),
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("mapping the ids of %s: %w", source, err)
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mounting the image on %s: %w", target, err)
	}
	return nil
}

// userNamespace makes a user namespace with the sandbox's map, in which nothing runs. A child stops at its first
// instruction (PTRACE_TRACEME and execve), long enough to open its namespace, and is killed.
func userNamespace() (_ *os.File, err error) {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: idBase, Size: idSize}}
	pid, err := syscall.ForkExec("/proc/self/exe", []string{"userns"}, &syscall.ProcAttr{ //nolint:gosec // this program, never run.
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
			Ptrace: true, Pdeathsig: unix.SIGKILL,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("making a user namespace: %w", err)
	}
	defer func() {
		killErr := unix.Kill(pid, unix.SIGKILL)
		_, waitErr := reap(pid)
		err = errors.Join(err, killErr, waitErr)
	}()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, fmt.Errorf("opening the user namespace: %w", err)
	}
	return f, nil
}

// openDevices lets everybody open the devices of the docker profile, as udev does elsewhere. Only the sandbox sees them.
func (s *Sandbox) openDevices() error {
	if s.config.Profile != Docker {
		return nil
	}
	for _, d := range devices {
		if err := os.Chmod(d.path, 0o666); err != nil { //nolint:gosec // so it is meant.
			return fmt.Errorf("opening the sandbox's devices: %w", err)
		}
	}
	return nil
}

// unmount takes the mounts away, the last first, and remembers those that stay.
func (s *Sandbox) unmount() error {
	for len(s.mounted) > 0 {
		last := s.mounted[len(s.mounted)-1]
		if err := unix.Unmount(last, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmounting %s: %w", last, err)
		}
		s.mounted = s.mounted[:len(s.mounted)-1]
	}
	return nil
}
