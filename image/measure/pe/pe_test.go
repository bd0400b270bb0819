// SPDX-License-Identifier: Apache-2.0

package pe_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/image/measure/pe"
)

// Offsets in the images of measuretest.
const (
	numberOfSections = 0x40 + 6
	sizeOfOptional   = 0x40 + 20
	optional         = 0x40 + 24
	sizeOfHeaders    = optional + 60
	checksum         = optional + 64
	directories      = optional + 108
	certificates     = optional + 112 + 32
	firstSection     = optional + 112 + 128
)

func sections() []measuretest.Section {
	return []measuretest.Section{{Name: ".text", Data: []byte("code")}, {Name: ".data", Data: bytes.Repeat([]byte("data"), 200)}}
}

func image() []byte { return measuretest.PE(sections(), []byte("a certificate, 16")) }

func authenticode(t testing.TB, b []byte) string {
	t.Helper()
	m, err := pe.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(m.Authenticode(sha256.New()))
}

// TestAuthenticodeByHand hashes the parts that the specification lists.
func TestAuthenticodeByHand(t *testing.T) {
	t.Parallel()
	b := image()
	end := int(binary.LittleEndian.Uint32(b[certificates:]))
	h := sha256.New()
	h.Write(b[:checksum])
	h.Write(b[checksum+4 : certificates])
	h.Write(b[certificates+8 : end])
	if got, want := authenticode(t, b), hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("want %s, got %s", want, got)
	}
}

// TestAuthenticodeOfDebianKernel: the digest is the one that Debian signed, which is in the kernel's certificate table.
func TestAuthenticodeOfDebianKernel(t *testing.T) {
	t.Parallel()
	cache := os.Getenv("KETTLE_CACHE")
	if user, err := os.UserCacheDir(); cache == "" && err == nil {
		cache = filepath.Join(user, "kettle")
	}
	found, err := filepath.Glob(filepath.Join(cache, "kernel", "boot", "vmlinuz-*"))
	if err != nil || len(found) == 0 {
		t.Skip("no kernel in the cache, run scripts/build-image --kernel")
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	digest, err := hex.DecodeString(authenticode(t, b))
	if err != nil {
		t.Fatal(err)
	}
	entry := int(binary.LittleEndian.Uint32(b[0x3c:])) + 24 + 112 + 32
	if table := b[binary.LittleEndian.Uint32(b[entry:]):]; !bytes.Contains(table, digest) {
		t.Errorf("%s: the digest %x is not the signed one", found[0], digest)
	}
}

// TestAttackByteNotMeasured: every byte of an image is covered, but for checksum, directory entry and certificates.
func TestAttackByteNotMeasured(t *testing.T) {
	t.Parallel()
	good := authenticode(t, image())
	free := map[string]int{}
	for i := range image() {
		b := image()
		b[i] ^= 0x10
		m, err := pe.Parse(b)
		if err != nil || hex.EncodeToString(m.Authenticode(sha256.New())) != good {
			continue
		}
		switch end := int(binary.LittleEndian.Uint32(b[certificates:])); {
		case i >= checksum && i < checksum+4:
			free["checksum"]++
		case i >= end:
			free["certificates"]++
		default:
			t.Errorf("byte %#x is not covered", i)
		}
	}
	if free["checksum"] != 4 || free["certificates"] != len("a certificate, 16") {
		t.Errorf("bytes that may change: %v", free)
	}
}

func TestSections(t *testing.T) {
	t.Parallel()
	m, err := pe.Parse(image())
	if err != nil {
		t.Fatal(err)
	}
	got := m.Sections()
	if len(got) != 2 || got[0].Name != ".text" || got[1].Name != ".data" || len(got[0].Data) != 512 {
		t.Fatalf("got %v", got)
	}
	if b, err := got[1].Memory(); err != nil || string(b) != strings.Repeat("data", 200) {
		t.Errorf("got %q, %v", b, err)
	}
	got[0].VirtualSize = 513
	if _, err := got[0].Memory(); err == nil {
		t.Error("a section of zeros: no error")
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	tests := map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"empty":             {func([]byte) []byte { return nil }, "DOS header"},
		"no MZ":             {func(b []byte) []byte { b[0] = 0; return b }, "DOS header"},
		"header in itself":  {func(b []byte) []byte { le.PutUint32(b[0x3c:], 0x20); return b }, "no PE header"},
		"header nowhere":    {func(b []byte) []byte { le.PutUint32(b[0x3c:], 0xffffffff); return b }, "no PE header"},
		"no PE":             {func(b []byte) []byte { b[0x40] = 0; return b }, "no PE header"},
		"no sections":       {func(b []byte) []byte { le.PutUint16(b[numberOfSections:], 0); return b }, "sections"},
		"many sections":     {func(b []byte) []byte { le.PutUint16(b[numberOfSections:], 97); return b }, "sections"},
		"no optional":       {func(b []byte) []byte { le.PutUint16(b[sizeOfOptional:], 0); return b }, "optional header"},
		"short optional":    {func(b []byte) []byte { le.PutUint16(b[sizeOfOptional:], 100); return b }, "optional header"},
		"another magic":     {func(b []byte) []byte { b[optional] = 0; return b }, "magic"},
		"many directories":  {func(b []byte) []byte { le.PutUint32(b[directories:], 0xffffffff); return b }, "directories"},
		"headers too large": {func(b []byte) []byte { le.PutUint32(b[sizeOfHeaders:], 0xffffffff); return b }, "headers"},
		"headers too small": {func(b []byte) []byte { le.PutUint32(b[sizeOfHeaders:], 0x100); return b }, "headers"},
		"certificates past the end": {
			func(b []byte) []byte { le.PutUint32(b[certificates+4:], 0xffff); return b }, "certificate table",
		},
		"certificates not at the end": {func(b []byte) []byte { return append(b, 0) }, "certificate table"},
		"certificates unaligned": {
			func(b []byte) []byte {
				le.PutUint32(b[certificates:], le.Uint32(b[certificates:])+1)
				le.PutUint32(b[certificates+4:], le.Uint32(b[certificates+4:])-1)
				return b
			}, "certificate table",
		},
		"section outside": {func(b []byte) []byte { le.PutUint32(b[firstSection+16:], 0xfffffff0); return b }, "outside the file"},
		"section over the certificates": {
			func(b []byte) []byte { le.PutUint32(b[firstSection+40+16:], uint32(len(b)-0x600)); return b }, "outside the file",
		},
		"overlap": {func(b []byte) []byte { le.PutUint32(b[firstSection+40+20:], 0x400); return b }, "starts at"},
		"gap":     {func(b []byte) []byte { le.PutUint32(b[firstSection+20:], 0x500); return b }, "starts at"},
		"gap after the headers": {
			func(b []byte) []byte { le.PutUint32(b[sizeOfHeaders:], 0x3f0); return b }, "starts at",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := pe.Parse(test.change(image()))
			if err == nil || m != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want an error with %q, got %v, %v", test.want, err, m != nil)
			}
		})
	}
}

