// SPDX-License-Identifier: Apache-2.0

package uki_test

import (
	"bytes"
	"crypto/sha256"
	debugpe "debug/pe"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/image/measure/pe"
	"github.com/kettle/attest/image/uki"
)

// realStub is where Debian's systemd-boot-efi has the stub.
const realStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// Offsets in a stub that measuretest makes.
const (
	coff     = 0x44
	optional = coff + 20
)

// stub makes a small stub that says it is a version of systemd's, with symbols and a time.
func stub(version string) []byte {
	b := measuretest.PE([]measuretest.Section{
		{Name: ".text", Data: []byte("code")}, {Name: ".sbat", Data: []byte("sbat,1\n")}, measuretest.Stub(version),
	}, nil)
	le := binary.LittleEndian
	le.PutUint32(b[coff+4:], 1_000_000_000)
	le.PutUint32(b[coff+8:], uint32(len(b))) //nolint:gosec // small.
	le.PutUint32(b[coff+12:], 2)
	le.PutUint32(b[optional+32:], 512)
	le.PutUint32(b[optional+36:], 512)
	le.PutUint16(b[optional+68:], 10)
	return append(b, "symbols, and their names"...)
}

func parts(version string) uki.Parts {
	return uki.Parts{
		Stub: stub(version), Kernel: measuretest.Kernel("kernel"), Initrd: []byte("an initrd"),
		CommandLine: "console=tty0 quiet", OSRelease: []byte("ID=debian\n"), Uname: "6.12.1-cloud-amd64",
	}
}

