// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"os"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/verity"
	"github.com/kettle/attest/runner/channel"
)

// flip changes one bit of a file, in place.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	b := make([]byte, 1)
	_, err = file.ReadAt(b, at)
	must(t, err)
	b[0] ^= 1
	_, err = file.WriteAt(b, at)
	must(t, err)
	must(t, file.Close())
}

// TestAttackTampering starts what is not what the command line says. Each ends in one sentence and power-off, before any
// message of a supervisor.
func TestAttackTampering(t *testing.T) {
	t.Parallel()
	const otherRoot = "kettled: boot stopped: the root image is not the one on the measured command line"
	tests := map[string]struct {
		tamper func(*testing.T, *machine)
		want   string
		later  bool // at night: another row stops at the same check
	}{
		"a flipped bit at the start of the root": {
			func(t *testing.T, m *machine) { flip(t, m.config.Root, 1024) }, otherRoot, false,
		},
		"a flipped bit of the hash tree": {
			func(t *testing.T, m *machine) { flip(t, m.config.Root, m.line.Root.DataBlocks*verity.BlockSize) }, otherRoot, true,
		},
		"another root of the same name": {
			func(t *testing.T, m *machine) { m.makeRoot(t, "another root\n") }, otherRoot, true,
		},
		"the root hash of another image": {
			func(_ *testing.T, m *machine) { m.line.Root.RootHash = image.SHA256{1} }, otherRoot, true,
		},
		"another configuration": {
			func(t *testing.T, m *machine) { m.makeInitrd(t, "kind: other\n") },
			"kettled: boot stopped: the configuration is not the one on the measured command line", false,
		},
	}
	for name, tt := range tests {
		if tt.later && !nightly {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			tt.tamper(t, m)
			messages, console, _ := m.run(t, "everything")
			if len(messages) > 0 {
				t.Errorf("a supervisor spoke: %v", messages)
			}
			wantOnlySentence(t, console, tt.want)
		})
	}
}

// TestAttackChangedBlock changes what is read after the root was mounted. The kernel stops at the first such block: the reader
// gets neither it nor an error that it could live with. A debug image says so on the console, a production image says nothing.
func TestAttackChangedBlock(t *testing.T) {
	t.Parallel()
	block := func(m *machine) int64 { return m.line.Root.DataBlocks / 2 * verity.BlockSize }
	lowest := func(m *machine) int64 { // the tree's second level, where the digest of that block stands
		return (m.line.Root.DataBlocks + 1 + m.line.Root.DataBlocks/2/128) * verity.BlockSize
	}
	tests := map[string]struct {
		debug, running bool
		at             func(*machine) int64
		later          bool // at night
	}{
		"before the start":                 {true, false, block, true},
		"while it runs":                    {true, true, block, false},
		"while it runs, without a console": {false, true, block, true},
		"the hash tree":                    {true, false, lowest, true},
	}
	for name, tt := range tests {
		if tt.later && !nightly {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			m.line.Debug = tt.debug
			if tt.running {
				m.heard = func(_ *channel.Launcher, message channel.Message) {
					if _, hello := message.(channel.Hello); hello {
						flip(t, m.config.Root, tt.at(m))
					}
				}
			} else {
				flip(t, m.config.Root, tt.at(m))
			}
			messages, console, _ := m.run(t, "read")
			for _, message := range messages {
				if end, ok := message.(channel.End); ok {
					t.Errorf("the guest went on: %s", end.Outcome)
				}
			}
			stopped := strings.Contains(console, "is corrupted") && strings.Contains(console, "Kernel panic")
			if tt.debug && !stopped || !tt.debug && strings.TrimSpace(console) != "" || strings.Contains(console, "kettled: ") {
				t.Error("the kernel did not stop, or not at once")
			}
		})
	}
}

// TestUnchangedBlocks is what [TestAttackChangedBlock] does, without the attack.
func TestUnchangedBlocks(t *testing.T) {
	t.Parallel()
	messages, console, _ := newMachine(t).run(t, "read")
	wantOnlySentence(t, console, "kettled: the test guest is done; powering off")
	if end, ok := messages[len(messages)-1].(channel.End); !ok || end.Outcome != "12582912 bytes; verity V" {
		t.Errorf("got %v", messages)
	}
}