// TestDirectoryMissing: an image whose directories end before the certificate table has nothing to leave out.
func TestDirectoryMissing(t *testing.T) {
	t.Parallel()
	b := measuretest.PE(sections(), nil)
	binary.LittleEndian.PutUint32(b[directories:], 4)
	h := sha256.New()
	h.Write(b[:checksum])
	h.Write(b[checksum+4:])
	if got, want := authenticode(t, b), hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("want %s, got %s", want, got)
	}
}

// FuzzParse: an image or an error; what is hashed and what the sections hold lies inside the file.
func FuzzParse(f *testing.F) {
	f.Add(image())
	f.Add(measuretest.Kernel("kernel"))
	f.Add(measuretest.PE(sections(), nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := pe.Parse(b)
		if (err == nil) != (m != nil) {
			t.Fatalf("an image %v and an error %v", m != nil, err)
		}
		if m == nil {
			return
		}
		m.Authenticode(sha256.New())
		for _, s := range m.Sections() {
			if content, err := s.Memory(); err == nil && len(content) > len(b) {
				t.Fatalf("section %q has %d bytes of a file of %d", s.Name, len(content), len(b))
			}
		}
	})
}

func BenchmarkAuthenticode(b *testing.B) {
	data := measuretest.PE([]measuretest.Section{{Name: ".linux", Data: make([]byte, 12<<20)}}, nil)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		m, err := pe.Parse(data)
		if err != nil {
			b.Fatal(err)
		}
		m.Authenticode(sha256.New())
	}
}
