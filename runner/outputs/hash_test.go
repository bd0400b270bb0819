// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/kettle/attest/runner/outputs"
)

// A sparse file of 4 GiB costs time, never memory.
func TestSparseFileInConstantMemory(t *testing.T) { //nolint:paralleltest // counts the process's allocations.
	if testing.Short() {
		t.Skip("hashes 4 GiB")
	}
	root := t.TempDir()
	if dir, err := os.MkdirTemp("/dev/shm", "kettle-outputs-"); err == nil { //nolint:usetesting // memory, like the sandbox's scratch.
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		root = dir
	}
	ws := filepath.Join(root, workspace)
	write(t, filepath.Join(ws, "disk.img"), "")
	if err := os.Truncate(filepath.Join(ws, "disk.img"), 4<<30); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got, err := collect(t.Context(), root, patterns("disk.img"), limits())
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Fatal(err)
	}
	// SHA-256 of 2^32 zero bytes: head -c 4294967296 /dev/zero | sha256sum.
	const want = "8479e43911dc45e89f934fe48d01297e16f51d17aa561d4d1c216b1ae0fcddca"
	if fmt.Sprintf("%x", got[0].SHA256) != want || got[0].Size != 4<<30 {
		t.Errorf("got %x of %d bytes", got[0].SHA256, got[0].Size)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("allocated %d bytes", used)
	}
}

const benchSize = 512 << 20

func benchFile(b *testing.B) (root, ws string) {
	root, ws = sandbox(b, map[string]string{"f": ""})
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	f, err := os.Create(filepath.Join(ws, "f"))
	if err != nil {
		b.Fatal(err)
	}
	for range benchSize >> 20 {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchSize)
	return root, ws
}

// BenchmarkHash hashes one file of 512 MiB from the page cache; compare it with BenchmarkOpenSSL.
func BenchmarkHash(b *testing.B) {
	root, _ := benchFile(b)
	for b.Loop() {
		if _, err := collect(b.Context(), root, patterns("f"), limits()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenSSL is the yardstick: the same file by `openssl dgst -sha256`.
func BenchmarkOpenSSL(b *testing.B) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		b.Skip("openssl is not installed")
	}
	_, ws := benchFile(b)
	for b.Loop() {
		if err := exec.CommandContext(b.Context(), openssl, "dgst", "-sha256", filepath.Join(ws, "f")).Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkManyFiles hashes 1024 files of 1 KiB: what a file costs beyond its bytes.
func BenchmarkManyFiles(b *testing.B) {
	files := map[string]string{}
	for i := range 1024 {
		files[fmt.Sprintf("many/f%04d", i)] = fmt.Sprintf("%01024d", i)
	}
	root, _ := sandbox(b, files)
	for b.Loop() {
		if _, err := collect(b.Context(), root, patterns("many/*"), limits()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHold is what a snapshot costs while the sandbox stands still, after Settle, on XFS on a loop device: the goal is
// 200 ms. go test -run '^$' -bench Hold -benchtime 10x ./runner/outputs.
func BenchmarkHold(b *testing.B) {
	for name, files := range map[string]struct {
		count int
		mib   int
	}{"1x4GiB": {1, 4096}, "1000x1MiB": {1000, 1}} {
		b.Run(name, func(b *testing.B) {
			c, ws := snapshotsOn(b, mountXFS(b, 16<<30))
			block := make([]byte, 1<<20)
			for i := range files.count {
				f, err := os.Create(filepath.Join(ws, fmt.Sprintf("f%04d", i)))
				fatal(b, err)
				for j := range files.mib {
					block[0], block[1] = byte(i+j), byte((i+j)>>8)
					_, err := f.Write(block)
					fatal(b, err)
				}
				fatal(b, f.Close())
			}
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				fatal(b, outputs.Settle(b.Context(), ws))
				b.StartTimer()
				h, err := outputs.Hold(b.Context(), c, patterns("/home/runner/_work/widget/*"), limits())
				b.StopTimer()
				fatal(b, err)
				if !h.Snapshot() {
					b.Fatal("no snapshot")
				}
				fatal(b, h.Release())
				b.StartTimer()
			}
		})
	}
}

// BenchmarkSHA256 is the bound: the hash alone, over one buffer.
func BenchmarkSHA256(b *testing.B) {
	buf := make([]byte, 256<<10)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		sha256.Sum256(buf)
	}
}
