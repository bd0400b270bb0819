// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// bootPath is where firmware looks on a disk that it has no boot entry for (UEFI 2.10, section 3.5.1.1).
const bootPath = "::/EFI/BOOT/BOOTX64.EFI"

// date is the one time in the file system: 2025-01-01 00:00:00 UTC.
const date = "1735689600"

// makeESP makes the file system with the UKI inside of the disk.
//
// One sector a cluster keeps the smallest FAT32 small. --invariant fixes serial number and dates, and hidden sectors are the
// ones before the partition.
func makeESP(ctx context.Context, disk string, r Range, uki string) error {
	start, kib := strconv.FormatInt(r.Offset/sector, 10), strconv.FormatInt(r.Size/1024, 10)
	image := disk + "@@" + strconv.FormatInt(r.Offset, 10) // mtools' spelling of a file system inside of a file
	for _, args := range [][]string{
		{"mkfs.vfat", "--invariant", "-F", "32", "-s", "1", "-S", "512", "-n", "KETTLE-ESP", "-h", start, "--offset", start, disk, kib},
		{"mmd", "-i", image, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", image, uki, bootPath},
	} {
		if err := run(ctx, args[0], args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// run runs a program in an environment that is the same everywhere. On failure the error holds the end of what it said.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // our own arguments.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "TZ=UTC0", "LC_ALL=C", "SOURCE_DATE_EPOCH=" + date,
		"MTOOLSRC=/dev/null",
	}
	cmd.WaitDelay = 5 * time.Second
	var complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &complaint, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		said := strings.TrimSpace(complaint.String())
		const most = 1000
		return fmt.Errorf("running %s: %w: %q", name, err, said[max(0, len(said)-most):])
	}
	return nil
}
