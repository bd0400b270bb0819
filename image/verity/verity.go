// SPDX-License-Identifier: Apache-2.0

// Package verity makes and checks the hash tree of a dm-verity device, and nothing else: no device, no file system.
//
// The format is the kernel's (Documentation/admin-guide/device-mapper/verity.rst), version 1, with every choice made: SHA-256,
// data and hash blocks of 4096 bytes, no salt, no superblock. A root hash and a number of blocks are then all there is to know;
// nothing about the tree has to be believed from where it is stored.
//
// It guarantees that a block that [Check] accepts is the block of that index in the one tree with that root hash, and that
// [Build] gives one tree for one input. It trusts the caller's root hash and number of blocks. It does not trust data or tree.
package verity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	// BlockSize is the size of data blocks and of hash blocks, in bytes.
	BlockSize = 4096
	// MaxBlocks is the largest number of data blocks: their bytes, and those of the tree, can be counted in 63 bits.
	MaxBlocks = math.MaxInt64 / BlockSize / 2

	fanout = BlockSize / sha256.Size
)

// ErrMismatch says that a block is not the one that the root hash stands for.
var ErrMismatch = errors.New("block does not belong to the root hash")

// levels gives the number of blocks of each level of the tree, the lowest first. A single data block has no tree: its
// digest is the root hash.
func levels(dataBlocks int64) []int64 {
	var counts []int64
	for n := dataBlocks; n > 1; {
		n = (n + fanout - 1) / fanout
		counts = append(counts, n)
	}
	return counts
}

// TreeBlocks gives the size of the tree, in blocks, for that many data blocks. Out of 1 to [MaxBlocks] it is 0.
func TreeBlocks(dataBlocks int64) int64 {
	if dataBlocks < 1 || dataBlocks > MaxBlocks {
		return 0
	}
	var sum int64
	for _, n := range levels(dataBlocks) {
		sum += n
	}
	return sum
}

// DataBlocks gives the one number of data blocks that, with its tree, fills that many blocks. There may be none.
func DataBlocks(all int64) (int64, error) {
	if all < 1 || all > MaxBlocks {
		return 0, fmt.Errorf("splitting data from tree: want 1 to %d blocks, got %d", int64(MaxBlocks), all)
	}
	low, high := int64(1), all // n + TreeBlocks(n) grows with n
	for low < high {
		if middle := low + (high-low)/2; middle+TreeBlocks(middle) < all {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low+TreeBlocks(low) != all {
		return 0, fmt.Errorf("splitting data from tree: no data and its tree have %d blocks together", all)
	}
	return low, nil
}

// Check demands that block is the data block of that index under the root hash. tree is the tree alone, its first byte at
// offset 0, as [Build] writes it. Another block, a changed tree and another tree match [ErrMismatch].
func Check(tree io.ReaderAt, root [sha256.Size]byte, dataBlocks, index int64, block []byte) error {
	if dataBlocks < 1 || dataBlocks > MaxBlocks || index < 0 || index >= dataBlocks || len(block) != BlockSize {
		return fmt.Errorf("checking block %d of %d: want an index within the data and %d bytes, got %d", index, dataBlocks, BlockSize, len(block))
	}
	counts := levels(dataBlocks)
	want, start := root, int64(0)
	node := make([]byte, BlockSize)
	for level := len(counts) - 1; level >= 0; level-- {
		below := index // of the block under this node
		for range level {
			below /= fanout
		}
		if _, err := tree.ReadAt(node, (start+below/fanout)*BlockSize); err != nil {
			return fmt.Errorf("checking block %d: reading the hash tree: %w", index, err)
		}
		if got := sha256.Sum256(node); got != want {
			return fmt.Errorf("checking block %d: level %d of the hash tree: want sha256:%x, got sha256:%x: %w", index, level, want, got, ErrMismatch)
		}
		want = [sha256.Size]byte(node[below%fanout*sha256.Size:][:sha256.Size])
		start += counts[level]
	}
	if got := sha256.Sum256(block); got != want {
		return fmt.Errorf("checking block %d: want sha256:%x, got sha256:%x: %w", index, want, got, ErrMismatch)
	}
	return nil
}
