// SPDX-License-Identifier: Apache-2.0

package esp_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/disk/esp"
)

// program is longer than a cluster and not a multiple of one.
func program() []byte { return bytes.Repeat([]byte("MZ a program of firmware's\n"), 4000) }

// made makes a disk with the builder's own tools, and gives the start of it, where all is that is not zero up to the root.
func made(t testing.TB) ([]byte, disk.Layout) {
	t.Helper()
	for _, tool := range []string{"mkfs.vfat", "mcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("this machine has no %s (scripts/apt-packages)", tool)
		}
	}
	dir := t.TempDir()
	uki := filepath.Join(dir, "uki")
	if err := os.WriteFile(uki, program(), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "disk")
	layout, err := disk.Create(t.Context(), path, disk.Source{UKI: uki, Root: uki})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b[:4<<20], layout
}

// read gives the program of a disk of size bytes, of which b is the start.
func read(b []byte, size int64) ([]byte, error) {
	r, n, err := esp.Open(bytes.NewReader(b), size)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	if err == nil && int64(len(got)) != n {
		err = io.ErrShortBuffer
	}
	return got, err
}

func TestOpen(t *testing.T) {
	t.Parallel()
	b, layout := made(t)
	got, err := read(b, layout.Size)
	if err != nil || !bytes.Equal(got, program()) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// places gives the offsets that the attacks change.
type places struct {
	b                        []byte
	part, table, data, entry int // the partition, its first allocation table, cluster 2, the program's entry
}

func placed(b []byte, l disk.Layout) places {
	p := places{b: bytes.Clone(b), part: int(l.ESP.Offset)}
	le := binary.LittleEndian
	h := p.b[p.part:]
	p.table = p.part + int(le.Uint16(h[14:]))*512
	p.data = p.table + int(h[16])*int(le.Uint32(h[36:]))*512
	p.entry = p.data + bytes.Index(p.b[p.data:], []byte("BOOTX64 EFI"))
	return p
}

// seal makes the checksums of the partition table right again.
func (p places) seal() {
	le := binary.LittleEndian
	h := p.b[512 : 512+92]
	n := le.Uint32(h[80:]) * 128
	le.PutUint32(h[88:], crc32.ChecksumIEEE(p.b[1024:1024+n]))
	clear(h[16:20])
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}

// TestAttackESP changes a disk so that another reader could find another program, or so that this one could run away.
func TestAttackESP(t *testing.T) {
	t.Parallel()
	b, layout := made(t)
	le := binary.LittleEndian
	for name, tt := range map[string]struct {
		change func(places)
		want   string
	}{
		"two system partitions": {func(p places) { copy(p.b[1024+128:1024+144], p.b[1024:1024+16]); p.seal() }, "want one, got 2"},
		"none":                  {func(p places) { p.b[1024] ^= 1; p.seal() }, "want one, got 0"},
		"entry without a sum":   {func(p places) { p.b[1024+200] ^= 1 }, "checksum"},
		"header without a sum":  {func(p places) { p.b[512+60] ^= 1 }, "GPT header"},
		"beyond the disk":       {func(p places) { le.PutUint64(p.b[1024+40:], 1<<40); p.seal() }, "sectors"},
		"many entries":          {func(p places) { le.PutUint32(p.b[512+80:], 1<<30); p.sealHeader() }, "partition entries"},
		"large sectors":         {func(p places) { le.PutUint16(p.b[p.part+11:], 4096) }, "512 bytes"},
		"FAT16":                 {func(p places) { le.PutUint16(p.b[p.part+22:], 9) }, "FAT32"},
		"another table is used": {func(p places) { le.PutUint16(p.b[p.part+40:], 0x81) }, "FAT32"},
		"few clusters":          {func(p places) { le.PutUint32(p.b[p.part+32:], 20000) }, "clusters"},
		"no sectors":            {func(p places) { le.PutUint32(p.b[p.part+32:], 0) }, "sectors"},
		"clusters of none":      {func(p places) { p.b[p.part+13] = 0 }, "no sense"},
		"table of everything":   {func(p places) { le.PutUint32(p.b[p.part+36:], 1<<31) }, "no room"},
		"a second of the name":  {func(p places) { copy(p.b[p.entry+32:p.entry+64], p.b[p.entry:p.entry+32]) }, "got 2"},
		"a long name":           {func(p places) { copy(p.b[p.entry+32:], "\x41B\x00O\x00O\x00T\x00X\x00\x0f") }, "long name"},
		"no such file":          {func(p places) { p.b[p.entry] = 'X' }, "got 0"},
		"a folder of the name":  {func(p places) { p.b[p.entry+11] |= 0x10 }, "folder"},
		"an empty file":         {func(p places) { le.PutUint32(p.b[p.entry+28:], 0) }, "0 bytes"},
		"a huge file":           {func(p places) { le.PutUint32(p.b[p.entry+28:], 1<<31) }, "bytes"},
		"longer than its chain": {func(p places) { le.PutUint32(p.b[p.entry+28:], uint32(len(program())+1024)) }, "too early"},
		"a chain out of bounds": {func(p places) { le.PutUint32(p.b[p.table+4*5:], 0x0ffffff0) }, "cluster"},
		"a first cluster of 0":  {func(p places) { le.PutUint16(p.b[p.entry+26:], 0) }, "cluster"},
		"a folder without end":  {func(p places) { le.PutUint32(p.b[p.table+4*2:], 2); fill(p.b[p.data : p.data+512]) }, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			p := placed(b, layout)
			tt.change(p)
			got, err := read(p.b, layout.Size)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%d bytes, %v; want %q", len(got), err, tt.want)
			}
		})
	}
}

// sealHeader makes the header's checksum right again.
func (p places) sealHeader() {
	h := p.b[512 : 512+92]
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
}

// fill makes a folder's free entries used ones.
func fill(b []byte) {
	for ; len(b) > 0; b = b[32:] {
		if b[0] == 0 {
			copy(b, "OTHER   BIN")
		}
	}
}

// patched is a disk with some bytes changed.
type patched struct {
	base    []byte
	patches map[int64]byte
}

// ReadAt implements [io.ReaderAt].
func (p patched) ReadAt(b []byte, at int64) (int, error) {
	n, err := bytes.NewReader(p.base).ReadAt(b, at)
	for i := range b[:n] {
		if c, ok := p.patches[at+int64(i)]; ok {
			b[i] = c
		}
	}
	return n, err
}

// FuzzOpen changes bytes of a sound disk: each six of the input are an offset and two bytes of content.
func FuzzOpen(f *testing.F) {
	b, layout := made(f)
	p := placed(b, layout)
	seed := func(at int, content ...byte) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, uint32(at)), append(content, 0)[:2]...)
	}
	f.Add([]byte{})
	f.Add(seed(p.entry, 'X'))
	f.Add(seed(p.table+8, 2, 0))
	f.Add(seed(p.part+13, 0, 0))
	f.Add(append(seed(p.entry+26, 0, 0), seed(p.entry+28, 255, 255)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		disk := patched{base: b, patches: map[int64]byte{}}
		for ; len(in) >= 6; in = in[6:] {
			at := int64(binary.LittleEndian.Uint32(in))
			disk.patches[at], disk.patches[at+1] = in[4], in[5]
		}
		r, n, err := esp.Open(disk, layout.Size)
		if err != nil {
			return
		}
		if got, err := io.Copy(io.Discard, r); err == nil && got != n || got > esp.MaxProgram {
			t.Errorf("%d bytes of %d, %v", got, n, err)
		}
	})
}
