// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/disk/slot"
)

// linkBundle is the link of refusals about the partition itself, as in package slot.
const linkBundle = "bundle partition"

// ReadBundle gives the bundle of statements about this image from the partition [image.BundleName], byte for byte: at most
// [slot.Capacity] bytes, read once, no file system mounted. The bytes are the host's: they are worth what the signatures in
// them are worth. Without a partition, and without a bundle in it, the refusal has the code missing; what is no bundle, or two
// partitions of that name, malformed. The partition lies on the disk of the root and is not waited for.
func ReadBundle() ([]byte, error) { return readBundle("/sys/class/block", "/dev") }

func readBundle(class, dev string) (bundle []byte, err error) {
	found, err := disksNamed(class, image.BundleName)
	if err != nil {
		return nil, fmt.Errorf("reading the bundle partition: %w", err)
	}
	const next = "give the machine the disk of the image, with its bundle, and no other of that name"
	switch {
	case len(found) == 0:
		return nil, &refusal.Refusal{Link: linkBundle, Code: refusal.Missing, Want: "a partition named " + image.BundleName, Got: "none", Next: next}
	case len(found) > 1:
		return nil, &refusal.Refusal{
			Link: linkBundle, Code: refusal.Malformed, Want: "one partition named " + image.BundleName,
			Got: fmt.Sprintf("%d: %s", len(found), strings.Join(found, ", ")), Next: next,
		}
	}
	partition, err := os.Open(filepath.Join(dev, found[0])) //nolint:gosec // found in sysfs.
	if err != nil {
		return nil, fmt.Errorf("reading the bundle partition: %w", err)
	}
	defer func() { err = errors.Join(err, partition.Close()) }()
	return slot.Read(partition)
}
