// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
)

// golden is a whole manifest. A change of these bytes is a new schema.
const golden = `{"commandLine":"console=ttyS0 quiet panic=-1 oops=panic lockdown=integrity slab_nomerge efi=noruntime random.trust_bootloader=off random.trust_cpu=on no_timer_check ` +
	`kettle.config=sha256:1111111111111111111111111111111111111111111111111111111111111111 ` +
	`kettle.root=sha256-parts:2222222222222222222222222222222222222222222222222222222222222222",` +
	`"firmware":{"name":"firmware.bin","sha256":"3333333333333333333333333333333333333333333333333333333333333333","size":65536},` +
	`"initrd":{"name":"initrd.cpio","sha256":"4444444444444444444444444444444444444444444444444444444444444444","size":5},` +
	`"kernel":{"name":"vmlinuz","sha256":"5555555555555555555555555555555555555555555555555555555555555555","size":6},` +
	`"kernelVersion":"6.12.1-cloud-amd64",` +
	`"root":{"name":"root.erofs","sha256":"6666666666666666666666666666666666666666666666666666666666666666","size":4096},` +
	`"rootDigest":"2222222222222222222222222222222222222222222222222222222222222222",` +
	`"schema":"kettle.image/v1",` +
	`"toolchain":{"go":"go1.26.0","packages":"7777777777777777777777777777777777777777777777777777777777777777",` +
	`"recipe":"8888888888888888888888888888888888888888888888888888888888888888"}}`

func digest(b byte) image.SHA256 { return image.SHA256(bytes.Repeat([]byte{b}, 32)) }

func TestManifestGolden(t *testing.T) {
	t.Parallel()
	m, err := image.Parse([]byte(golden))
	if err != nil {
		t.Fatal(err)
	}
	if want := digest(0x22); m.RootDigest != want {
		t.Errorf("root digest: want %s, got %s", want, m.RootDigest)
	}
	written, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != golden {
		t.Errorf("want %s\ngot  %s", golden, written)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	swap := func(old, replacement string) string {
		if !strings.Contains(golden, old) {
			t.Fatalf("the golden manifest has no %q", old)
		}
		return strings.Replace(golden, old, replacement, 1)
	}
	tests := map[string]struct{ manifest, want string }{
		"empty":                  {"", "EOF"},
		"nothing in it":          {"{}", "schema"},
		"unknown field":          {swap(`"schema"`, `"extra":1,"schema"`), "unknown field"},
		"data after it":          {golden + "{}", "data after"},
		"other schema":           {swap("image/v1", "image/v2"), "schema"},
		"no kernel":              {swap(`"kernel":{"name":"vmlinuz","sha256":"5555555555555555555555555555555555555555555555555555555555555555","size":6},`, ""), "kernel: name"},
		"path as a name":         {swap("vmlinuz", "../vmlinuz"), "base name"},
		"dot as a name":          {swap("vmlinuz", ".."), "base name"},
		"one name twice":         {swap("initrd.cpio", "vmlinuz"), "the same file name"},
		"size of 0":              {swap(`"size":5}`, `"size":0}`), "size"},
		"digest of zeros":        {swap(strings.Repeat("5", 64), strings.Repeat("0", 64)), "sha256: absent"},
		"upper-case digest":      {swap(strings.Repeat("5", 64), strings.Repeat("A", 64)), "lower-case"},
		"short digest":           {swap(strings.Repeat("5", 64), "55"), "64 lower-case"},
		"not hexadecimal":        {swap(strings.Repeat("5", 64), strings.Repeat("g", 64)), "invalid byte"},
		"other root digest":      {swap(`"rootDigest":"2`, `"rootDigest":"3`), "kettle.root is not"},
		"command line with more": {swap("quiet ", "quiet init=/bin/sh "), "commandLine"},
		"no kernel version":      {swap("6.12.1-cloud-amd64", ""), "kernelVersion"},
		"no go version":          {swap("go1.26.0", ""), "toolchain.go"},
		"no packages":            {swap(strings.Repeat("7", 64), strings.Repeat("0", 64)), "toolchain"},
		"too long":               {golden + strings.Repeat(" ", 64<<10), "at most"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := image.Parse([]byte(tt.manifest))
			if err == nil || m != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %q, got %v", tt.want, err)
			}
		})
	}
}

func TestMarshalRefusesInvalid(t *testing.T) {
	t.Parallel()
	if data, err := (&image.Manifest{}).Marshal(); err == nil {
		t.Errorf("an empty manifest was written: %s", data)
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	want := image.CommandLine{Config: digest(0x11), Root: digest(0x22)}
	text := want.String()
	for _, accepted := range []string{text, text + "\n"} {
		got, err := image.ParseCommandLine(accepted)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v", accepted, got, err)
		}
	}
	tests := map[string]string{
		"empty":              "",
		"a word more":        text + " init=/bin/sh",
		"a word less":        strings.Replace(text, " quiet", "", 1),
		"a word moved":       strings.Replace(text, "console=ttyS0 quiet", "quiet console=ttyS0", 1),
		"a word changed":     strings.Replace(text, "lockdown=integrity", "lockdown=none", 1),
		"two spaces":         strings.Replace(text, " quiet", "  quiet", 1),
		"a space at the end": text + " ",
		"two newlines":       text + "\n\n",
		"a digest repeated":  text + " " + text[strings.LastIndex(text, " ")+1:],
		"root is zeros":      image.CommandLine{Config: digest(1)}.String(),
		"config is zeros":    image.CommandLine{Root: digest(1)}.String(),
		"root is short":      text[:len(text)-1],
		"root is long":       text + "0",
		"other hash":         strings.Replace(text, "config=sha256:", "config=sha384:", 1),
	}
	for name, line := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := image.ParseCommandLine(line); err == nil {
				t.Errorf("%q was accepted as %v", line, got)
			}
		})
	}
}

// TestRootDigestGolden fixes the encoding; a change is another word on the command line.
func TestRootDigestGolden(t *testing.T) {
	t.Parallel()
	parts := []image.SHA256{sha256.Sum256([]byte("a")), sha256.Sum256([]byte("b"))}
	const want = "b54efd915a0bd04d08a21cca0272ad25b8776f8430fa556c1198460101dc7fae"
	if got := image.RootDigest(image.RootPart+1, parts).String(); got != want {
		t.Errorf("want %s, got %s", want, got)
	}
	for name, other := range map[string]image.SHA256{
		"other size":  image.RootDigest(image.RootPart+2, parts),
		"other order": image.RootDigest(image.RootPart+1, []image.SHA256{parts[1], parts[0]}),
		"one part":    image.RootDigest(image.RootPart+1, parts[:1]),
	} {
		if other.String() == want {
			t.Errorf("%s: the same digest", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(`{"schema":"kettle.image/v1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := image.Parse(data)
		if err != nil {
			return
		}
		written, err := m.Marshal()
		if err != nil {
			t.Fatalf("parsed but not written: %v", err)
		}
		again, err := image.Parse(written)
		if err != nil || *again != *m {
			t.Fatalf("not the same after a round: %v, %v", again, err)
		}
	})
}

func FuzzParseCommandLine(f *testing.F) {
	f.Add(image.CommandLine{Config: digest(1), Root: digest(2)}.String())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := image.ParseCommandLine(text)
		if err == nil && c.String() != strings.TrimSuffix(text, "\n") {
			t.Fatalf("two spellings: %q and %q", text, c.String())
		}
	})
}
