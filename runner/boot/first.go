// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

// sysroot is where the root is mounted while the initramfs is still there.
const sysroot = "/sysroot"

// firstStage runs on the initramfs. On success the process image is replaced and it does not return.
func firstStage(ctx context.Context) error {
	if err := hide(); err != nil {
		return err
	}
	var watch stopwatch
	watch.lap("kernel")
	if err := mountAll(earlyMounts); err != nil {
		return err
	}
	line, err := readCommandLine("/proc/cmdline")
	if err != nil {
		return err
	}
	if _, err := readConfig(image.ConfigFile, line.Config); err != nil {
		return err
	}
	watch.lap("configuration")
	if err := loadModules(image.ModulesDir); err != nil {
		return err
	}
	watch.lap("modules")
	device, err := mapRoot(ctx, line.Root)
	if err != nil {
		return err
	}
	watch.lap("root-map")
	if err := unix.Mount(device, sysroot, "erofs", unix.MS_RDONLY|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mounting the root image: %w", err)
	}
	if err := carryConfig(image.ConfigDir, sysroot+image.ConfigDir); err != nil {
		return err
	}
	if err := switchRoot(); err != nil {
		return err
	}
	watch.lap("root-mount")
	environ, err := state{Phases: watch.phases}.environ()
	if err != nil {
		return err
	}
	if err := unix.Exec("/proc/self/exe", []string{"kettled"}, environ); err != nil {
		return fmt.Errorf("executing the second stage: %w", err)
	}
	return nil
}

// switchRoot moves the kernel's file systems over, empties the initramfs and makes the image the root.
func switchRoot() error {
	for _, m := range earlyMounts {
		if err := unix.Mount(m.target, sysroot+m.target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s to the new root: %w", m.target, err)
		}
	}
	for _, dir := range []string{image.ModulesDir, image.ConfigDir} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("emptying the initramfs: %w", err)
		}
	}
	if err := os.Chdir(sysroot); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the new root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("entering the new root: %w", err)
	}
	return nil
}
