// SPDX-License-Identifier: Apache-2.0

// Package image describes one build image as data: its files by digest and size, its kernel command line, what is in it,
// and what it was made from.
//
// It guarantees that a [Manifest] which was parsed is complete, strict and free of unknown and repeated fields, and that a
// [CommandLine] has exactly one spelling. It trusts nothing and touches no file: whether the files beside a manifest
// are the ones that it names is for the caller to check, and whether anybody should accept them is policy.
package image

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// SHA256 is a SHA-256 digest, written as 64 lower-case hexadecimal digits.
type SHA256 [32]byte

// String gives the digest as lower-case hexadecimal.
func (d SHA256) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (d SHA256) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Only 64 lower-case digits are accepted.
func (d *SHA256) UnmarshalText(text []byte) error {
	digest, err := parseDigest(string(text))
	if err != nil {
		return err
	}
	*d = digest
	return nil
}

func parseDigest(text string) (SHA256, error) {
	var digest SHA256
	if len(text) != hex.EncodedLen(len(digest)) || strings.ToLower(text) != text {
		return SHA256{}, fmt.Errorf("reading a SHA-256 digest: want 64 lower-case hexadecimal digits, got %d characters", len(text))
	}
	if _, err := hex.Decode(digest[:], []byte(text)); err != nil {
		return SHA256{}, fmt.Errorf("reading a SHA-256 digest: %w", err)
	}
	return digest, nil
}
