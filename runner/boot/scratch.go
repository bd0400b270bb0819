// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MinScratch is the smallest disk, in bytes. With its log, it is not too small for mkfs.xfs.
const MinScratch = 256 << 20

const (
	journal = 64 << 20  // of the disk, in bytes: the smallest that mkfs.xfs makes. It comes on top of the disk's size.
	reserve = 256 << 20 // what kettled and the kernel take besides, in bytes
)

// Scratch says what the job's disk is and what else must find room in memory beside it. Every field is required.
type Scratch struct {
	Device string // block device in memory, whose pages appear as they are written to: [image.ScratchDevice]
	Dir    string // where the disk is mounted: [image.ScratchDir]
	Mkfs   string // mkfs.xfs: [image.MakeXFS]
	Bytes  int64  // size of the disk without its log; a multiple of 4096. A job can write somewhat less.

	RootSize  int64 // bytes of the root image in memory, see [Environment]
	JobMemory int64 // bytes that the job's processes may use
}

// MakeScratch makes the job's disk: an XFS file system, whose files can be cloned (FICLONE), in memory, of this size and
// no other. It is kettled's to write to and everybody's to pass through. Programs of the job that raise their rights lie on
// it, but no device of it opens.
//
// Before anything is made, everything that may be filled must fit into the machine together: a job that fills its memory
// and its disk finds its limits and not kettled's. What a job deletes is given back to the machine's memory.
func MakeScratch(ctx context.Context, s Scratch) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("making the job's disk: %w", err)
	}
	total, err := memTotal("/proc/meminfo")
	if err != nil {
		return fmt.Errorf("making the job's disk: %w", err)
	}
	if err := s.fits(total); err != nil {
		return fmt.Errorf("making the job's disk: %w", err)
	}
	if err := s.format(ctx); err != nil {
		return fmt.Errorf("making the job's disk: %w", err)
	}
	if err := unix.Mount(s.Device, s.Dir, "xfs", unix.MS_NODEV|unix.MS_NOATIME, "discard"); err != nil {
		return fmt.Errorf("mounting the job's disk %s on %s: %w", s.Device, s.Dir, err)
	}
	if err := os.Chmod(s.Dir, 0o711); err != nil { //nolint:gosec // searchable: the sandbox's users pass through it.
		return errors.Join(fmt.Errorf("opening the job's disk: %w", err), unix.Unmount(s.Dir, 0))
	}
	return nil
}

// Validate reports every field that is absent or wrong, joined.
func (s Scratch) Validate() error {
	var faults []error
	for _, f := range []struct{ name, value string }{{"device", s.Device}, {"directory", s.Dir}, {"mkfs", s.Mkfs}} {
		if !strings.HasPrefix(f.value, "/") {
			faults = append(faults, fmt.Errorf("%s: want an absolute path, got %q", f.name, f.value))
		}
	}
	if s.Bytes < MinScratch || s.Bytes%4096 != 0 {
		faults = append(faults, fmt.Errorf("size: want at least %d MiB in blocks of 4096 bytes, got %d bytes", MinScratch>>20, s.Bytes))
	}
	if s.RootSize <= 0 || s.JobMemory <= 0 {
		faults = append(faults, fmt.Errorf("want the sizes of the root image and of the job's memory, got %d and %d", s.RootSize, s.JobMemory))
	}
	return errors.Join(faults...)
}

// fits demands that root image, job, disk and reserve fit into the memory.
func (s Scratch) fits(total int64) error {
	left := total
	for _, part := range []int64{s.RootSize, s.JobMemory, s.Bytes, journal, reserve} {
		if left -= min(part, left); left == 0 {
			return fmt.Errorf("the machine has %s of memory, which is too little for the root image (%s), the job's memory (%s), the job's disk (%s) and kettled (%s): "+
				"give the machine more, or the job less", mib(total), mib(s.RootSize), mib(s.JobMemory), mib(s.Bytes), mib(journal+reserve))
		}
	}
	return nil
}

func mib(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) + " MiB" }

// format runs mkfs.xfs. The device is larger than the disk and reads as zeros: nothing of it has to be discarded first (-K).
// The log is as small as possible, because it is memory that is taken at once.
func (s Scratch) format(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.Mkfs, "-q", "-f", "-K", "-m", "crc=1,reflink=1", //nolint:gosec // the measured image's own program.
		"-l", fmt.Sprintf("size=%d", int64(journal)), "-d", fmt.Sprintf("size=%d", s.Bytes+journal), s.Device)
	cmd.Env = []string{"PATH=" + searchPath}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running %s: %w: %s", s.Mkfs, errors.Join(err, ctx.Err()), oneLine(complaint.String()))
	}
	return nil
}

// memTotal reads the machine's memory in bytes: what the kernel has left after itself (proc(5), MemTotal).
func memTotal(path string) (int64, error) {
	text, err := os.ReadFile(path) //nolint:gosec // proc; a parameter for tests.
	if err != nil {
		return 0, fmt.Errorf("asking for the machine's memory: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 3 && words[0] == "MemTotal:" && words[2] == "kB" {
			kib, err := strconv.ParseInt(words[1], 10, 53)
			if err == nil && kib > 0 {
				return kib << 10, nil
			}
		}
	}
	return 0, errors.New("asking for the machine's memory: the kernel does not say")
}
