// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// deviceWait is how long a disk may take to appear: some buses find their devices in the background.
const deviceWait = 10 * time.Second

// findDisk waits for the block device of that name and gives its name in /dev. The name is that of a partition (PARTNAME of
// its GPT entry), on whatever kind of disk, or the serial number of a whole virtio disk. Two of one name are an error: the
// host may exchange what lies on a disk, but it is not asked to choose.
func findDisk(ctx context.Context, class, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	for {
		found, err := disksNamed(class, name)
		switch {
		case err != nil:
			return "", fmt.Errorf("finding the disk %s: %w", name, err)
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return "", fmt.Errorf("finding the disk %s: there are %d of that name: %s", name, len(found), strings.Join(found, ", "))
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return "", fmt.Errorf("finding the disk %s: none appeared within %v", name, deviceWait)
		}
	}
}

// disksNamed gives every block device of that name. Devices may come and go while it looks.
func disksNamed(class, name string) ([]string, error) {
	devices, err := os.ReadDir(class)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, d := range devices {
		if partitionName(filepath.Join(class, d.Name(), "uevent")) == name || serialNumber(filepath.Join(class, d.Name(), "serial")) == name {
			found = append(found, d.Name())
		}
	}
	slices.Sort(found)
	return found, nil
}

// partitionName reads the line PARTNAME= of a device's uevent file; whole disks have none.
func partitionName(path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // sysfs.
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "PARTNAME="); ok {
			return strings.TrimSuffix(name, "\n")
		}
	}
	return ""
}

func serialNumber(path string) string {
	text, err := os.ReadFile(path) //nolint:gosec // sysfs.
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
