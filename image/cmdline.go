// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/kettle/attest/image/verity"
)

// Words of every command line. Each is there for a reason:
//
//   - panic=-1 oops=panic: a kernel that stumbles reboots, and the launcher runs without reboot
//   - lockdown=integrity: no unsigned module, no kexec of unsigned kernels, no writes to the kernel by root
//   - slab_nomerge: objects of different kinds do not share the kernel's pages, so that an overflow reaches fewer of them
//   - efi=noruntime: variables that the host can write are not read
//   - random.trust_bootloader=off random.trust_cpu=on: the host's seed is not credited
//   - no_timer_check: an emulated timer that is late on a busy host is not broken
//   - sysrq_always_enabled is absent and kernel.sysrq is set to 0 by PID 1
const fixedWords = "panic=-1 oops=panic lockdown=integrity slab_nomerge efi=noruntime random.trust_bootloader=off random.trust_cpu=on no_timer_check"

// Where the kernel's messages go. In production they go to no port that the host reads or types into: kettled writes its
// one sentence to the serial line itself. A debug image shows them, and says in its measurement that it does.
const (
	productionWords = "console=tty0 quiet"
	debugWords      = "console=ttyS0 kettle.debug"
)

const (
	configWord = "kettle.config=sha256:"
	rootWord   = "kettle.root=verity:"
)

// Verity names a root file system by its hash tree, as package image/verity makes it: the data, and the tree directly behind
// it.
type Verity struct {
	RootHash   SHA256 `json:"rootHash"`
	DataBlocks int64  `json:"dataBlocks"` // of 4096 bytes, more than 0
}

// Validate refuses what names no root file system.
func (v Verity) Validate() error {
	if v.RootHash == (SHA256{}) {
		return errors.New("root hash: absent")
	}
	if v.DataBlocks < 1 || v.DataBlocks > verity.MaxBlocks {
		return fmt.Errorf("data blocks: want 1 to %d, got %d", int64(verity.MaxBlocks), v.DataBlocks)
	}
	return nil
}

// CommandLine is the measured kernel command line. It has exactly one spelling for each value, see [CommandLine.String].
type CommandLine struct {
	Config SHA256 // digest of /etc/kettle/config.yaml in the initrd
	Root   Verity // the root file system
	Debug  bool   // a debug image: the kernel speaks on the serial line. Whoever appraises an environment refuses it.
}

// fixed gives the words that come before the values.
func (c CommandLine) fixed() []string {
	if c.Debug {
		return strings.Split(debugWords+" "+fixedWords, " ")
	}
	return strings.Split(productionWords+" "+fixedWords, " ")
}

// String gives the exact bytes that are measured and handed to the kernel, without a final NUL or newline.
func (c CommandLine) String() string {
	root := rootWord + c.Root.RootHash.String() + ":" + strconv.FormatInt(c.Root.DataBlocks, 10)
	return strings.Join(append(c.fixed(), configWord+c.Config.String(), root), " ")
}

// ParseCommandLine reads what [CommandLine.String] writes and nothing else: a word more, less, moved or repeated is an
// error, and so are a digest of zeros and a root without blocks. One final newline, as in /proc/cmdline, is allowed.
func ParseCommandLine(text string) (CommandLine, error) {
	words := strings.Split(strings.TrimSuffix(text, "\n"), " ")
	c := CommandLine{Debug: strings.HasPrefix(text, debugWords+" ")}
	fixed := c.fixed()
	if len(words) != len(fixed)+2 {
		return CommandLine{}, fmt.Errorf("reading the kernel command line: want %d words, got %d", len(fixed)+2, len(words))
	}
	for i, want := range fixed {
		if words[i] != want {
			return CommandLine{}, fmt.Errorf("reading the kernel command line: word %d: want %q, got %.100q", i+1, want, words[i])
		}
	}
	var err error
	if c.Config, err = digestWord(words[len(fixed)], configWord); err != nil {
		return CommandLine{}, err
	}
	if c.Root, err = verityWord(words[len(fixed)+1]); err != nil {
		return CommandLine{}, err
	}
	return c, nil
}

// verityWord reads a root hash and a decimal number without sign or leading zeros.
func verityWord(word string) (Verity, error) {
	digest, count, _ := strings.Cut(strings.TrimPrefix(word, rootWord), ":")
	hash, err := digestWord(strings.TrimSuffix(word, ":"+count), rootWord)
	if err != nil {
		return Verity{}, err
	}
	blocks, err := strconv.ParseInt(count, 10, 64)
	if err != nil || word != rootWord+digest+":"+strconv.FormatInt(blocks, 10) {
		return Verity{}, fmt.Errorf("reading the kernel command line: want %s<root hash>:<data blocks>, got %.120q", rootWord, word)
	}
	v := Verity{RootHash: hash, DataBlocks: blocks}
	if err := v.Validate(); err != nil {
		return Verity{}, fmt.Errorf("reading the kernel command line: %s: %w", rootWord, err)
	}
	return v, nil
}

func digestWord(word, prefix string) (SHA256, error) {
	text, ok := strings.CutPrefix(word, prefix)
	if !ok {
		return SHA256{}, fmt.Errorf("reading the kernel command line: want %s<digest>, got %.100q", prefix, word)
	}
	digest, err := parseDigest(text)
	if err != nil {
		return SHA256{}, fmt.Errorf("reading the kernel command line: %s: %w", prefix, err)
	}
	if digest == (SHA256{}) {
		return SHA256{}, fmt.Errorf("reading the kernel command line: %s: a digest of zeros", prefix)
	}
	return digest, nil
}
