// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
)

func digest(b byte) image.SHA256 { return image.SHA256(bytes.Repeat([]byte{b}, 32)) }

func TestCommandLine(t *testing.T) {
	t.Parallel()
	want := image.CommandLine{Config: digest(0x11), Root: image.Verity{RootHash: digest(0x22), DataBlocks: 4096}}
	text := want.String()
	debug := want
	debug.Debug = true
	for line, want := range map[string]image.CommandLine{text: want, text + "\n": want, debug.String(): debug} {
		got, err := image.ParseCommandLine(line)
		if err != nil || got != want {
			t.Errorf("%q: got %v, %v", line, got, err)
		}
	}
	if words := strings.Fields(text); slices.Contains(words, "kettle.debug") || strings.Contains(text, "ttyS") {
		t.Errorf("a production image shows the kernel's messages to the host: %s", text)
	}
	if words := strings.Fields(debug.String()); !slices.Contains(words, "kettle.debug") || len(words) != len(strings.Fields(text)) {
		t.Errorf("a debug image does not say that it is one, or says more: %s", debug)
	}
	tests := map[string]string{
		"empty":                "",
		"a word more":          text + " init=/bin/sh",
		"a word less":          strings.Replace(text, " quiet", "", 1),
		"a word moved":         strings.Replace(text, "console=tty0 quiet", "quiet console=tty0", 1),
		"a word changed":       strings.Replace(text, "lockdown=integrity", "lockdown=none", 1),
		"a serial console":     strings.Replace(text, "console=tty0", "console=ttyS0", 1),
		"debug at the end":     text + " kettle.debug",
		"debug with a word":    strings.Replace(debug.String(), "kettle.debug", "kettle.debug=1", 1),
		"debug and quiet":      strings.Replace(debug.String(), "kettle.debug", "kettle.debug quiet", 1),
		"two spaces":           strings.Replace(text, " quiet", "  quiet", 1),
		"a space at the end":   text + " ",
		"two newlines":         text + "\n\n",
		"a digest repeated":    text + " " + text[strings.LastIndex(text, " ")+1:],
		"root hash of zeros":   image.CommandLine{Config: digest(1), Root: image.Verity{DataBlocks: 1}}.String(),
		"config is zeros":      image.CommandLine{Root: image.Verity{RootHash: digest(1), DataBlocks: 1}}.String(),
		"no blocks":            image.CommandLine{Config: digest(1), Root: image.Verity{RootHash: digest(1)}}.String(),
		"too many blocks":      image.CommandLine{Config: digest(1), Root: image.Verity{RootHash: digest(1), DataBlocks: 1 << 62}}.String(),
		"less than no blocks":  strings.Replace(text, ":4096", ":-4096", 1),
		"a plus sign":          strings.Replace(text, ":4096", ":+4096", 1),
		"a leading zero":       strings.Replace(text, ":4096", ":04096", 1),
		"blocks in hex":        strings.Replace(text, ":4096", ":0x1000", 1),
		"blocks left out":      strings.Replace(text, ":4096", "", 1),
		"blocks empty":         strings.Replace(text, ":4096", ":", 1),
		"blocks and more":      text + ":1",
		"root hash short":      strings.Replace(text, "2:4096", ":4096", 1),
		"root hash long":       strings.Replace(text, ":4096", "2:4096", 1),
		"no root hash":         strings.Replace(text, strings.Repeat("2", 64), "", 1),
		"copied root of old":   strings.Replace(text, "root=verity:", "root=sha256-parts:", 1),
		"other hash":           strings.Replace(text, "config=sha256:", "config=sha384:", 1),
		"upper case":           strings.Replace(text, "kettle.root", "kettle.Root", 1),
		"blocks out of bounds": strings.Replace(text, ":4096", ":9223372036854775808", 1),
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

func FuzzParseCommandLine(f *testing.F) {
	f.Add(image.CommandLine{Config: digest(1), Root: image.Verity{RootHash: digest(2), DataBlocks: 3}}.String())
	f.Add(image.CommandLine{Config: digest(1), Root: image.Verity{RootHash: digest(2), DataBlocks: 3}, Debug: true}.String())
	f.Fuzz(func(t *testing.T, text string) {
		c, err := image.ParseCommandLine(text)
		if err == nil && c.String() != strings.TrimSuffix(text, "\n") {
			t.Fatalf("two spellings: %q and %q", text, c.String())
		}
	})
}
