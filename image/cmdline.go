// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"strings"
)

// Words of the command line that never change. Each is there for a reason:
//
//   - console=ttyS0 quiet: one sentence on the console when something ends, not a boot log
//   - panic=-1 oops=panic: a kernel that stumbles reboots, and the launcher runs without reboot
//   - lockdown=integrity: no unsigned module, no kexec of unsigned kernels, no writes to the kernel by root
//   - slab_nomerge: objects of different kinds do not share the kernel's pages, so that an overflow reaches fewer of them
//   - efi=noruntime: variables that the host can write are not read
//   - random.trust_bootloader=off random.trust_cpu=on: the host's seed is not credited
//   - no_timer_check: an emulated timer that is late on a busy host is not broken
//   - sysrq_always_enabled is absent and kernel.sysrq is set to 0 by PID 1
const fixedWords = "console=ttyS0 quiet panic=-1 oops=panic lockdown=integrity slab_nomerge efi=noruntime random.trust_bootloader=off random.trust_cpu=on no_timer_check"

const (
	configWord = "kettle.config=sha256:"
	rootWord   = "kettle.root=sha256-parts:"
)

// CommandLine is the measured kernel command line. It has exactly one spelling for each value, see [CommandLine.String].
type CommandLine struct {
	Config SHA256 // digest of /etc/kettle/config.yaml in the initrd
	Root   SHA256 // digest of the root file system image, see [RootDigest]
}

// String gives the exact bytes that are measured and handed to the kernel, without a final NUL or newline.
func (c CommandLine) String() string {
	return fixedWords + " " + configWord + c.Config.String() + " " + rootWord + c.Root.String()
}

// ParseCommandLine reads what [CommandLine.String] writes and nothing else: a word more, less, moved or repeated is an
// error, and so is a digest of zeros. One final newline, as in /proc/cmdline, is allowed.
func ParseCommandLine(text string) (CommandLine, error) {
	var c CommandLine
	words := strings.Split(strings.TrimSuffix(text, "\n"), " ")
	fixed := strings.Split(fixedWords, " ")
	if len(words) != len(fixed)+2 {
		return c, fmt.Errorf("reading the kernel command line: want %d words, got %d", len(fixed)+2, len(words))
	}
	for i, want := range fixed {
		if words[i] != want {
			return c, fmt.Errorf("reading the kernel command line: word %d: want %q, got %q", i+1, want, words[i])
		}
	}
	var err error
	if c.Config, err = digestWord(words[len(fixed)], configWord); err != nil {
		return CommandLine{}, err
	}
	if c.Root, err = digestWord(words[len(fixed)+1], rootWord); err != nil {
		return CommandLine{}, err
	}
	return c, nil
}

func digestWord(word, prefix string) (SHA256, error) {
	text, ok := strings.CutPrefix(word, prefix)
	if !ok {
		return SHA256{}, fmt.Errorf("reading the kernel command line: want %s<digest>, got %q", prefix, word)
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
