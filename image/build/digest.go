// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/kettle/attest/image"
)

func sha256sum(data []byte) image.SHA256 { return sha256.Sum256(data) }

// RootDigest gives the digest of a root image for the command line, see [image.RootDigest].
func RootDigest(path string) (digest image.SHA256, err error) {
	in, err := os.Open(path) //nolint:gosec // the caller's file.
	if err != nil {
		return digest, fmt.Errorf("hashing the root image: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	var parts []image.SHA256
	var size int64
	for {
		h := sha256.New()
		n, err := io.CopyN(h, in, image.RootPart)
		if err != nil && !errors.Is(err, io.EOF) {
			return digest, fmt.Errorf("hashing the root image: %w", err)
		}
		if n == 0 {
			return image.RootDigest(size, parts), nil
		}
		size += n
		parts = append(parts, image.SHA256(h.Sum(nil)))
	}
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
