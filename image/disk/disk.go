// SPDX-License-Identifier: Apache-2.0

// Package disk makes an image's disk and the forms of it that clouds take.
//
// The disk has a GPT with fixed GUIDs and three partitions: a FAT32 EFI system partition with the UKI at
// \EFI\BOOT\BOOTX64.EFI, the root file system with its hash tree, and the bundle partition of package
// [github.com/kettle/attest/image/disk/slot].
//
// It guarantees that the disk, and each form of it, is a function of the UKI's, the root's and the bundle's bytes: no
// clock, time zone, user, path or random number changes a bit ([Digest] leaves the bundle out, which comes later). FAT
// is made by mkfs.vfat and mtools, whose versions are the builder's.
//
// It trusts the files and the folder it is given. The disk protects nothing by itself: the host can change every bit of
// it. What a machine takes from it is checked against the measured command line or a signature.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kettle/attest/image/disk/slot"
)

// ESPName is the name of the EFI system partition in the GPT. The other two have the names that package image tells the
// machine to look for.
const ESPName = "kettle-esp"

const (
	mib = 1 << 20
	// alignment is where partitions begin, and what the size of the disk is a multiple of: Azure takes no other.
	alignment = mib
	// minESP makes FAT32 with clusters of 512 bytes possible, which takes 65,525 of them.
	minESP = 64 * mib
	// MaxUKI bounds the UKI, in bytes.
	MaxUKI = 1 << 30
	// MaxRoot bounds the root file system with its hash tree, in bytes.
	MaxRoot = 64 << 30
)

// Source names the files that a disk is made of.
type Source struct {
	UKI  string // path of the UKI, see [MaxUKI]
	Root string // path of the root file system with its hash tree, see [MaxRoot]
}

// Range is a part of the disk, in bytes.
type Range struct {
	Offset int64 `json:"offset"`
	Size   int64 `json:"size"`
}

// End is the offset of the first byte behind the range.
func (r Range) End() int64 { return r.Offset + r.Size }

// Layout says where things are on a disk, in bytes.
type Layout struct {
	Size   int64 `json:"size"` // of the whole disk
	ESP    Range `json:"esp"`
	Root   Range `json:"root"`
	Bundle Range `json:"bundle"`
}

// Plan gives the layout of a disk for a UKI and a root of the given sizes in bytes.
func Plan(uki, root int64) (Layout, error) {
	if uki <= 0 || uki > MaxUKI {
		return Layout{}, fmt.Errorf("planning a disk: a UKI of %d bytes, want 1 to %d", uki, int64(MaxUKI))
	}
	if root <= 0 || root > MaxRoot {
		return Layout{}, fmt.Errorf("planning a disk: a root of %d bytes, want 1 to %d", root, int64(MaxRoot))
	}
	// Two allocation tables of four bytes for each cluster take a 64th of the file; the rest is for the folders.
	esp := Range{Offset: alignment, Size: max(minESP, align(uki+uki/32+2*mib))}
	l := Layout{ESP: esp, Root: Range{Offset: esp.End(), Size: align(root)}}
	l.Bundle = Range{Offset: l.Root.End(), Size: slot.Size}
	l.Size = l.Bundle.End() + alignment // for the second partition table
	return l, nil
}

func align(n int64) int64 { return (n + alignment - 1) / alignment * alignment }

// Validate checks that the layout is one that [Plan] could have given.
func (l Layout) Validate() error {
	ok := l.ESP.Offset == alignment && l.ESP.Size >= minESP && l.ESP.Size <= 2*MaxUKI &&
		l.Root.Offset == l.ESP.End() && l.Root.Size > 0 && l.Root.Size <= MaxRoot &&
		l.Bundle.Offset == l.Root.End() && l.Bundle.Size == slot.Size && l.Size == l.Bundle.End()+alignment
	if !ok || l.ESP.Size%alignment != 0 || l.Root.Size%alignment != 0 {
		return fmt.Errorf("checking a disk's layout: it is not one of ours: %+v", l)
	}
	return nil
}

// Create makes a disk with an empty bundle partition at path, where no file may be, and says where things are. The file is
// sparse, and shares the root's blocks where the file system can. A disk that could not be made whole is removed.
//
// It runs mkfs.vfat (dosfstools), mmd and mcopy (mtools).
func Create(ctx context.Context, path string, s Source) (Layout, error) {
	l, err := create(ctx, path, s)
	if err != nil {
		return Layout{}, fmt.Errorf("making a disk: %w", err)
	}
	return l, nil
}

func create(ctx context.Context, path string, s Source) (l Layout, err error) {
	uki, err := regular(s.UKI)
	if err != nil {
		return Layout{}, err
	}
	root, err := regular(s.Root)
	if err != nil {
		return Layout{}, err
	}
	if l, err = Plan(uki, root); err != nil {
		return Layout{}, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // the builder's own folder; an image is public.
	if err != nil {
		return Layout{}, err //nolint:wrapcheck // it names the path.
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	return l, fill(ctx, f, l, s)
}

// fill writes the partitions into an empty file.
func fill(ctx context.Context, f *os.File, l Layout, s Source) error {
	if err := f.Truncate(l.Size); err != nil {
		return fmt.Errorf("giving the disk its size: %w", err)
	}
	if err := writeGPT(f, l); err != nil {
		return err
	}
	if err := makeESP(ctx, f.Name(), l.ESP, s.UKI); err != nil {
		return err
	}
	if err := copyRoot(f, l.Root, s.Root); err != nil {
		return err
	}
	empty, err := slot.Encode(nil)
	if err != nil {
		return err //nolint:wrapcheck // it says what it did.
	}
	// The zeros behind the header are there already, as a hole.
	if _, err := f.WriteAt(empty[:512], l.Bundle.Offset); err != nil {
		return fmt.Errorf("writing the bundle partition: %w", err)
	}
	return nil
}

// regular gives the size of a regular file.
func regular(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err //nolint:wrapcheck // it names the path.
	}
	if !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is no regular file", path)
	}
	return info.Size(), nil
}

// copyRoot copies the root file system. Between two files the kernel copies, and shares the blocks where it can.
func copyRoot(f *os.File, to Range, path string) (err error) {
	root, err := os.Open(path) //nolint:gosec // the builder's own file.
	if err != nil {
		return err //nolint:wrapcheck // it names the path.
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if _, err := f.Seek(to.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("copying the root: %w", err)
	}
	n, err := io.Copy(f, root)
	if err != nil {
		return fmt.Errorf("copying the root: %w", err)
	}
	if n > to.Size || n <= to.Size-alignment {
		return fmt.Errorf("copying the root: it changed its size to %d bytes meanwhile", n)
	}
	return nil
}
