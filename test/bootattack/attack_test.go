// SPDX-License-Identifier: Apache-2.0

package bootattack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/image/verity"
)

// otherRoot gives the machine a disk with a root file system that is one block longer, well sealed, and the image's bundle.
func (m *machine) otherRoot(t *testing.T) image.Verity {
	t.Helper()
	root := m.copyOf(t, m.File(m.manifest.Files.Root))
	must(t, os.Truncate(root, m.manifest.Verity.DataBlocks*verity.BlockSize))
	must(t, os.Truncate(root, (m.manifest.Verity.DataBlocks+1)*verity.BlockSize))
	sealed, err := build.SealRoot(t.Context(), root)
	must(t, err)
	m.config.Disk = m.path("disk.raw")
	layout, err := disk.Create(t.Context(), m.config.Disk, disk.Source{UKI: m.File(m.manifest.Files.UKI), Root: root})
	must(t, err)
	file, err := os.OpenFile(m.config.Disk, os.O_RDWR, 0)
	must(t, err)
	must(t, errors.Join(disk.PutBundle(file, layout, m.bundle), file.Close()))
	return sealed
}

// line is the image's command line with a change.
func (m *machine) line(t *testing.T, change func(*image.CommandLine)) string {
	t.Helper()
	line, err := image.ParseCommandLine(m.manifest.CommandLine)
	must(t, err)
	change(&line)
	return line.String()
}

// TestAttackCommandLine starts the image with another kernel command line: what was measured is not what was signed, and where
// a processor would not have measured it, what the kernel shows is not.
func TestAttackCommandLine(t *testing.T) {
	t.Parallel()
	t.Run("another root, not measured", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t)
		root := m.otherRoot(t)
		m.add("-append", m.line(t, func(l *image.CommandLine) { l.Root = root }))
		c := m.boot(t)
		c.refuses(t, "reference values refused (measurement)", "command-line sha256:")
		if !c.measured {
			t.Error("the processor was to measure the image's own command line")
		}
	})
	if !nightly {
		return
	}
	t.Run("debug", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t)
		m.config.CommandLine = m.line(t, func(l *image.CommandLine) { l.Debug = true })
		c := m.boot(t)
		if c.measured || c.verified || !strings.Contains(c.outcome, "reference values refused (measurement)") {
			t.Errorf("measured %v, verified %v, %q", c.measured, c.verified, c.outcome)
		}
	})
	t.Run("one word more, not measured", func(t *testing.T) {
		t.Parallel()
		m := newMachine(t)
		m.add("-append", m.manifest.CommandLine+" init=/bin/sh")
		m.boot(t).silent(t, "kettled: boot stopped: reading the kernel command line: want ")
	})
}

// TestAttackParts starts another initrd and another kernel, each of which does what the image's does.
func TestAttackParts(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*testing.T, *machine){
		"initrd": func(t *testing.T, m *machine) {
			m.config.Initrd = m.copyOf(t, m.config.Initrd)
			info, err := os.Stat(m.config.Initrd)
			must(t, err)
			must(t, os.Truncate(m.config.Initrd, info.Size()+512))
		},
		"kernel": func(t *testing.T, m *machine) {
			m.config.Kernel = m.copyOf(t, m.config.Kernel)
			kernel, err := os.ReadFile(m.config.Kernel)
			must(t, err)
			at := binary.LittleEndian.Uint32(kernel[0x3c:]) + 8 // the time in the header that only firmware of UEFI reads
			patch(t, m.config.Kernel, int64(at), []byte("host"))
		},
	}
	if !nightly {
		delete(changes, "kernel") // at night: it stops where the initrd does
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			change(t, m)
			c := m.boot(t)
			c.refuses(t, "reference values refused (measurement): want one of the ")
			if c.measured {
				t.Error("another part has the same launch digest")
			}
		})
	}
}

// patch writes over a place of a file.
func patch(t *testing.T, path string, at int64, content []byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	_, err = file.WriteAt(content, at)
	must(t, errors.Join(err, file.Close()))
}

