// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"
)

// chunk is how many data blocks a worker reads at once.
const chunk = 1024

// Build hashes the data, whose size must be a multiple of [BlockSize] above 0, and gives its tree and root hash. The tree's
// levels stand as the kernel wants them, the highest first; what is left of a block is zeros. It takes memory for the tree, a
// 127th of the data, and hashes with all processors.
func Build(ctx context.Context, data io.ReaderAt, size int64) (tree []byte, root [sha256.Size]byte, err error) {
	if size < BlockSize || size%BlockSize != 0 || size/BlockSize > MaxBlocks {
		return nil, root, fmt.Errorf("building the hash tree: want a multiple of %d bytes, got %d", BlockSize, size)
	}
	digests, err := hashBlocks(ctx, data, size/BlockSize)
	if err != nil {
		return nil, root, fmt.Errorf("building the hash tree: %w", err)
	}
	var parts [][]byte
	for len(digests) > sha256.Size {
		level := digests
		if rest := len(level) % BlockSize; rest != 0 {
			level = append(level, make([]byte, BlockSize-rest)...)
		}
		parts = append(parts, level)
		digests = nil
		for block := range slices.Chunk(level, BlockSize) {
			d := sha256.Sum256(block)
			digests = append(digests, d[:]...)
		}
	}
	slices.Reverse(parts)
	return slices.Concat(parts...), [sha256.Size]byte(digests), nil
}

// hashBlocks gives the digests of the data's blocks, one after the other.
func hashBlocks(ctx context.Context, data io.ReaderAt, blocks int64) ([]byte, error) {
	digests := make([]byte, blocks*sha256.Size)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for first := int64(0); first < blocks; first += chunk {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(chunk, blocks-first)
			buffer := make([]byte, n*BlockSize)
			if got, err := data.ReadAt(buffer, first*BlockSize); got < len(buffer) {
				return fmt.Errorf("reading block %d: %w", first, err)
			}
			for i := range n {
				d := sha256.Sum256(buffer[i*BlockSize:][:BlockSize])
				copy(digests[(first+i)*sha256.Size:], d[:])
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return digests, nil
}