func build(t testing.TB, p uki.Parts) []byte {
	t.Helper()
	b, err := uki.Build(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden must never be edited: the same parts are the same image.
func TestGolden(t *testing.T) {
	t.Parallel()
	b := build(t, parts("257"))
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != "9e1bba0d1afaadf8ddbe931ef47b26a076ca1f5f27bb12a6e9b6a4920edf2617" {
		t.Errorf("the image's digest is %s", got)
	}
}

// TestReadBack reads the image with Go's own reader and with ours.
func TestReadBack(t *testing.T) {
	t.Parallel()
	p := parts("257")
	b := build(t, p)
	f, err := debugpe.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{
		".osrel": p.OSRelease, ".cmdline": []byte(p.CommandLine), ".uname": []byte(p.Uname), ".initrd": p.Initrd, ".linux": p.Kernel,
	}
	end := uint32(0)
	for _, s := range f.Sections {
		if content, ok := want[s.Name]; ok {
			data, err := s.Data()
			if err != nil || !bytes.Equal(data[:s.VirtualSize], content) {
				t.Errorf("%s differs: %v", s.Name, err)
			}
			if s.VirtualAddress%4096 != 0 || s.Characteristics != 0x40000040 {
				t.Errorf("%s lies at %#x with %#x", s.Name, s.VirtualAddress, s.Characteristics)
			}
			delete(want, s.Name)
		}
		if s.VirtualAddress < end {
			t.Errorf("%s lies at %#x in what is before it", s.Name, s.VirtualAddress)
		}
		end = s.VirtualAddress + s.VirtualSize
	}
	header, ok := f.OptionalHeader.(*debugpe.OptionalHeader64)
	if !ok || len(want) != 0 {
		t.Fatalf("sections are absent: %v", want)
	}
	if f.TimeDateStamp != 0 || header.CheckSum != 0 || f.PointerToSymbolTable != 0 || f.NumberOfSymbols != 0 || header.SizeOfImage < end || header.SizeOfImage%4096 != 0 {
		t.Errorf("headers: %+v, %+v", f.FileHeader, header)
	}
	if _, err := pe.Parse(b); err != nil {
		t.Error(err)
	}
}

// TestPrediction: what is predicted of our image is what is predicted of the same sections written otherwise, but for the
// digest of the image itself.
func TestPrediction(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"252", "254", "257", "259"} {
		p := parts(version)
		other := measuretest.PE([]measuretest.Section{
			measuretest.Stub(version), {Name: ".sbat", Data: []byte("sbat,1\n")}, {Name: ".uname", Data: []byte(p.Uname)},
			{Name: ".linux", Data: p.Kernel}, {Name: ".initrd", Data: p.Initrd}, {Name: ".cmdline", Data: []byte(p.CommandLine)},
			{Name: ".osrel", Data: p.OSRelease},
		}, nil)
		var logs [2]*boot.Log
		for i, image := range [][]byte{build(t, p), other} {
			var err error
			if logs[i], err = (boot.UKI{Image: image, Loader: boot.Disk}).Log(boot.TPM); err != nil {
				t.Fatal(err)
			}
		}
		for _, index := range []int{9, 11, 12} {
			a, err := logs[0].PCR(index)
			b, err2 := logs[1].PCR(index)
			if err != nil || err2 != nil || a != b {
				t.Errorf("%s: PCR %d: %x, want %x; %v, %v", version, index, a, b, err, err2)
			}
		}
	}
}

// TestAttackPartReplaced: no part can be replaced without a change of the image's Authenticode digest.
func TestAttackPartReplaced(t *testing.T) {
	t.Parallel()
	digest := func(p uki.Parts) [32]byte {
		m, err := pe.Parse(build(t, p))
		if err != nil {
			t.Fatal(err)
		}
		return [32]byte(m.Authenticode(sha256.New()))
	}
	good := digest(parts("257"))
	for name, change := range map[string]func(*uki.Parts){
		"stub":         func(p *uki.Parts) { p.Stub = stub("257.1") },
		"kernel":       func(p *uki.Parts) { p.Kernel = measuretest.Kernel("kernel2") },
		"initrd":       func(p *uki.Parts) { p.Initrd = []byte("an initre") },
		"command line": func(p *uki.Parts) { p.CommandLine += " debug" },
		"os-release":   func(p *uki.Parts) { p.OSRelease = []byte("ID=other\n") },
		"uname":        func(p *uki.Parts) { p.Uname = "" },
		// The border between two parts is part of the image.
		"border": func(p *uki.Parts) { p.CommandLine, p.Uname = p.CommandLine+"6", p.Uname[1:] },
	} {
		p := parts("257")
		change(&p)
		if digest(p) == good {
			t.Errorf("%s: the digest is the same", name)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	patched := func(f func(b []byte)) func(*uki.Parts) {
		return func(p *uki.Parts) {
			p.Stub = bytes.Clone(p.Stub)
			f(p.Stub)
		}
	}
	le := binary.LittleEndian
	many := slices.Repeat([]measuretest.Section{{Name: ".x", Data: []byte("x")}}, 14)
	for name, test := range map[string]struct {
		change func(*uki.Parts)
		want   string
	}{
		"no stub":             {func(p *uki.Parts) { p.Stub = nil }, "stub: 0 bytes"},
		"no kernel":           {func(p *uki.Parts) { p.Kernel = nil }, "kernel: 0 bytes"},
		"no initrd":           {func(p *uki.Parts) { p.Initrd = nil }, "initrd: 0 bytes"},
		"no command line":     {func(p *uki.Parts) { p.CommandLine = "" }, "command line: 0 bytes"},
		"no os-release":       {func(p *uki.Parts) { p.OSRelease = nil }, "os-release: 0 bytes"},
		"long command line":   {func(p *uki.Parts) { p.CommandLine = strings.Repeat("x", 1<<17) }, "command line: 131072"},
		"newline":             {func(p *uki.Parts) { p.CommandLine += "\n" }, "printable"},
		"NUL":                 {func(p *uki.Parts) { p.CommandLine = "a\x00b" }, "printable"},
		"space before":        {func(p *uki.Parts) { p.CommandLine = " a" }, "printable"},
		"space behind":        {func(p *uki.Parts) { p.CommandLine = "a " }, "printable"},
		"NUL in os-release":   {func(p *uki.Parts) { p.OSRelease = []byte{0} }, "NUL"},
		"uname":               {func(p *uki.Parts) { p.Uname = "6.12\n" }, "uname"},
		"long uname":          {func(p *uki.Parts) { p.Uname = strings.Repeat("6", 65) }, "uname"},
		"no PE":               {func(p *uki.Parts) { p.Stub = []byte("MZ") }, "DOS header"},
		"another machine":     {patched(func(b []byte) { le.PutUint16(b[coff:], 0xaa64) }), "x86-64"},
		"another subsystem":   {patched(func(b []byte) { le.PutUint16(b[optional+68:], 11) }), "x86-64"},
		"32 bits":             {patched(func(b []byte) { le.PutUint16(b[optional:], 0x10b) }), ""},
		"no alignment":        {patched(func(b []byte) { le.PutUint32(b[optional+32:], 0) }), "alignments"},
		"an odd alignment":    {patched(func(b []byte) { le.PutUint32(b[optional+32:], 1536) }), "alignments"},
		"a huge alignment":    {patched(func(b []byte) { le.PutUint32(b[optional+32:], 1<<30) }), "alignments"},
		"alignments reversed": {patched(func(b []byte) { le.PutUint32(b[optional+36:], 1024) }), "alignments"},
		"bytes behind":        {patched(func(b []byte) { le.PutUint32(b[coff+8:], 0) }), "no symbols"},
		"sections overlap":    {patched(func(b []byte) { le.PutUint32(b[optional+240+40+12:], 0x1000) }), "in memory"},
		"far away":            {patched(func(b []byte) { le.PutUint32(b[optional+240+80+12:], 0xfffff000) }), "in memory"},
		"header taken":        {patched(func(b []byte) { b[optional+240+3*40+39] = 1 }), "behind its table"},
		"signed": {func(p *uki.Parts) {
			p.Stub = measuretest.PE([]measuretest.Section{measuretest.Stub("257")}, make([]byte, 16))
			copy(p.Stub[optional+32:], "\x00\x02\x00\x00\x00\x02\x00\x00")
			p.Stub[optional+68] = 10
		}, "signed"},
		"a UKI": {func(p *uki.Parts) { p.Stub = build(t, parts("257")) }, "already"},
		"no room": {func(p *uki.Parts) {
			p.Stub = measuretest.PE(many, nil)
			copy(p.Stub[optional+32:], "\x00\x02\x00\x00\x00\x02\x00\x00")
			p.Stub[optional+68] = 10
		}, "room"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := parts("257")
			test.change(&p)
			b, err := uki.Build(p)
			if err == nil || b != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want an error with %q, got %v", test.want, err)
			}
		})
	}
}

// TestInputsAreKept: the parts are not written to.
func TestInputsAreKept(t *testing.T) {
	t.Parallel()
	p := parts("257")
	before := bytes.Clone(p.Stub)
	build(t, p)
	if !bytes.Equal(before, p.Stub) {
		t.Error("the stub was changed")
	}
}

// TestOtherTools: with systemd's own stub, objdump, sbverify and osslsigncode read what we wrote.
func TestOtherTools(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "uki.efi")
	b := build(t, systemdParts(t))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := boot.UKI{Image: b, Loader: boot.Disk}.Log(boot.TPM)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := l.PCR(12); err != nil || v != [32]byte{} {
		t.Errorf("PCR 12: %x, %v", v, err)
	}
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"objdump", []string{"-h", path}, ".linux"},
		{"sbverify", []string{"--list", path}, "No signature table present"},
		{"osslsigncode", []string{"extract-data", "-h", "sha256", "-in", path, "-out", path + ".data"}, "Succeeded"},
	} {
		if _, err := exec.LookPath(test.name); err != nil {
			t.Logf("this machine has no %s (scripts/apt-packages)", test.name)
			continue
		}
		out, err := exec.CommandContext(t.Context(), test.name, test.args...).CombinedOutput() //nolint:gosec // the table's own.
		if !strings.Contains(string(out), test.want) || strings.Contains(strings.ToLower(string(out)), "warning") {
			t.Errorf("%s: %v\n%s", test.name, err, out)
		}
	}
	m, err := pe.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	// osslsigncode hands out what a signature would be made over, which holds its own idea of the digest.
	if data, err := os.ReadFile(path + ".data"); err == nil && !bytes.Contains(data, m.Authenticode(sha256.New())) {
		t.Error("osslsigncode calculates another Authenticode digest")
	}
}

