// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/runner/channel"
)

// onDisk puts the machine's root and a bundle onto a disk with partitions, in place of the bare root.
func (m *machine) onDisk(t *testing.T, bundle string) {
	t.Helper()
	uki := m.path("uki")
	must(t, os.WriteFile(uki, []byte("MZ: no machine of these tests starts from it"), 0o600))
	path := m.path("disk")
	layout, err := disk.Create(t.Context(), path, disk.Source{UKI: uki, Root: m.config.Root})
	must(t, err)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	must(t, disk.PutBundle(file, layout, []byte(bundle)))
	must(t, file.Close())
	m.config.Root, m.config.Disk = "", path
}

// outcome is the guest's last message.
func outcome(messages []channel.Message) string {
	for _, message := range messages {
		if end, ok := message.(channel.End); ok {
			return end.Outcome
		}
	}
	return "none"
}

// TestDisk starts from the image's disk: the root and the bundle are found by the names of their partitions.
func TestDisk(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.onDisk(t, "{\"of\":\"this image\"}\n")
	messages, console, _ := m.run(t, "bundle")
	wantOnlySentence(t, console, "kettled: the test guest is done; powering off")
	if got := outcome(messages); got != "\"{\\\"of\\\":\\\"this image\\\"}\\n\"" {
		t.Errorf("got %s", got)
	}
}

// TestAttackTwoRoots adds a second disk with the same partitions.
func TestAttackTwoRoots(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.onDisk(t, "")
	data, err := os.ReadFile(m.config.Disk)
	must(t, err)
	m.config.Scratch = m.path("second")
	must(t, os.WriteFile(m.config.Scratch, data, 0o600))
	messages, console, _ := m.run(t, "bundle")
	if len(messages) > 0 {
		t.Errorf("a supervisor spoke: %v", messages)
	}
	wantOnlySentence(t, console, "kettled: boot stopped: finding the disk kettle-root: there are 2 of that name")
}

// scratchSize is more than the guest's file system and its log take.
const scratchSize = 512 << 20

// withScratch gives the machine an empty disk for the job.
func (m *machine) withScratch(t *testing.T) string {
	t.Helper()
	path := m.path("scratch")
	must(t, os.WriteFile(path, []byte("what was there before"), 0o600))
	must(t, os.Truncate(path, scratchSize))
	m.config.Scratch = path
	return path
}

// written gives the blocks of the job's disk that are not zeros, as the host finds them, and their offsets.
func written(t *testing.T, path string) (blocks []byte, offsets []int64) {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	defer func() { _ = file.Close() }()
	block := make([]byte, 4096)
	for at := int64(0); ; at += int64(len(block)) {
		if _, err := io.ReadFull(file, block); err != nil {
			break
		}
		if !bytes.Equal(block, make([]byte, len(block))) {
			blocks, offsets = append(blocks, block...), append(offsets, at)
		}
	}
	return blocks, offsets
}

// goOn writes the word that the guest waits for to the disk's last block, where nothing else is.
func goOn(t *testing.T, path, word string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = file.WriteAt([]byte(word), scratchSize-4096)
	must(t, errors.Join(err, file.Close()))
}

// TestAttackReadScratch looks at the job's disk from outside: what a job wrote is nowhere, and what is there is noise.
func TestAttackReadScratch(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	path := m.withScratch(t)
	messages, console, _ := m.run(t, "sealed")
	wantOnlySentence(t, console, "kettled: the test guest is done; powering off")
	if got := outcome(messages); !strings.HasPrefix(got, "kept") {
		t.Fatalf("got %s", got)
	}
	t.Log(outcome(messages))
	blocks, _ := written(t, path)
	if len(blocks) < 4<<20 {
		t.Fatalf("the host sees %d bytes", len(blocks))
	}
	for _, plain := range []string{"a secret of the job", "XFSB\x00\x00\x10\x00", "what was there before"} {
		if at := bytes.Index(blocks, []byte(plain)); at >= 0 {
			t.Errorf("the host reads %q at %d: %q", plain, at, blocks[at:at+40])
		}
	}
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestSpeed)
	must(t, err)
	_, err = w.Write(blocks)
	must(t, err)
	must(t, w.Close())
	if ratio := float64(packed.Len()) / float64(len(blocks)); ratio < 0.98 {
		t.Errorf("what the host sees can be compressed to %.3f", ratio)
	}
}
