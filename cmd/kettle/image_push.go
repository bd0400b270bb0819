// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/image/registry"
)

// imagePushSchema is the schema of the command's JSON.
const imagePushSchema = "kettle.image-push/v1"

// registryPatience bounds all that is asked of a registry.
const registryPatience = 2 * time.Minute

// pushFlags are the flags as written.
type pushFlags struct {
	bundle, to, root string
	json             bool
}

// pushJSON is what was pushed, and what a configuration says to find it.
type pushJSON struct {
	Schema     string `json:"schema"`
	Reference  string `json:"reference"`
	Digest     string `json:"digest"` // of the artefact's manifest
	Statements int    `json:"statements"`
	Bundle     string `json:"bundle"` // image.bundle
}

func (a *app) imagePushCommand() *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push IMAGE --to oci://REGISTRY/OWNER/NAME[:TAG]",
		Short: "Put an image's bundle into an OCI registry",
		Long: `push writes the image's bundle (provenance and reference values) into an OCI registry, where machines that run the image find it.
The disk stays as it is: the bundle can be signed, or signed again, when disks have long been copied.

A machine looks where image.bundle of its measured configuration says. That is written before the image is built, so it names no
digest, and it needs no tag either: without one, bundle and machine take root- and the root hash of the image, and one
configuration serves each image that you will build.

What is pushed is public to whoever may read the repository, and a machine is nobody there: let everybody read it. The registry
decides nothing; machines and kettle image verify check the signatures. The same bundle gives the same digest. Every file of the
image is compared with image.json first.

Credentials are those of docker login (or a credential helper of Docker's configuration).`,
		Example: `  kettle image push image --to oci://ghcr.io/acme/images            # bundle: oci://ghcr.io/acme/images in every config.yaml
  kettle image push image --bundle downloaded.intoto.jsonl --to oci://registry.example:5000/images:v1 --registry-root ca.pem`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(cmd *cobra.Command, args []string) error { return a.imagePush(cmd.Context(), f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.bundle, "bundle", "", "file with the image's statements (default IMAGE/"+imageBundle+")")
	flags.StringVar(&f.to, "to", "", "where to: oci://REGISTRY/OWNER/NAME, with :TAG for one image alone (required)")
	registryRootFlag(cmd, &f.root)
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	return cmd
}

func registryRootFlag(cmd *cobra.Command, root *string) {
	cmd.Flags().StringVar(root, "registry-root", "", "PEM file of the registry's TLS authority (default: the system's)")
}

func (a *app) imagePush(ctx context.Context, f pushFlags, dir string) error {
	if f.to == "" {
		return cli.Usagef("--to is required")
	}
	to, err := registry.Parse(f.to)
	if err != nil {
		return cli.Usagef("--to: %w", err)
	}
	client, err := registryClient(f.root)
	if err != nil {
		return err
	}
	if f.bundle == "" {
		f.bundle = filepath.Join(dir, imageBundle)
	}
	text, err := readBounded(f.bundle, bundle.MaxFile)
	if err != nil {
		return cli.Usagef("--bundle: %w", err)
	}
	lines, err := bundle.Certified(text)
	if err != nil {
		return err
	}
	progress := a.io.Progress()
	defer progress.Done()
	folder, err := openImage(ctx, dir, progress)
	if err != nil {
		return err
	}
	progress.Say("pushing to %s", f.to)
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	at := to.ForRoot(folder.manifest.Verity.RootHash)
	digest, err := client.Push(ctx, at, lines)
	if err != nil {
		return registryFailure(err)
	}
	progress.Done()
	return a.showPush(f, pushJSON{Schema: imagePushSchema, Reference: at.String(), Digest: digest, Statements: len(lines), Bundle: to.String()})
}

func (a *app) showPush(f pushFlags, p pushJSON) error {
	if f.json {
		return commands.WriteJSON(a.io.Out, p)
	}
	if _, err := fmt.Fprintf(a.io.Out, "pushed     %s\ndigest     %s\nconfigure  image.bundle: %s\n", p.Reference, p.Digest, p.Bundle); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

// registryClient asks registries as a person does.
func registryClient(root string) (registry.Client, error) {
	if root == "" {
		return registry.Client{}.AsPerson(), nil
	}
	text, err := readBounded(root, 64<<10)
	if err != nil {
		return registry.Client{}, cli.Usagef("--registry-root: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return registry.Client{}, cli.Usagef("--registry-root: %s holds no certificate", root)
	}
	return registry.Client{Roots: pool}.AsPerson(), nil
}

// pullLines takes an image's statements from a registry.
func pullLines(ctx context.Context, f imageVerifyFlags, v *imageVerdict) ([]byte, error) {
	ref, err := registry.Parse(f.bundle)
	if err != nil {
		return nil, cli.Usagef("--bundle: %w", err)
	}
	if v.folder != nil {
		ref = ref.ForRoot(v.folder.manifest.Verity.RootHash)
	} else if !ref.Tagged() {
		return nil, cli.Usagef("--bundle: %s needs a tag: there is no folder whose root hash could give it", ref)
	}
	client, err := registryClient(f.registryRoot)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	lines, err := client.Pull(ctx, ref)
	if err != nil {
		return nil, registryFailure(err)
	}
	return lines, nil
}

// registryFailure tells what the registry holds, which is refused, from what it does.
func registryFailure(err error) error {
	if len(refusal.All(err)) > 0 || errors.Is(err, context.Canceled) {
		return err
	}
	return &cli.RemoteError{Err: err}
}
