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

	"github.com/kettle/attest/image"
)

// MinScratch is the smallest disk, in bytes. With its log, it is not too small for mkfs.xfs.
const MinScratch = 256 << 20

const (
	journal = 64 << 20  // of the disk, in bytes: the smallest that mkfs.xfs makes. It comes on top of the disk's size.
	reserve = 256 << 20 // what kettled and the kernel take besides, in bytes
)

// Place is where the job's disk lies.
type Place string

const (
	// InMemory is [image.ScratchDevice]: pages appear as they are written to. The host sees nothing of it, as of all memory.
	InMemory Place = "memory"
	// OnDisk is the disk of the name [image.ScratchName], which the host provides, encrypted and authenticated with a key that
	// is made at this boot and lies in the kernel's memory alone. A 64th of it is taken of the memory.
	OnDisk Place = "disk"
)

// Scratch says what the job's disk is and what else must find room in memory beside it. Every field is required.
type Scratch struct {
	Place Place
	Dir   string // where the disk is mounted: [image.ScratchDir]
	Mkfs  string // mkfs.xfs: [image.MakeXFS]
	Bytes int64  // size of the disk without its log; a multiple of 4096. A job can write somewhat less.

	JobMemory int64 // bytes that the job's processes may use
}

// MakeScratch makes the job's disk and gives its block device: an XFS file system, whose files can be cloned (FICLONE), of this
// size and no other. It is kettled's to write to and everybody's to pass through. Programs of the job that raise their rights lie on
// it, but no device of it opens.
//
// Before anything is made, everything that may be filled must fit into the machine together: a job that fills its memory
// and its disk finds its limits and not kettled's. What a job deletes is given back to the machine's memory.
func MakeScratch(ctx context.Context, s Scratch) (device string, err error) {
	if err := s.Validate(); err != nil {
		return "", fmt.Errorf("making the job's disk: %w", err)
	}
	total, err := memTotal("/proc/meminfo")
	if err != nil {
		return "", fmt.Errorf("making the job's disk: %w", err)
	}
	if err := s.fits(total); err != nil {
		return "", fmt.Errorf("making the job's disk: %w", err)
	}
	device, options := image.ScratchDevice, "discard"
	if s.Place == OnDisk {
		options = "" // what a job deletes is not told to the host
		if device, err = seal(ctx, s.Bytes+journal); err != nil {
			return "", fmt.Errorf("making the job's disk: %w", err)
		}
	}
	if err := s.format(ctx, device); err != nil {
		return "", fmt.Errorf("making the job's disk: %w", err)
	}
	if err := unix.Mount(device, s.Dir, "xfs", unix.MS_NODEV|unix.MS_NOATIME, options); err != nil {
		return "", fmt.Errorf("mounting the job's disk %s on %s: %w", device, s.Dir, err)
	}
	if err := os.Chmod(s.Dir, 0o711); err != nil { //nolint:gosec // searchable: the sandbox's users pass through it.
		return "", errors.Join(fmt.Errorf("opening the job's disk: %w", err), unix.Unmount(s.Dir, 0))
	}
	return device, nil
}

// Validate reports every field that is absent or wrong, joined.
func (s Scratch) Validate() error {
	var faults []error
	if s.Place != InMemory && s.Place != OnDisk {
		faults = append(faults, fmt.Errorf("place: want %s or %s, got %q", InMemory, OnDisk, s.Place))
	}
	for _, f := range []struct{ name, value string }{{"directory", s.Dir}, {"mkfs", s.Mkfs}} {
		if !strings.HasPrefix(f.value, "/") {
			faults = append(faults, fmt.Errorf("%s: want an absolute path, got %q", f.name, f.value))
		}
	}
	if s.Bytes < MinScratch || s.Bytes%4096 != 0 {
		faults = append(faults, fmt.Errorf("size: want at least %d MiB in blocks of 4096 bytes, got %d bytes", MinScratch>>20, s.Bytes))
	}
	if s.JobMemory <= 0 {
		faults = append(faults, fmt.Errorf("job's memory: want more than 0 bytes, got %d", s.JobMemory))
	}
	return errors.Join(faults...)
}

// fits demands that the job, its disk where that lies in memory, and the reserve fit into the memory.
func (s Scratch) fits(total int64) error {
	disk, log := s.Bytes, int64(journal)
	if s.Place == OnDisk {
		disk, log = s.Bytes/64+journal/64, 0 // the tags, see [seal]
	}
	left := total
	for _, part := range []int64{s.JobMemory, disk, log, reserve} {
		if left -= min(part, left); left == 0 {
			return fmt.Errorf("the machine has %s of memory, which is too little for the job's memory (%s), the job's disk in memory (%s) and kettled (%s): "+
				"give the machine more, or the job less", mib(total), mib(s.JobMemory), mib(disk), mib(log+reserve))
		}
	}
	return nil
}

func mib(bytes int64) string { return strconv.FormatInt(bytes>>20, 10) + " MiB" }

// format runs mkfs.xfs. Nothing of the device was ever written with this key, or to this memory: nothing of it has to be
// discarded first (-K). The log is as small as possible, because it is room that is taken at once.
func (s Scratch) format(ctx context.Context, device string) error {
	cmd := exec.CommandContext(ctx, s.Mkfs, "-q", "-f", "-K", "-m", "crc=1,reflink=1", //nolint:gosec // the measured image's own program.
		"-l", fmt.Sprintf("size=%d", int64(journal)), "-d", fmt.Sprintf("size=%d", s.Bytes+journal), device)
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
