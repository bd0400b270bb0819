// SPDX-License-Identifier: Apache-2.0

package dm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// sector is the unit of device-mapper tables, in bytes.
const sector = 512

// Target is the one target of a device, from its first sector to its last. Make one with [Verity.Target] and its like.
type Target struct {
	kind       string
	sectors    int64
	parameters []byte // may hold a key: wiped when the table is loaded
	flags      uint32
}

// blockDevice matches the devices that a table may name.
var blockDevice = regexp.MustCompile(`^/dev/[a-z][a-z0-9-]{0,31}$`)

func checkDevice(path string) error {
	if !blockDevice.MatchString(path) {
		return fmt.Errorf("want a block device of /dev, got %.50q", path)
	}
	return nil
}

// Verity is a read-only device each of whose blocks is compared with a hash tree when it is read
// (Documentation/admin-guide/device-mapper/verity.rst), in the one form that package image/verity makes. A block that is not
// the tree's, and one that cannot be read, stop the kernel at once: no program ever goes on with an error where its file
// should be.
type Verity struct {
	Device     string   // block device: data, and the tree directly behind it
	RootHash   [32]byte // SHA-256
	DataBlocks int64    // of 4096 bytes
}

// Target gives the device's table.
func (v Verity) Target() (*Target, error) {
	if err := checkDevice(v.Device); err != nil {
		return nil, fmt.Errorf("making a verity table: %w", err)
	}
	const maxBlocks = 1 << 50
	if v.DataBlocks < 1 || v.DataBlocks > maxBlocks || v.RootHash == [32]byte{} {
		return nil, errors.New("making a verity table: want a root hash and a number of blocks")
	}
	// version, data device, hash device, block sizes, data blocks, first hash block, algorithm, root hash, salt, options
	line := fmt.Sprintf("1 %s %s 4096 4096 %d %d sha256 %s - 2 panic_on_corruption panic_on_error",
		v.Device, v.Device, v.DataBlocks, v.DataBlocks, hex.EncodeToString(v.RootHash[:]))
	return &Target{kind: "verity", sectors: v.DataBlocks * (4096 / sector), parameters: []byte(line), flags: flagReadOnly}, nil
}

// What dm-crypt keeps for each sector of 4096 bytes: a random initialisation vector and an HMAC over the sector's
// number, that vector and the ciphertext.
const (
	vectorSize = 16
	macSize    = 32
	tagSize    = vectorSize + macSize
)

// KeySize is the size of a key of [Crypt] in bytes: two of AES-256 for XTS, and one for HMAC-SHA-256.
const KeySize = 64 + 32

// Integrity is a device that keeps a tag for each sector of 4096 bytes on another device
// (Documentation/admin-guide/device-mapper/dm-integrity.rst). It checks nothing by itself: the tags are [Crypt]'s. There is no
// journal worth the name, for nobody reads the device after a crash.
type Integrity struct {
	Device string // block device for the data
	Tags   string // block device for the tags, a 64th as large, that begins with zeros: the kernel then lays it out anew
	Bytes  int64  // of the data, a multiple of 4096
}

// Target gives the device's table.
func (i Integrity) Target() (*Target, error) {
	if err := errors.Join(checkDevice(i.Device), checkDevice(i.Tags)); err != nil {
		return nil, fmt.Errorf("making an integrity table: %w", err)
	}
	if i.Bytes < 4096 || i.Bytes%4096 != 0 {
		return nil, fmt.Errorf("making an integrity table: want a multiple of 4096 bytes, got %d", i.Bytes)
	}
	// device, reserved sectors, bytes of a tag, mode (direct writes), options
	line := fmt.Sprintf("%s 0 %d D 3 meta_device:%s journal_sectors:256 block_size:4096", i.Device, tagSize, i.Tags)
	return &Target{kind: "integrity", sectors: i.Bytes / sector, parameters: []byte(line)}, nil
}

// Crypt is an encrypted and authenticated device (Documentation/admin-guide/device-mapper/dm-crypt.rst): AES-256-XTS with a
// random vector for each write, and HMAC-SHA-256 over ciphertext, vector and sector number. What was never written, and what
// was changed or put to another place outside, is an input/output error. So is an older state of a sector, provided that
// the tags lie where nobody else can put back older ones.
type Crypt struct {
	Device string // block device: an [Integrity]
	Bytes  int64  // of it, a multiple of 4096
	Key    []byte // [KeySize] bytes, the caller's to wipe
}

// Target gives the device's table, in which the key stands until [Control.Create] has wiped it.
func (c Crypt) Target() (*Target, error) {
	if err := checkDevice(c.Device); err != nil {
		return nil, fmt.Errorf("making a crypt table: %w", err)
	}
	if c.Bytes < 4096 || c.Bytes%4096 != 0 || len(c.Key) != KeySize {
		return nil, fmt.Errorf("making a crypt table: want a multiple of 4096 bytes and a key of %d, got %d and %d", KeySize, c.Bytes, len(c.Key))
	}
	// cipher, key, offset of the vectors, device, its first sector, options
	const before, between = "capi:authenc(hmac(sha256),xts(aes))-random ", " 0 "
	after := fmt.Sprintf(" 0 2 integrity:%d:aead sector_size:4096", tagSize)
	line := slices.Grow([]byte(before), 2*KeySize+len(between)+len(c.Device)+len(after)) // so that no copy of the key stays behind
	line = hex.AppendEncode(line, c.Key)
	line = append(append(append(line, between...), c.Device...), after...)
	return &Target{kind: "crypt", sectors: c.Bytes / sector, parameters: line, flags: flagSecureData}, nil
}