// systemdParts are the parts with systemd's stub.
func systemdParts(t testing.TB) uki.Parts {
	t.Helper()
	p := parts("")
	var err error
	if p.Stub, err = os.ReadFile(realStub); err != nil {
		t.Skipf("this machine has no systemd-boot-efi (scripts/apt-packages): %v", err)
	}
	return p
}

// FuzzStub: whatever stub is taken, the image can be read back, and its sections are the parts.
func FuzzStub(f *testing.F) {
	f.Add(stub("257"))
	f.Add(measuretest.PE([]measuretest.Section{measuretest.Stub("257")}, make([]byte, 16)))
	f.Fuzz(func(t *testing.T, stub []byte) {
		p := parts("")
		p.Stub = stub
		b, err := uki.Build(p)
		if err != nil {
			return
		}
		m, err := pe.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, s := range m.Sections() {
			if s.Name == ".linux" {
				content, err := s.Memory()
				if err != nil || !bytes.Equal(content, p.Kernel) {
					t.Errorf("the kernel differs: %v", err)
				}
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d kernels", found)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	p := parts("257")
	p.Kernel, p.Initrd = append(p.Kernel, make([]byte, 12<<20)...), make([]byte, 12<<20)
	b.ReportAllocs()
	for b.Loop() {
		build(b, p)
	}
}
