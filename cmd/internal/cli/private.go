// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kettle/attest/internal/secret"
)

// maxPrivate bounds a file with a secret, in bytes.
const maxPrivate = 32 << 10

// ReadPrivate reads a text file of at most 32 KiB that only its owner can read, without space around it.
func ReadPrivate(path string) (secret.String, error) {
	file, err := os.Open(path) //nolint:gosec // the operator's own.
	if err != nil {
		return secret.String{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return secret.String{}, err
	}
	if !info.Mode().IsRegular() {
		return secret.String{}, errors.New(path + " is no regular file")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.String{}, fmt.Errorf("others can read %s (mode %04o): run chmod 600 on it, and replace what it holds if they have", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(file, maxPrivate+1))
	if err != nil {
		return secret.String{}, err
	}
	if len(data) > maxPrivate {
		return secret.String{}, fmt.Errorf("%s has more than %d bytes", path, maxPrivate)
	}
	return secret.New(strings.TrimSpace(string(data))), nil
}
