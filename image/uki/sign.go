// SPDX-License-Identifier: Apache-2.0

package uki

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kettle/attest/image/measure/pe"
)

// ErrChanged is the answer to a signed image that is another one than the image that was to be signed.
var ErrChanged = errors.New("the signed image has another Authenticode digest")

// Keys names the operator's key for Secure Boot and its certificate, both as PEM files.
type Keys struct {
	Key         string // path of the private key, without a passphrase; it is opened by sbsign alone
	Certificate string // path of the certificate that firmware has in its db
}

// Sign signs an image for Secure Boot and gives the signed one: the same bytes, but for the header's checksum and the entry
// of the certificate table, and the signature behind them. Its Authenticode digest, which PCR 4 is made of, is checked to be
// the unsigned one's, and the signature to be the certificate's.
//
// It runs sbsign and sbverify (sbsigntool).
func Sign(ctx context.Context, image []byte, k Keys) ([]byte, error) {
	signed, err := sign(ctx, image, k)
	if err != nil {
		return nil, fmt.Errorf("signing a UKI: %w", err)
	}
	return signed, nil
}

func sign(ctx context.Context, image []byte, k Keys) (signed []byte, err error) {
	before, err := digest(image)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kettle-sign-")
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the path.
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	in, out := filepath.Join(dir, "unsigned.efi"), filepath.Join(dir, "signed.efi")
	if err := os.WriteFile(in, image, 0o600); err != nil {
		return nil, err //nolint:wrapcheck // it names the path.
	}
	if err := run(ctx, "sbsign", "--key", k.Key, "--cert", k.Certificate, "--output", out, in); err != nil {
		return nil, err
	}
	if err := run(ctx, "sbverify", "--cert", k.Certificate, out); err != nil {
		return nil, err
	}
	if signed, err = os.ReadFile(out); err != nil { //nolint:gosec // our own file.
		return nil, err //nolint:wrapcheck // it names the path.
	}
	after, err := digest(signed)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(before, after) {
		return nil, ErrChanged
	}
	return signed, nil
}

func digest(image []byte) ([]byte, error) {
	m, err := pe.Parse(image)
	if err != nil {
		return nil, err //nolint:wrapcheck // its caller says what it was at.
	}
	return m.Authenticode(sha256.New()), nil
}

// run runs a program. On failure the error holds the end of what it said.
func run(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // our own arguments.
	cmd.WaitDelay = 5 * time.Second
	var complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &complaint, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		said := strings.TrimSpace(complaint.String())
		const most = 1000
		return fmt.Errorf("running %s: %w: %q", name, err, said[max(0, len(said)-most):])
	}
	return nil
}
