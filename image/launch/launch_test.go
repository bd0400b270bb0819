// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type silent struct{}

func (silent) Serve(_ context.Context, stream io.ReadWriter) error {
	_, err := io.Copy(io.Discard, stream)
	return err
}

// config gives a configuration with small files for every part.
func config(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		CommandLine: image.CommandLine{Config: image.SHA256{1}, Root: image.Verity{RootHash: image.SHA256{2}, DataBlocks: 1}}.String(),
		MemoryMiB:   128, CPUs: 1, Acceleration: TCG,
		NewProcessor: func([48]byte) (Processor, error) { return silent{}, nil },
	}
	for name, path := range map[string]*string{"firmware": &c.Firmware, "kernel": &c.Kernel, "initrd": &c.Initrd, "root": &c.Root} {
		*path = filepath.Join(dir, name)
		if err := os.WriteFile(*path, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestValidate(t *testing.T) {
	t.Parallel()
	c := config(t)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"no firmware":        {func(c *Config) { c.Firmware = "" }, "firmware"},
		"no kernel":          {func(c *Config) { c.Kernel = "" }, "kernel"},
		"no initrd":          {func(c *Config) { c.Initrd = "" }, "initrd"},
		"no root":            {func(c *Config) { c.Root = "" }, "root"},
		"a root and a disk":  {func(c *Config) { c.Disk = c.Root }, "one of both"},
		"no command line":    {func(c *Config) { c.CommandLine = "" }, "command line"},
		"a word more":        {func(c *Config) { c.CommandLine += " init=/bin/sh" }, "command line"},
		"newline at the end": {func(c *Config) { c.CommandLine += "\n" }, "newline"},
		"little memory":      {func(c *Config) { c.MemoryMiB = 64 }, "128 MiB"},
		"no processor unit":  {func(c *Config) { c.CPUs = 0 }, "1 CPU"},
		"no acceleration":    {func(c *Config) { c.Acceleration = "" }, "acceleration"},
		"no processor":       {func(c *Config) { c.NewProcessor = nil }, "processor"},
		"empty forward":      {func(c *Config) { c.Forwards = []Forward{{}} }, "forward"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := c
			tt.spoil(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %q, got %v", tt.want, err)
			}
			if vm, err := Start(t.Context(), c); err == nil || vm != nil {
				t.Error("it was started")
			}
		})
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Root = "/a,b/root"
	s := &staged{folder: "/vm"}
	line := strings.Join(arguments(&c, s, TCG, ""), " ")
	for _, want := range []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-accel tcg,thread=multi", "-cpu max", "-bios /vm/firmware",
		"-kernel /vm/kernel", "-initrd /vm/initrd", "-append " + c.CommandLine + " ", "file=/a,,b/root", "readonly=on",
		"name=dev.kettle.control", "name=dev.kettle.quote", "serial=kettle-root", "spawn=deny",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("want %q in %s", want, line)
		}
	}
	for _, foreign := range []string{"netdev", "kettle-scratch"} {
		if strings.Contains(line, foreign) {
			t.Errorf("a device that was not asked for: %s", foreign)
		}
	}
	c.Root, c.Disk, c.Scratch = "", "/disk", "/c,d"
	line = strings.Join(arguments(&c, s, TCG, ""), " ")
	if strings.Contains(line, "serial=kettle-root") || !strings.Contains(line, "readonly=on,file.locking=off,file=/disk -device virtio-blk-pci,drive=root -drive") ||
		!strings.Contains(line, "file=/c,,d -device virtio-blk-pci,drive=scratch,serial=kettle-scratch") {
		t.Errorf("the disks: %s", line)
	}
	c.Forwards = []Forward{{Guest: netip.MustParseAddrPort("10.0.2.100:443"), Host: netip.MustParseAddrPort("127.0.0.1:8443")}}
	line = strings.Join(arguments(&c, s, KVM, "/usr/bin/socat"), " ")
	for _, want := range []string{
		"user,id=net,restrict=on,ipv6=off,guestfwd=tcp:10.0.2.100:443-cmd:/usr/bin/socat STDIO TCP4:127.0.0.1:8443",
		"virtio-net-pci,netdev=net,romfile=", "-accel kvm", "-cpu host",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("want %q in %s", want, line)
		}
	}
}

