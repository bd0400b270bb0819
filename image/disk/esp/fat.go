// SPDX-License-Identifier: Apache-2.0

package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

const (
	dirEntry = 32
	// maxFolder bounds a folder, in bytes: the builder's have a few entries.
	maxFolder = 64 << 10
	// endOfChain and above mark a file's last cluster; the upper four bits of an entry mean nothing.
	endOfChain  = 0x0ffffff8
	clusterMask = 0x0fffffff
	page        = 4096 // of the allocation table, read at a time

	attrVolume   = 0x08
	attrFolder   = 0x10
	attrLongName = 0x0f
)

// volume is a FAT32 file system.
type volume struct {
	r           io.ReaderAt
	cluster     int64 // bytes
	table, data int64 // offsets of the first allocation table and of cluster 2
	clusters    uint32
	root        uint32

	page   [page]byte // of the table
	paged  int64      // offset of that page in the table; -1 before the first
	tabled int64      // bytes of a table
}

// mount reads the file system's header. Nothing is written.
func mount(part *io.SectionReader) (*volume, error) {
	le := binary.LittleEndian
	var b [sector]byte
	if _, err := part.ReadAt(b[:], 0); err != nil {
		return nil, err //nolint:wrapcheck // its caller says what it was at.
	}
	perCluster, reserved, tables := int64(b[13]), int64(le.Uint16(b[14:])), int64(b[16])
	tableSectors, total := int64(le.Uint32(b[36:])), int64(le.Uint32(b[32:]))
	switch {
	case le.Uint16(b[510:]) != 0xaa55 || le.Uint16(b[11:]) != sector:
		return nil, errors.New("it is no FAT file system with sectors of 512 bytes")
	case le.Uint16(b[17:]) != 0 || le.Uint16(b[19:]) != 0 || le.Uint16(b[22:]) != 0 || le.Uint16(b[42:]) != 0 || le.Uint16(b[40:]) != 0:
		return nil, errors.New("it is no FAT32, or one whose allocation tables differ")
	case bits.OnesCount8(b[13]) != 1 || reserved == 0 || tables < 1 || tables > 2 || tableSectors == 0:
		return nil, errors.New("its header makes no sense")
	case total == 0 || total > part.Size()/sector:
		return nil, fmt.Errorf("it has %d sectors in a partition of %d bytes", total, part.Size())
	}
	first := reserved + tables*tableSectors
	if first >= total {
		return nil, errors.New("it has no room for files")
	}
	v := &volume{
		r: part, cluster: perCluster * sector, table: reserved * sector, data: first * sector, root: le.Uint32(b[44:]) & clusterMask,
		paged: -1, tabled: tableSectors * sector,
	}
	clusters := (total - first) / perCluster
	// FAT32 begins at 65,525 clusters: with fewer another reader may take it for FAT16.
	if clusters < 65525 || (clusters+2)*4 > v.tabled || clusters >= endOfChain {
		return nil, fmt.Errorf("it has %d clusters", clusters)
	}
	v.clusters = uint32(clusters)
	return v, nil
}

// follow gives the cluster behind another, 0 at the end.
func (v *volume) follow(cluster uint32) (uint32, error) {
	at := int64(cluster) * 4
	if base := at &^ (page - 1); base != v.paged {
		n := min(page, v.tabled-base)
		v.paged = -1
		if _, err := v.r.ReadAt(v.page[:n], v.table+base); err != nil {
			return 0, fmt.Errorf("reading the allocation table: %w", err)
		}
		v.paged = base
	}
	next := binary.LittleEndian.Uint32(v.page[at-v.paged:]) & clusterMask
	if next >= endOfChain {
		return 0, nil
	}
	return next, v.check(next)
}

func (v *volume) check(cluster uint32) error {
	if cluster < 2 || cluster-2 >= v.clusters {
		return fmt.Errorf("cluster %d of %d", cluster, v.clusters)
	}
	return nil
}

// entry is a file or a folder.
type entry struct {
	cluster uint32
	size    uint32
	folder  bool
}

// lookup goes down from the root by short names as they are written: eight and three characters, padded.
func (v *volume) lookup(names []string) (entry, error) {
	at := entry{cluster: v.root, folder: true}
	for _, name := range names {
		if !at.folder {
			return entry{}, fmt.Errorf("there is no folder above %q", name)
		}
		var err error
		if at, err = v.find(at.cluster, name); err != nil {
			return entry{}, err
		}
	}
	if at.folder || at.size == 0 || at.size > MaxProgram {
		return entry{}, fmt.Errorf("it is a folder, or has %d bytes, want 1 to %d", at.size, MaxProgram)
	}
	return at, nil
}

// find reads a folder to its end.
func (v *volume) find(folder uint32, name string) (entry, error) {
	if err := v.check(folder); err != nil {
		return entry{}, err
	}
	le := binary.LittleEndian
	r := &file{volume: v, next: folder, left: maxFolder, open: true}
	var found entry
	count := 0
	for {
		var b [dirEntry]byte
		_, err := io.ReadFull(r, b[:])
		if errors.Is(err, io.EOF) || err == nil && b[0] == 0 { // the end of the chain, or of the folder
			break
		}
		if err != nil {
			return entry{}, fmt.Errorf("reading a folder: %w", err)
		}
		switch attributes := b[11]; {
		case b[0] == 0xe5: // free
		case attributes&attrLongName == attrLongName:
			return entry{}, errors.New("there is a long name, by which another reader could find another file")
		case attributes&attrVolume != 0: // the label
		case string(b[:11]) == name:
			found = entry{
				cluster: uint32(le.Uint16(b[20:]))<<16 | uint32(le.Uint16(b[26:])), size: le.Uint32(b[28:]), folder: attributes&attrFolder != 0,
			}
			count++
		}
	}
	if count != 1 {
		return entry{}, fmt.Errorf("want one entry %q, got %d", name, count)
	}
	return found, v.check(found.cluster)
}

// file reads a chain of clusters: exactly left bytes, or, of a folder, up to the chain's end, which then has to come before.
type file struct {
	*volume
	next uint32 // cluster; 0 behind the last
	at   int64  // offset in it
	left int64
	open bool // of a folder: its size is the chain's
}

// Read implements [io.Reader].
func (f *file) Read(p []byte) (int, error) {
	switch {
	case f.left == 0 && f.open:
		return 0, errors.New("the folder is too large")
	case f.left == 0 || f.next == 0 && f.open:
		return 0, io.EOF
	case f.next == 0:
		return 0, fmt.Errorf("the file ends %d bytes too early: %w", f.left, io.ErrUnexpectedEOF)
	case len(p) == 0:
		return 0, nil
	}
	n := min(int64(len(p)), f.left, f.cluster-f.at)
	if _, err := f.r.ReadAt(p[:n], f.data+int64(f.next-2)*f.cluster+f.at); err != nil {
		return 0, fmt.Errorf("reading cluster %d: %w", f.next, err)
	}
	f.at, f.left = f.at+n, f.left-n
	if f.at == f.cluster {
		next, err := f.follow(f.next)
		if err != nil {
			return 0, err
		}
		f.next, f.at = next, 0
	}
	return int(n), nil
}
