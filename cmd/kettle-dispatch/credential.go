// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/github"
)

// maxCredential bounds the credential's file in bytes.
const maxCredential = 32 << 10

// readCredential reads the operator's credential, as text for the machine and parsed for this program. No message ever
// repeats a part of it.
func readCredential(path string) (secret.String, github.Credential, error) {
	text, err := readPrivate(path)
	if err != nil {
		return secret.String{}, github.Credential{}, cli.Usagef("--credential: %w", err)
	}
	credential, err := github.ParseCredential(text)
	if err != nil {
		return secret.String{}, github.Credential{}, cli.Usagef("--credential: %w", err)
	}
	return text, credential, nil
}

// readPrivate reads a file that only its owner can read.
func readPrivate(path string) (secret.String, error) {
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
		return secret.String{}, fmt.Errorf("others can read %s (mode %04o): run chmod 600 on it, and replace the credential if they have", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(file, maxCredential+1))
	if err != nil {
		return secret.String{}, err
	}
	if len(data) > maxCredential {
		return secret.String{}, fmt.Errorf("%s has more than %d bytes", path, maxCredential)
	}
	return secret.New(strings.TrimSpace(string(data))), nil
}