// TestStage shows that the digest is over the copies, and that changing a source afterwards changes neither.
func TestStage(t *testing.T) {
	t.Parallel()
	c := config(t)
	s, err := stage(&c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Kernel, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	read := func(name string) image.SHA256 {
		data, err := os.ReadFile(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		return sha256.Sum256(data)
	}
	want := measure.Sim(measure.Launch{
		Firmware: read("firmware"), Kernel: read("kernel"), Initrd: read("initrd"), CommandLine: measure.CommandLine(c.CommandLine),
	})
	if s.digest != want {
		t.Errorf("want %x, got %x", want, s.digest)
	}
	if info, err := os.Stat(s.folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	if err := s.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// TestStageFolder puts the copies where the caller can find them, and never into a folder that is there.
func TestStageFolder(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Folder = filepath.Join(t.TempDir(), "machine")
	s, err := stage(&c)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(c.Folder, "kernel")); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the kernel's copy: %v", err)
	}
	if _, err := stage(&c); !errors.Is(err, os.ErrExist) {
		t.Errorf("want os.ErrExist, got %v", err)
	}
	if err := s.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(c.Folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestStageLeavesNothingOnFailure(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	c := config(t)
	c.Initrd += ".not"
	if _, err := stage(&c); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("want os.ErrNotExist, got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestStartFailsCleanly(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("QEMU is not installed")
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	tests := map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"no processor to be had": {
			func(c *Config) { c.NewProcessor = func([48]byte) (Processor, error) { return nil, io.ErrNoProgress } }, io.ErrNoProgress.Error(),
		},
		"console cannot be made": {func(c *Config) { c.Console = filepath.Join(dir, "no", "console") }, "console"},
		"QEMU refuses the files": {func(*Config) {}, "running the VM"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			tt.spoil(&c)
			vm, err := Start(t.Context(), c)
			if err == nil {
				err = errors.Join(vm.Wait(), vm.Control().Close())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %q, got %v", tt.want, err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "kettle-vm-*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestReadUntil(t *testing.T) {
	t.Parallel()
	const word = "Linux version"
	for text, want := range map[string]bool{
		"":                         false,
		"Linux versio":             false,
		"boot: Linux version 6.12": true,
		strings.Repeat("x", 9000):  false,
		strings.Repeat("x", 4090) + "Linux version": true,
	} {
		if got := readUntil(iotestOneByte{strings.NewReader(text)}, []byte(word)); got != want {
			t.Errorf("%.30q, byte by byte: got %v", text, got)
		}
		if got := readUntil(strings.NewReader(text), []byte(word)); got != want {
			t.Errorf("%.30q: got %v", text, got)
		}
	}
}

type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

// TestProbeEndsOnSilence runs a program that says nothing in QEMU's place.
func TestProbeEndsOnSilence(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := bootsWith(ctx, "sleep", []string{"60"}); err == nil {
		t.Error("silence was taken for a kernel")
	}
	if err := bootsWith(t.Context(), "echo", []string{"Linux version 6"}); err != nil {
		t.Errorf("a kernel that spoke: %v", err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var tl tail
	for _, part := range slices.Repeat([]string{strings.Repeat("a", 700)}, 4) {
		if n, err := io.WriteString(&tl, part); n != 700 || err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := io.Copy(&tl, bytes.NewReader([]byte("the end"))); err != nil {
		t.Fatal(err)
	}
	if got := tl.String(); len(got) != 2000 || !strings.HasSuffix(got, "the end") {
		t.Errorf("got %d bytes ending in %q", len(got), got[max(0, len(got)-10):])
	}
}