// TestAttackDisk changes the disk: the root on it, how many there are, and what the bundle partition holds.
func TestAttackDisk(t *testing.T) {
	t.Parallel()
	place := func(m *machine) int64 { return m.layout().Bundle.Offset }
	put := func(t *testing.T, m *machine, bundle []byte) {
		t.Helper()
		file, err := os.OpenFile(m.config.Disk, os.O_RDWR, 0)
		must(t, err)
		must(t, errors.Join(disk.PutBundle(file, m.layout(), bundle), file.Close()))
	}
	second := func(t *testing.T, m *machine, path string) {
		t.Helper()
		m.add("-drive", "if=none,id=second,format=raw,readonly=on,file.locking=off,file="+path, "-device", "virtio-blk-pci,drive=second")
	}
	for name, tt := range map[string]struct {
		change func(*testing.T, *machine)
		silent bool // it ends before there is anybody who speaks
		want   string
		later  bool // at night: another row stops at the same check, or a test of package runner/boot
	}{
		"a flipped bit of the root": {func(t *testing.T, m *machine) {
			at := m.layout().Root.Offset + 1024
			patch(t, m.config.Disk, at, []byte{byteAt(t, m.config.Disk, at) ^ 1})
		}, true, "the root image is not the one on the measured command line", true},
		"another root of the same name": {func(t *testing.T, m *machine) {
			second(t, m, m.Disk())
		}, true, "finding the disk kettle-root: there are 2 of that name", true},
		"another root alone": {func(t *testing.T, m *machine) {
			must(t, os.Remove(m.config.Disk))
			m.otherRoot(t)
		}, true, "the root image is not the one on the measured command line", true},
		"no bundle partition": {func(_ *testing.T, m *machine) {
			m.config.Disk, m.config.Root = "", m.File(m.manifest.Files.Root)
		}, false, "bundle partition refused (missing)", true},
		"two bundle partitions": {func(t *testing.T, m *machine) {
			other := filepath.Join(t.TempDir(), "second.raw")
			must(t, os.Rename(m.config.Disk, other))
			m.config.Disk = m.copyOf(t, other)
			out, err := exec.CommandContext(t.Context(), "sgdisk", "--change-name=2:other", other).CombinedOutput()
			if err != nil {
				t.Fatalf("sgdisk: %v: %s", err, out)
			}
			second(t, m, other)
		}, false, "bundle partition refused (malformed)", true},
		"no bundle":               {func(t *testing.T, m *machine) { put(t, m, nil) }, false, "bundle partition refused (missing)", true},
		"a huge bundle":           {func(t *testing.T, m *machine) { patch(t, m.config.Disk, place(m)+8, bytes.Repeat([]byte{0xff}, 8)) }, false, "bundle partition refused (malformed)", true},
		"a bundle cut off":        {func(t *testing.T, m *machine) { put(t, m, m.bundle[:len(m.bundle)/3]) }, false, " refused (", true},
		"half of the statements":  {func(t *testing.T, m *machine) { put(t, m, firstLine(m.bundle)) }, false, "refused (missing)", true},
		"more behind the bundle":  {func(t *testing.T, m *machine) { patch(t, m.config.Disk, place(m)+2<<20, []byte("x")) }, false, "bundle partition refused (malformed)", true},
		"no magic":                {func(t *testing.T, m *machine) { patch(t, m.config.Disk, place(m), []byte("x")) }, false, "bundle partition refused (malformed)", true},
		"another image's bundle":  {func(t *testing.T, m *machine) { put(t, m, m.other(t)) }, false, "reference values refused (measurement)", false},
		"a bundle of another key": {func(t *testing.T, m *machine) { put(t, m, resigned(t, m.bundle)) }, false, " refused (", true},
	} {
		if tt.later && !nightly {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.config.Disk = m.copyOf(t, m.config.Disk)
			tt.change(t, m)
			c := m.boot(t)
			if !c.measured {
				t.Error("the disk is not part of the launch digest")
			}
			if tt.silent {
				c.silent(t, "kettled: boot stopped: "+tt.want)
			} else {
				c.refuses(t, tt.want)
			}
		})
	}
}

func byteAt(t *testing.T, path string, at int64) byte {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	var b [1]byte
	_, err = file.ReadAt(b[:], at)
	must(t, errors.Join(err, file.Close()))
	return b[0]
}

func firstLine(lines []byte) []byte {
	line, _, _ := bytes.Cut(lines, []byte("\n"))
	return append(line[:len(line):len(line)], '\n')
}

// resigned changes one character of the first signature of each line.
func resigned(t *testing.T, lines []byte) []byte {
	t.Helper()
	mark := []byte(`"sig":"`)
	if !bytes.Contains(lines, mark) {
		t.Fatal("no signature in the bundle")
	}
	out := bytes.Clone(lines)
	for at := 0; ; {
		next := bytes.Index(out[at:], mark)
		if next < 0 {
			return out
		}
		at += next + len(mark) + 20
		if out[at] == 'A' {
			out[at] = 'B'
		} else {
			out[at] = 'A'
		}
	}
}

// TestAttackClock sets the machine's clock two years back and ahead: what it is judged by has an authenticated time, and an age.
func TestAttackClock(t *testing.T) {
	t.Parallel()
	clocks := map[string]int{"two years ago": -2}
	if nightly {
		clocks["two years ahead"] = 2
	}
	for name, years := range clocks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.add("-rtc", "base="+time.Now().AddDate(years, 0, 0).UTC().Format("2006-01-02T15:04:05"))
			c := m.boot(t)
			c.refuses(t, "refused (expired): want ")
			if !c.measured {
				t.Error("the clock is not part of the launch digest")
			}
		})
	}
}
