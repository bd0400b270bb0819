// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/verity"
)

func sha256sum(data []byte) image.SHA256 { return sha256.Sum256(data) }

// SealRoot appends the hash tree to a root file system image and gives what the command line says of it.
func SealRoot(ctx context.Context, path string) (v image.Verity, err error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // the caller's file.
	if err != nil {
		return v, fmt.Errorf("sealing the root image: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return v, fmt.Errorf("sealing the root image: %w", err)
	}
	tree, root, err := verity.Build(ctx, file, size)
	if err != nil {
		return v, fmt.Errorf("sealing the root image: %w", err)
	}
	if _, err := file.Write(tree); err != nil {
		return v, fmt.Errorf("sealing the root image: %w", err)
	}
	return image.Verity{RootHash: root, DataBlocks: size / verity.BlockSize}, nil
}

// SealedRoot reads what [SealRoot] made, hashes the data again, and demands that the tree behind it is its own.
func SealedRoot(ctx context.Context, path string) (v image.Verity, err error) {
	file, err := os.Open(path) //nolint:gosec // the caller's file.
	if err != nil {
		return v, fmt.Errorf("reading the root image: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return v, fmt.Errorf("reading the root image: %w", err)
	}
	blocks, err := verity.DataBlocks(size / verity.BlockSize)
	if err != nil || size%verity.BlockSize != 0 {
		return v, fmt.Errorf("reading the root image: %d bytes are no file system with its hash tree: %w", size, err)
	}
	want, root, err := verity.Build(ctx, file, blocks*verity.BlockSize)
	if err != nil {
		return v, fmt.Errorf("reading the root image: %w", err)
	}
	got := make([]byte, len(want))
	if _, err := file.ReadAt(got, blocks*verity.BlockSize); err != nil {
		return v, fmt.Errorf("reading the root image: %w", err)
	}
	if !bytes.Equal(got, want) {
		return v, errors.New("reading the root image: the hash tree is not that of the data")
	}
	return image.Verity{RootHash: root, DataBlocks: blocks}, nil
}

// describe gives the manifest's entry of a file.
func describe(path string) (file image.File, err error) {
	in, err := os.Open(path) //nolint:gosec // a file of the image.
	if err != nil {
		return file, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	h := sha256.New()
	size, err := io.Copy(h, in)
	if err != nil {
		return file, err
	}
	return image.File{Name: filepath.Base(path), SHA256: image.SHA256(h.Sum(nil)), Size: size}, nil
}
