// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"fmt"
	"os"

	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/kettle/attest/image"
)

const sector = 512

// The GUIDs are the same on every disk, so that the disk is a function of its content; the machine goes by the names. A change
// of any of them changes what a trust domain measures of the disk into RTMR1.
const (
	diskGUID   = "6B657474-6C65-4D31-8000-000000000000"
	espGUID    = "6B657474-6C65-4D31-8000-000000000001"
	rootGUID   = "6B657474-6C65-4D31-8000-000000000002"
	bundleGUID = "6B657474-6C65-4D31-8000-000000000003"
	// bundleType is a type of our own: nothing else shall take the partition for a file system.
	bundleType gpt.Type = "6B657474-6C65-4D31-9000-000000000001"
)

// writeGPT writes the protective MBR and both partition tables (UEFI 2.10, section 5.3).
func writeGPT(f *os.File, l Layout) error {
	table := &gpt.Table{
		GUID: diskGUID, ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector,
		Partitions: []*gpt.Partition{
			entry(1, l.ESP, gpt.Partition{Name: ESPName, GUID: espGUID, Type: gpt.EFISystemPartition}),
			// No type of the discoverable partitions: it would have other systems that see the disk mount it.
			entry(2, l.Root, gpt.Partition{Name: image.RootName, GUID: rootGUID, Type: gpt.LinuxFilesystem}),
			entry(3, l.Bundle, gpt.Partition{Name: image.BundleName, GUID: bundleGUID, Type: bundleType}),
		},
	}
	if err := table.Write(f, l.Size); err != nil {
		return fmt.Errorf("writing the partition table: %w", err)
	}
	return nil
}

func entry(index int, r Range, p gpt.Partition) *gpt.Partition {
	p.Index = index
	p.Start, p.End = uint64(r.Offset/sector), uint64(r.End()/sector-1) //nolint:gosec // both are positive.
	return &p
}
