// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/kettle/attest/image/disk"
)

func vhd(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := disk.VHD(&b, bytes.NewReader(raw), int64(len(raw))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compare demands that qemu-img finds the same content in two files.
func compare(t testing.TB, raw, form, other string) {
	t.Helper()
	command(t, "qemu-img", "compare", "-f", "raw", "-F", form, raw, other)
	var info struct {
		Format string `json:"format"`
		Size   int64  `json:"virtual-size"`
	}
	if err := json.Unmarshal([]byte(command(t, "qemu-img", "info", "--output=json", "-f", form, other)), &info); err != nil {
		t.Fatal(err)
	}
	if want := int64(len(read(t, raw))); info.Format != form || info.Size != want {
		t.Errorf("%s of %d bytes, want %d", info.Format, info.Size, want)
	}
}

func TestVHD(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	raw := read(t, m.path)
	b := vhd(t, raw)
	if !bytes.Equal(b, vhd(t, raw)) {
		t.Error("two files of one disk differ")
	}
	if len(b) != len(raw)+512 || !bytes.Equal(b[:len(raw)], raw) {
		t.Error("the disk differs")
	}
	path := filepath.Join(t.TempDir(), "disk.vhd")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	compare(t, m.path, "vpc", path)
}

// TestVHDFooter compares the footer with qemu-img's, field by field, for sizes on both sides of what a geometry can say.
func TestVHDFooter(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{mib, 76 * mib, 600 * mib, 4 << 30} {
		path := filepath.Join(t.TempDir(), "theirs.vhd")
		command(t, "qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed,force_size=on", path, strconv.FormatInt(size, 10))
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := io.ReadAll(io.NewSectionReader(f, size, 1024))
		if err != nil || f.Close() != nil || len(theirs) != 512 {
			t.Fatalf("%d bytes, %v", len(theirs), err)
		}
		ours := disk.Footer(size, [16]byte{1})
		for name, r := range map[string][2]int{"cookie to offset": {0, 24}, "sizes": {40, 56}, "type": {60, 64}} {
			if !bytes.Equal(ours[r[0]:r[1]], theirs[r[0]:r[1]]) {
				t.Errorf("%d: %s: %x, want %x", size, name, ours[r[0]:r[1]], theirs[r[0]:r[1]])
			}
		}
		sum := uint32(0)
		for i, c := range ours {
			if i < 64 || i >= 68 {
				sum += uint32(c)
			}
		}
		if binary.BigEndian.Uint32(ours[64:]) != ^sum {
			t.Errorf("%d: the checksum is wrong", size)
		}
	}
}

// TestVHDGeometry compares the geometry with qemu-img's, which without force_size makes the disk as large as the geometry.
func TestVHDGeometry(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{mib, 30 * mib, 76 * mib, 300 * mib, 600 * mib, 4 << 30, 40 << 30, 200 << 30} {
		path := filepath.Join(t.TempDir(), "theirs.vhd")
		command(t, "qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed", path, strconv.FormatInt(size, 10))
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		theirs := make([]byte, 512)
		if _, err := f.ReadAt(theirs, info.Size()-512); err != nil || f.Close() != nil {
			t.Fatal(err)
		}
		rounded := int64(binary.BigEndian.Uint64(theirs[48:])) //nolint:gosec // small.
		if ours := disk.Footer(rounded, [16]byte{}); !bytes.Equal(ours[56:60], theirs[56:60]) {
			t.Errorf("%d: geometry %x, want %x", rounded, ours[56:60], theirs[56:60])
		}
	}
}

func TestVHDRefuses(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, -mib, mib + 512, 2 * mib} {
		if err := disk.VHD(io.Discard, bytes.NewReader(make([]byte, mib)), size); err == nil {
			t.Errorf("%d: no error", size)
		}
	}
}

func TestGCP(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	raw := read(t, m.path)
	var file bytes.Buffer
	if err := disk.GCPUnit(&file, bytes.NewReader(raw), m.layout.Size, 80*mib); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk.tar.gz")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := command(t, "tar", "--utc", "-tvzf", path), "-rw-r--r-- 0/0        83886080 1970-01-01 00:00 disk.raw\n"; got != want {
		t.Errorf("tar: %q", got)
	}
	zip, err := gzip.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	if !zip.ModTime.IsZero() || zip.Name != "" || zip.Comment != "" || len(zip.Extra) != 0 {
		t.Errorf("the archive says where it comes from: %+v", zip.Header)
	}
	archive := tar.NewReader(zip)
	if _, err := archive.Next(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.LimitReader(archive, m.layout.Size))
	if err != nil || !bytes.Equal(got, raw) {
		t.Errorf("the disk differs: %v", err)
	}
	if err := disk.GCP(io.Discard, bytes.NewReader(raw[:mib]), mib+1); err == nil {
		t.Error("a disk that is cut off: no error")
	}
}

// full is a writer that takes nothing more once it has so many bytes.
type full struct {
	bytes.Buffer
	room int
}

func (f *full) Write(b []byte) (int, error) {
	if f.Len() > f.room {
		return 0, io.ErrShortWrite
	}
	return f.Buffer.Write(b) //nolint:wrapcheck // it never fails.
}

// TestGCPSize: Compute Engine takes whole GiB. The archive's beginning says so; a writer that is full ends it.
func TestGCPSize(t *testing.T) {
	t.Parallel()
	for size, want := range map[int64]int64{mib: 1 << 30, 1 << 30: 1 << 30, 1<<30 + mib: 2 << 30} {
		out := &full{room: 64 << 10}
		if err := disk.GCP(out, rand.NewChaCha8([32]byte{}), size); err == nil {
			t.Errorf("%d: a full writer was not noticed", size)
		}
		zip, err := gzip.NewReader(&out.Buffer)
		if err != nil {
			t.Fatal(err)
		}
		head, err := tar.NewReader(zip).Next()
		if err != nil || head.Size != want || head.Name != "disk.raw" {
			t.Errorf("%d: %+v, %v", size, head, err)
		}
	}
}

func TestQCOW2(t *testing.T) {
	t.Parallel()
	need(t, "qemu-img")
	m := create(t, time.Now())
	var files [2]string
	for i := range files {
		files[i] = filepath.Join(t.TempDir(), "disk.qcow2")
		if err := disk.QCOW2(t.Context(), m.path, files[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(read(t, files[0]), read(t, files[1])) {
		t.Error("two files of one disk differ")
	}
	compare(t, m.path, "qcow2", files[0])
	command(t, "qemu-img", "check", "-q", "-f", "qcow2", files[0])
	if err := disk.QCOW2(t.Context(), m.path, files[0]); err == nil {
		t.Error("a file that is there: no error")
	}
	if err := disk.QCOW2(t.Context(), m.path+"x", files[0]+"2"); err == nil {
		t.Error("no disk: no error")
	}
}
