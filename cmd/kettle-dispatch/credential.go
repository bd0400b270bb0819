// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/github"
)

// readCredential reads the operator's credential, as text for the machine and parsed for this program. No message ever
// repeats a part of it.
func readCredential(path string) (secret.String, github.Credential, error) {
	text, err := cli.ReadPrivate(path)
	if err != nil {
		return secret.String{}, github.Credential{}, cli.Usagef("--credential: %w", err)
	}
	credential, err := github.ParseCredential(text)
	if err != nil {
		return secret.String{}, github.Credential{}, cli.Usagef("--credential: %w", err)
	}
	return text, credential, nil
}
