// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/cmd/internal/cli"
)

// conformanceFlags are the flags as written.
type conformanceFlags struct {
	bundle, identity, issuer, key, trustedRoot string
	staging                                    bool
}

// conformanceCommand speaks the protocol of Sigstore's conformance suite, which runs every client of Sigstore over the
// same bundles: https://github.com/sigstore/sigstore-conformance/blob/main/docs/cli_protocol.md. It is hidden, because
// nobody verifies Kettle's artifacts with it.
func (a *app) conformanceCommand() *cobra.Command {
	group := &cobra.Command{Use: "conformance", Short: "Answer Sigstore's conformance suite", Hidden: true}
	var f conformanceFlags
	cmd := &cobra.Command{
		Use:   "verify-bundle --bundle FILE --trusted-root FILE FILE_OR_DIGEST",
		Short: "Verify one Sigstore bundle of any client",
		Args:  cobra.ExactArgs(1),
		RunE:  a.Does(func(_ *cobra.Command, args []string) error { return verifyBundle(f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.bundle, "bundle", "", "the bundle (required)")
	flags.StringVar(&f.identity, "certificate-identity", "", "the certificate's whole subject alternative name")
	flags.StringVar(&f.issuer, "certificate-oidc-issuer", "", "the certificate's whole OIDC issuer")
	flags.StringVar(&f.key, "key", "", "PEM file of the public key, in place of identity and issuer")
	flags.StringVar(&f.trustedRoot, "trusted-root", "", "trusted_root.json of the Sigstore instance (required)")
	flags.BoolVar(&f.staging, "staging", false, "part of the protocol; --trusted-root alone says which instance is believed")
	group.AddCommand(cmd)
	return group
}

// verifyBundle says nothing when the bundle is right.
func verifyBundle(f conformanceFlags, target string) error {
	switch {
	case f.bundle == "":
		return cli.Usagef("--bundle is required")
	case f.trustedRoot == "":
		return cli.Usagef("--trusted-root is required: this program ships no root and fetches none; give the trusted_root.json of the instance that signed")
	}
	text, err := readBounded(f.trustedRoot, bundle.MaxTrust)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	trust, err := bundle.ParseTrust(text)
	if err != nil {
		return cli.Usagef("%s: %w", f.trustedRoot, err)
	}
	want := bundle.Artifact{Identity: f.identity, Issuer: f.issuer}
	if f.key != "" {
		text, err := readBounded(f.key, 64<<10)
		if err != nil {
			return &cli.UsageError{Err: err}
		}
		if want.Key, err = bundle.LoadPublicKey(text); err != nil {
			return cli.Usagef("%s: %w", f.key, err)
		}
	}
	if want.SHA256, err = digestOf(target); err != nil {
		return err
	}
	if want.SHA256 == nil {
		file, err := openRegular(target)
		if err != nil {
			return err
		}
		defer file.Close()
		want.Content = file
	}
	line, err := readBounded(f.bundle, bundle.MaxLine)
	if err != nil {
		return err
	}
	if err = trust.VerifyArtifact(line, want); errors.Is(err, bundle.ErrArtifact) {
		return cli.Usagef("give --key, or --certificate-identity and --certificate-oidc-issuer")
	}
	return err
}

// digestOf reads sha256: and 64 hexadecimal digits. Whatever is not that, or is there as a file, is a path: nil.
func digestOf(target string) ([]byte, error) {
	text, ok := strings.CutPrefix(target, "sha256:")
	var digest [32]byte
	if !ok || len(text) != hex.EncodedLen(len(digest)) {
		return nil, nil
	}
	if _, err := hex.Decode(digest[:], []byte(text)); err != nil {
		return nil, nil //nolint:nilerr // the protocol says that it is then the path of a file.
	}
	if _, err := os.Lstat(target); !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return digest[:], nil
}
