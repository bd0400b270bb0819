// SPDX-License-Identifier: Apache-2.0

package verity_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kettle/attest/image/verity"
)

// pattern gives that many different blocks.
func pattern(blocks int) []byte {
	data := make([]byte, 0, blocks*verity.BlockSize)
	for i := range blocks {
		data = append(data, bytes.Repeat([]byte{byte(i), byte(i >> 8), 'k', 'e'}, verity.BlockSize/4)...)
	}
	return data
}

func build(t *testing.T, data []byte) ([]byte, [32]byte) {
	t.Helper()
	tree, root, err := verity.Build(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return tree, root
}

// sizes lie around the bounds of one, two and three levels, and of what a worker reads at once.
var sizes = []int{1, 2, 127, 128, 129, 1024, 1025, 128 * 128, 128*128 + 1}

// TestGolden fixes root hashes and digests of trees. The format is the kernel's: they never change.
func TestGolden(t *testing.T) {
	t.Parallel()
	want := map[int]string{
		1:     "224f8575373f8b1a8709edf28f952e1521261abfa519098006c6040e630e7d62 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		2:     "2fca8724f1fff4d96a02e14d5f513521f4e453c32357f44cfd7563413f836381 2fca8724f1fff4d96a02e14d5f513521f4e453c32357f44cfd7563413f836381",
		129:   "a9e62cde35dbd1c13353d8c36fc41bbe92f8bc65f4467cbb4d30dfca9f832222 cf39b2f156e79d16f1044e1a003080d68892f27f8178b3540b7c560b302b9f53",
		16385: "f7fc77e649bda33de0bd09da04c14d64a563aeec4d0e42db4b6cbb80a5eee332 18e0d27d2a51ddc20dbf7b62a17206acb4f7d9f90c719635764549d7ea24053f",
	}
	for blocks, golden := range want {
		tree, root := build(t, pattern(blocks))
		digest := sha256.Sum256(tree)
		if got := hex.EncodeToString(root[:]) + " " + hex.EncodeToString(digest[:]); got != golden {
			t.Errorf("%d blocks: want %s, got %s", blocks, golden, got)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for blocks, want := range map[int64]int64{-1: 0, 0: 0, 1: 0, 2: 1, 128: 1, 129: 3, 128 * 128: 129, 128*128 + 1: 129 + 1 + 2, verity.MaxBlocks + 1: 0} {
		if got := verity.TreeBlocks(blocks); got != want {
			t.Errorf("%d blocks: want a tree of %d, got %d", blocks, want, got)
		}
	}
	for _, n := range []int64{1, 2, 127, 128, 129, 16384, 16385, 1 << 21, 1<<21 + 12345} {
		if got, err := verity.DataBlocks(n + verity.TreeBlocks(n)); err != nil || got != n {
			t.Errorf("want %d, got %d, %v", n, got, err)
		}
	}
	for _, all := range []int64{-1, 0, 2, 130, 131, verity.MaxBlocks + 1} {
		if got, err := verity.DataBlocks(all); err == nil {
			t.Errorf("%d blocks were split into %d and a tree", all, got)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{-4096, 0, 1, 4095, 4097} {
		if _, _, err := verity.Build(t.Context(), bytes.NewReader(pattern(2)), size); err == nil {
			t.Errorf("%d bytes were taken", size)
		}
	}
	if _, _, err := verity.Build(t.Context(), bytes.NewReader(pattern(2)), 3*verity.BlockSize); err == nil {
		t.Error("data that ends early was taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := verity.Build(ctx, bytes.NewReader(pattern(2)), 2*verity.BlockSize); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, blocks := range sizes {
		data := pattern(blocks)
		tree, root := build(t, data)
		for _, index := range []int{0, blocks / 2, blocks - 1} {
			block := data[index*verity.BlockSize:][:verity.BlockSize]
			if err := verity.Check(bytes.NewReader(tree), root, int64(blocks), int64(index), block); err != nil {
				t.Errorf("%d blocks: %v", blocks, err)
			}
		}
	}
}

// TestAttackTree changes a block, its place, the tree and the root hash, one at a time.
func TestAttackTree(t *testing.T) {
	t.Parallel()
	const blocks, index = 16385, 16384
	data := pattern(blocks)
	tree, root := build(t, data)
	block := data[index*verity.BlockSize:]
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	other := root
	other[31] ^= 1
	for name, tt := range map[string]struct {
		tree   []byte
		root   [32]byte
		blocks int64
		index  int64
		block  []byte
		is     error
	}{
		"a bit of the block":         {tree, root, blocks, index, flip(block, 4095), verity.ErrMismatch},
		"another place":              {tree, root, blocks, 0, block, verity.ErrMismatch},
		"another root hash":          {tree, other, blocks, index, block, verity.ErrMismatch},
		"the highest level":          {flip(tree, 0), root, blocks, index, block, verity.ErrMismatch},
		"what is left of a level":    {flip(tree, 4095), root, blocks, index, block, verity.ErrMismatch},
		"the middle level":           {flip(tree, 2*4096+4095), root, blocks, index, block, verity.ErrMismatch},
		"the lowest level":           {flip(tree, len(tree)-4096), root, blocks, index, block, verity.ErrMismatch},
		"fewer blocks":               {tree, root, 129, 128, block, verity.ErrMismatch},
		"a tree that ends early":     {tree[:4096], root, blocks, index, block, nil},
		"no tree":                    {nil, root, blocks, index, block, nil},
		"no blocks":                  {tree, root, 0, 0, block, nil},
		"too many blocks":            {tree, root, verity.MaxBlocks + 1, 0, block, nil},
		"an index behind the end":    {tree, root, blocks, blocks, block, nil},
		"an index before the start":  {tree, root, blocks, -1, block, nil},
		"a part of a block":          {tree, root, blocks, index, block[:4095], nil},
		"the block alone as a tree":  {block, root, 2, 0, block, verity.ErrMismatch},
		"a root hash of its own":     {tree, sha256.Sum256(block), blocks, index, block, verity.ErrMismatch},
		"no block but a digest of 0": {tree, [32]byte{}, 1, 0, block, verity.ErrMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := verity.Check(bytes.NewReader(tt.tree), tt.root, tt.blocks, tt.index, tt.block)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("want %v, got %v", tt.is, err)
			}
		})
	}
}

// TestVeritysetup lets cryptsetup's own program verify what this package made.
func TestVeritysetup(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("veritysetup")
	if err != nil {
		if tool = "/usr/sbin/veritysetup"; !exists(tool) {
			t.Skip("this machine has no veritysetup (package cryptsetup-bin)")
		}
	}
	for _, blocks := range sizes {
		t.Run(fmt.Sprint(blocks), func(t *testing.T) {
			t.Parallel()
			data := pattern(blocks)
			tree, root := build(t, data)
			path := filepath.Join(t.TempDir(), "device")
			verify := func(content []byte) ([]byte, error) {
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				return exec.CommandContext(t.Context(), tool, "verify", "--no-superblock", "--format=1", "--hash=sha256", "--salt=-", //nolint:gosec // the tool found above.
					"--data-block-size=4096", "--hash-block-size=4096", fmt.Sprintf("--data-blocks=%d", blocks),
					fmt.Sprintf("--hash-offset=%d", len(data)), path, path, hex.EncodeToString(root[:])).CombinedOutput()
			}
			if out, err := verify(append(data, tree...)); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			data[0] ^= 1
			if out, err := verify(append(data, tree...)); err == nil {
				t.Errorf("a flipped bit went unseen: %s", out)
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func FuzzCheck(f *testing.F) {
	data := pattern(3)
	tree, root, err := verity.Build(f.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(tree, int64(3), int64(0), data[:4096])
	f.Add(tree, int64(1), int64(0), data[:4096])
	f.Add([]byte{}, int64(1<<40), int64(7), data[:4096])
	f.Fuzz(func(t *testing.T, some []byte, blocks, index int64, block []byte) {
		err := verity.Check(bytes.NewReader(some), root, blocks, index, block)
		if err == nil && (!bytes.HasPrefix(some, tree) || blocks < 2 || blocks > 128 || index > 2 || !bytes.Equal(block, data[index*4096:][:4096])) {
			t.Fatalf("accepted block %d of %d", index, blocks)
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	data := pattern(16384)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := verity.Build(b.Context(), bytes.NewReader(data), int64(len(data))); err != nil {
			b.Fatal(err)
		}
	}
}
