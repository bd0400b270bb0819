// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/disk/slot"
	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/measure/measuretest"
)

const mib = 1 << 20

// pattern gives bytes that are not zeros and differ from block to block.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i ^ i>>9 ^ i>>17 ^ 0x55) //nolint:gosec // a pattern.
	}
	return b
}

func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("this machine has no %s (scripts/apt-packages)", p)
		}
	}
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	need(t, name)
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

type made struct {
	path, uki, root string
	layout          disk.Layout
}

// create makes a disk of a UKI of 3 MB and a root of 5 MB, in a folder of its own.
func create(t testing.TB, modified time.Time) made {
	t.Helper()
	need(t, "mkfs.vfat", "mmd", "mcopy")
	dir := t.TempDir()
	m := made{path: filepath.Join(dir, "disk.raw"), uki: filepath.Join(dir, "a uki"), root: filepath.Join(dir, "root.erofs")}
	for name, b := range map[string][]byte{m.uki: pattern(3_000_001), m.root: pattern(5<<20 + 4096)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if m.layout, err = disk.Create(t.Context(), m.path, disk.Source{UKI: m.uki, Root: m.root}); err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func digest(t testing.TB, b []byte, l disk.Layout) string {
	t.Helper()
	d, err := disk.Digest(bytes.NewReader(b), l)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(d[:])
}

// TestSameInputsSameDisk: names, times and folders of the sources do not matter.
func TestSameInputsSameDisk(t *testing.T) {
	t.Parallel()
	a, b := create(t, time.Unix(1_000_000_000, 0)), create(t, time.Now())
	if !bytes.Equal(read(t, a.path), read(t, b.path)) || a.layout != b.layout {
		t.Error("the disks differ")
	}
}

// TestTableGolden: the table is measured by trust domains. It must not be edited; another table is another image.
func TestTableGolden(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	want := disk.Layout{Size: 76 * mib, ESP: disk.Range{Offset: mib, Size: 64 * mib}, Root: disk.Range{Offset: 65 * mib, Size: 6 * mib}, Bundle: disk.Range{Offset: 71 * mib, Size: 4 * mib}}
	if m.layout != want {
		t.Fatalf("the layout is %+v", m.layout)
	}
	sum := sha256.Sum256(read(t, m.path)[:boot.GPTSize])
	if got := hex.EncodeToString(sum[:]); got != "e0eb6ead4ec7cebb37691c64ecd115fdb0859d57a5984555585687cb2d23f647" {
		t.Errorf("the table's digest is %s", got)
	}
}

// TestContent looks at the partitions with our eyes, and at what is measured of the table.
func TestContent(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	b := read(t, m.path)
	l := m.layout
	root := b[l.Root.Offset:l.Root.End()]
	want := read(t, m.root)
	if !bytes.Equal(root[:len(want)], want) || bytes.ContainsFunc(root[len(want):], func(r rune) bool { return r != 0 }) {
		t.Error("the root differs")
	}
	if _, err := disk.Bundle(bytes.NewReader(b), l); !errors.Is(err, refusal.ErrMissing) {
		t.Errorf("a new disk has a bundle: %v", err)
	}
	uki := measuretest.PE([]measuretest.Section{
		measuretest.Stub("259"), {Name: ".cmdline", Data: []byte("quiet")}, {Name: ".linux", Data: measuretest.Kernel("kernel")},
	}, nil)
	if _, err := (boot.UKI{Image: uki, Loader: boot.Disk, GPT: b[:boot.GPTSize]}).Log(boot.TDX); err != nil {
		t.Errorf("the table is not one that can be predicted: %v", err)
	}
}

// TestSparse: a disk takes no more room than its content.
func TestSparse(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	info, err := os.Stat(m.path)
	if err != nil {
		t.Fatal(err)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || stat.Blocks*512 > 16*mib {
		t.Errorf("it takes %d bytes", stat.Blocks*512)
	}
}

// TestOtherTools: sgdisk, sfdisk, fsck.vfat and mtools find what we wrote, and no fault.
func TestOtherTools(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	if out := command(t, "sgdisk", "--verify", m.path); !strings.Contains(out, "No problems found") {
		t.Errorf("sgdisk: %s", out)
	}
	var table struct {
		PartitionTable struct {
			Label, ID  string
			Partitions []struct {
				Start, Size      int64
				Type, UUID, Name string
			}
		}
	}
	if err := json.Unmarshal([]byte(command(t, "sfdisk", "--json", m.path)), &table); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range table.PartitionTable.Partitions {
		got = append(got, strings.Join([]string{p.Name, p.Type, strconv.FormatInt(p.Start*512, 10), strconv.FormatInt(p.Size*512, 10)}, " "))
	}
	want := []string{
		"kettle-esp C12A7328-F81F-11D2-BA4B-00A0C93EC93B 1048576 67108864",
		"kettle-root 0FC63DAF-8483-4772-8E79-3D69D8477DE4 68157440 6291456",
		"kettle-bundle 6B657474-6C65-4D31-9000-000000000001 74448896 4194304",
	}
	if !slices.Equal(got, want) {
		t.Errorf("sfdisk: want\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	esp := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(esp, read(t, m.path)[m.layout.ESP.Offset:m.layout.ESP.End()], 0o600); err != nil {
		t.Fatal(err)
	}
	if out := command(t, "fsck.vfat", "-n", "-V", esp); strings.Contains(out, "Dirty") || strings.Contains(out, "differences") {
		t.Errorf("fsck.vfat: %s", out)
	}
	if out := command(t, "mdir", "-b", "-/", "-i", esp, "::"); strings.Fields(out)[len(strings.Fields(out))-1] != "::/EFI/BOOT/BOOTX64.EFI" || strings.Count(out, "::") != 3 {
		t.Errorf("mdir: %s", out)
	}
	command(t, "mcopy", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI", esp+".efi")
	if !bytes.Equal(read(t, esp+".efi"), read(t, m.uki)) {
		t.Error("the UKI differs")
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]disk.Source{
		"no UKI":     {UKI: m.uki + "x", Root: m.root},
		"no root":    {UKI: m.uki},
		"a folder":   {UKI: m.uki, Root: filepath.Dir(m.root)},
		"empty UKI":  {UKI: empty, Root: m.root},
		"empty root": {UKI: m.uki, Root: empty},
	} {
		path := filepath.Join(t.TempDir(), "disk.raw")
		if _, err := disk.Create(t.Context(), path, s); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s: a file is left", name)
		}
	}
	before := read(t, m.path)
	if _, err := disk.Create(t.Context(), m.path, disk.Source{UKI: m.uki, Root: m.root}); !errors.Is(err, os.ErrExist) || !bytes.Equal(read(t, m.path), before) {
		t.Errorf("a disk that is there: %v", err)
	}
	for _, sizes := range [][2]int64{{0, 1}, {1, 0}, {-1, 1}, {disk.MaxUKI + 1, 1}, {1, disk.MaxRoot + 1}} {
		if _, err := disk.Plan(sizes[0], sizes[1]); err == nil {
			t.Errorf("%v: no error", sizes)
		}
	}
	for _, sizes := range [][2]int64{{1, 1}, {disk.MaxUKI, disk.MaxRoot}, {60 * mib, 300*mib + 1}} {
		if l, err := disk.Plan(sizes[0], sizes[1]); err != nil || l.Validate() != nil {
			t.Errorf("%v: %v, %v", sizes, err, l.Validate())
		}
	}
}

// TestLargeUKI: the file system has room for any UKI that is allowed.
func TestLargeUKI(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	if err := os.Truncate(m.uki, 150*mib); err != nil {
		t.Fatal(err)
	}
	path := m.path + "2"
	if _, err := disk.Create(t.Context(), path, disk.Source{UKI: m.uki, Root: m.root}); err != nil {
		t.Error(err)
	}
}

// file is a disk in memory.
type file []byte

func (f file) ReadAt(b []byte, off int64) (int, error) { return bytes.NewReader(f).ReadAt(b, off) }

func (f file) WriteAt(b []byte, off int64) (int, error) { return copy(f[off:], b), nil }

// TestBundle: a bundle is put in, replaced and taken out, and changes nothing else.
func TestBundle(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	f := file(read(t, m.path))
	original, before := bytes.Clone(f), digest(t, f, m.layout)
	for _, bundle := range []string{strings.Repeat("{}\n", 100000), "{}\n"} {
		if err := disk.PutBundle(f, m.layout, []byte(bundle)); err != nil {
			t.Fatal(err)
		}
		if got, err := disk.Bundle(f, m.layout); err != nil || string(got) != bundle {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if after := digest(t, f, m.layout); after != before {
			t.Error("the digest is another one")
		}
	}
	if err := disk.PutBundle(f, m.layout, nil); err != nil || !bytes.Equal(f, original) {
		t.Errorf("the bundle is not gone: %v", err)
	}
	if err := disk.PutBundle(f, m.layout, make([]byte, slot.Capacity+1)); err == nil || !bytes.Equal(f, original) {
		t.Error("too large a bundle was written")
	}
}

// TestDigestCovers: a byte before or behind the bundle partition changes the digest.
func TestDigestCovers(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	f := read(t, m.path)
	before := digest(t, f, m.layout)
	for _, at := range []int64{0, m.layout.ESP.Offset, m.layout.Root.End() - 1, m.layout.Bundle.End(), m.layout.Size - 1} {
		f[at] ^= 1
		if digest(t, f, m.layout) == before {
			t.Errorf("byte %d is not covered", at)
		}
		f[at] ^= 1
	}
	if _, err := disk.Digest(bytes.NewReader(f[:len(f)-1]), m.layout); err == nil {
		t.Error("a disk that is cut off has a digest")
	}
}

// TestAttackBundleOverData: no bundle is written over what is no bundle partition, whatever a layout says.
func TestAttackBundleOverData(t *testing.T) {
	t.Parallel()
	m := create(t, time.Now())
	f := file(read(t, m.path))
	copy(f[m.layout.Root.Offset:], "KETTLEB1") // a root that looks like what it is not
	before := bytes.Clone(f)
	other, err := disk.Plan(1, 3*mib) // the layout of a disk with a smaller root
	if err != nil {
		t.Fatal(err)
	}
	moved, zero := m.layout, disk.Layout{}
	moved.Bundle.Offset = m.layout.Root.Offset
	for name, l := range map[string]disk.Layout{"another disk's": other, "moved": moved, "zero": zero} {
		if err := disk.PutBundle(f, l, []byte("{}\n")); err == nil || !bytes.Equal(f, before) {
			t.Errorf("%s: it was written: %v", name, err)
		}
	}
}

func BenchmarkDigest(b *testing.B) {
	m := create(b, time.Now())
	f := read(b, m.path)
	b.ReportAllocs()
	b.SetBytes(m.layout.Size)
	for b.Loop() {
		if _, err := disk.Digest(bytes.NewReader(f), m.layout); err != nil {
			b.Fatal(err)
		}
	}
}

var _ io.ReaderAt = file(nil)
