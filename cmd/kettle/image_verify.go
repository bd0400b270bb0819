// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/image/registry"
	"github.com/kettle/attest/internal/secret"
)

// imageVerifierID says that this program judged, for operators who give no name of their own.
const imageVerifierID = "https://github.com/kettle/attest/verifiers/image/v1"

// imageVerifyFlags are the flags as written.
type imageVerifyFlags struct {
	bundle, registryRoot                       string
	policy, trustedRoot, at                    string
	vsa, key, verifier, policyURI, resourceURI string
	json                                       bool
}

// imageVerdict is what came out.
type imageVerdict struct {
	target string
	folder *imageFolder // nil where a digest or one file was named
	files  []binding.Digest
	policy *policy.Policy
	image  *reference.Image // nil unless err is
	at     time.Time
	err    error
}

func (a *app) imageVerifyCommand() *cobra.Command {
	var f imageVerifyFlags
	cmd := &cobra.Command{
		Use:   "verify IMAGE|DIGEST --policy FILE --trusted-root FILE",
		Short: "Verify an image before it is launched",
		Long: `verify checks, for an image folder, a file of an image, or a digest (sha256:HEX) of one:

  files             every file is the one that image.json names (of a folder)
  image provenance  the policy's workflow signed which source, lock and firmware the image was made of
  reference values  the same run signed what a launch of these very files measures

The policy's sections environments and revoked decide: whose images are accepted, and which were withdrawn. A debug image is
refused. The bundle is ` + imageBundle + ` in the folder unless --bundle names another. Sigstore's roots come from
--trusted-root, never from the bundle. Nothing is fetched, but for a --bundle oci://REGISTRY/OWNER/NAME, as kettle image push wrote
it; without a tag it is the one of the folder's root hash.

With --vsa the verdict is signed with --key as a SLSA verification summary (VSA-IMG). It is written only if everything holds.`,
		Example: `  kettle image verify image --policy policy.yaml --trusted-root trusted_root.json
  kettle image verify sha256:1d1d... --bundle image.intoto.jsonl --policy policy.yaml --trusted-root trusted_root.json --json
  kettle image verify image --policy policy.yaml --trusted-root trusted_root.json --vsa image.vsa --key operator.pem
  kettle image verify image --bundle oci://ghcr.io/acme/images --policy policy.yaml --trusted-root trusted_root.json`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(cmd *cobra.Command, args []string) error { return a.imageVerify(cmd.Context(), f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.bundle, "bundle", "", "file with the image's statements, or oci://REGISTRY/OWNER/NAME[:TAG] (default IMAGE/"+imageBundle+")")
	registryRootFlag(cmd, &f.registryRoot)
	flags.StringVar(&f.policy, "policy", "", "policy file (required)")
	flags.StringVar(&f.trustedRoot, "trusted-root", "", "trusted_root.json of the Sigstore instance that signs images (required)")
	flags.StringVar(&f.at, "at", "", "judge at this time (default now)")
	flags.StringVar(&f.vsa, "vsa", "", "write the verdict, signed, to this file; needs --key")
	flags.StringVar(&f.key, "key", "", "PEM file of the operator's ECDSA P-256 key; nobody else may read it")
	flags.StringVar(&f.verifier, "verifier", imageVerifierID, "URI of who judges, for the summary")
	flags.StringVar(&f.policyURI, "policy-uri", "", "where consumers find the policy, for the summary (default: a URN with its digest)")
	flags.StringVar(&f.resourceURI, "resource-uri", "", "where consumers find the image, for the summary (default: a name made of its digest)")
	flags.BoolVar(&f.json, "json", false, "print one JSON object, on refusal too")
	return cmd
}

func (f imageVerifyFlags) check() error {
	switch {
	case f.policy == "":
		return cli.Usagef("--policy is required: without one nothing is accepted")
	case f.trustedRoot == "":
		return cli.Usagef("--trusted-root is required: this program ships no root and fetches none; give the trusted_root.json of the instance that signs images")
	case (f.vsa == "") != (f.key == ""):
		return cli.Usagef("--vsa and --key belong together")
	}
	return nil
}

// imageVerify verifies and shows the outcome. Its error, if any, was shown already.
func (a *app) imageVerify(ctx context.Context, f imageVerifyFlags, target string) error {
	v, key, err := a.judgeImage(ctx, f, target)
	if v == nil {
		if f.json {
			return errors.Join(commands.WriteJSON(a.io.Out, imageVerifyJSON{Schema: imageVerifySchema, Verdict: verdictError, Error: cli.CleanLines(err.Error())}), err)
		}
		return err
	}
	if v.err == nil && key != nil {
		defer key.Erase()
		if err := v.writeVSA(ctx, f, key); err != nil {
			return err
		}
	}
	if err := a.showImageVerdict(f, v); err != nil {
		return err
	}
	if v.err != nil {
		return &cli.ReportedError{Err: v.err}
	}
	return nil
}

// judgeImage reads everything and verifies. The verdict is nil where nothing could be judged.
func (a *app) judgeImage(ctx context.Context, f imageVerifyFlags, target string) (*imageVerdict, *bundle.Key, error) {
	if err := f.check(); err != nil {
		return nil, nil, err
	}
	v := &imageVerdict{target: target}
	var errs [4]error
	v.at, errs[0] = parseTime(f.at)
	v.policy, errs[1] = loadPolicy(f.policy)
	trust, err := loadSigstore(f.trustedRoot)
	errs[2] = err
	var key *bundle.Key
	if f.key != "" {
		key, errs[3] = loadOperator(f.key)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, nil, err
	}
	if v.at.IsZero() {
		v.at = time.Now()
	}
	if err := a.hashImage(ctx, v); err != nil {
		if len(refusal.All(err)) == 0 {
			return nil, nil, err
		}
		v.err = err
		return v, key, nil
	}
	lines, err := imageLines(ctx, f, v)
	if err != nil {
		if len(refusal.All(err)) == 0 {
			return nil, nil, err
		}
		v.err = err
		return v, key, nil
	}
	v.image, v.err = reference.Verify(reference.Request{Lines: lines, Trust: trust, Policy: v.policy, At: v.at, Files: v.files})
	if v.err == nil && v.folder != nil {
		v.err = v.folder.agrees(v.image)
	}
	return v, key, nil
}

// hashImage finds out which files are meant: those of a folder, one, or one that only its digest names.
func (a *app) hashImage(ctx context.Context, v *imageVerdict) error {
	progress := a.io.Progress()
	defer progress.Done()
	if hex, ok := strings.CutPrefix(v.target, "sha256:"); ok {
		d, err := binding.ParseDigest(hex)
		if err != nil {
			return cli.Usagef("%.100q: want sha256: and 64 lower-case hexadecimal digits", v.target)
		}
		v.files = []binding.Digest{d}
		return nil
	}
	info, err := os.Stat(v.target)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	if !info.IsDir() {
		d, err := hashFile(ctx, v.target, progress)
		v.files = []binding.Digest{d}
		return err
	}
	if v.folder, err = openImage(ctx, v.target, progress); err != nil {
		return err
	}
	v.files = v.folder.digests()
	return v.folder.production(linkFiles)
}

// imageLines reads the image's statements.
func imageLines(ctx context.Context, f imageVerifyFlags, v *imageVerdict) ([][]byte, error) {
	path := f.bundle
	beside := path == "" && v.folder != nil
	switch {
	case strings.HasPrefix(path, registry.Scheme):
		text, err := pullLines(ctx, f, v)
		if err != nil {
			return nil, err
		}
		return bundle.Certified(text)
	case beside:
		path = filepath.Join(v.folder.dir, imageBundle)
	case path == "":
		return nil, cli.Usagef("--bundle is required: there is no folder that it could lie in")
	}
	text, err := readBounded(path, bundle.MaxFile)
	if beside && errors.Is(err, fs.ErrNotExist) {
		return nil, &refusal.Refusal{
			Link: reference.LinkProvenance, Code: refusal.Missing, Want: imageBundle + " in the image's folder", Got: "none",
			Next: "take it from the release of the image, or name it with --bundle",
		}
	}
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	return bundle.Certified(text)
}

// agrees demands that the statements say of the image what its manifest says, which they name by digest.
func (f *imageFolder) agrees(img *reference.Image) error {
	m, asked := f.manifest, img.Provenance().External.Image
	var errs []error
	demand := func(link, name, want, got string) {
		if want != got {
			errs = append(errs, &refusal.Refusal{
				Link: link, Code: refusal.Binding, Want: fmt.Sprintf("%s %.100q, as image.json says", name, want), Got: fmt.Sprintf("%.100q", got),
				Next: "build and attest the image again; its statements and its manifest differ",
			})
		}
	}
	demand(reference.LinkProvenance, "image.name", m.Name, asked.Name)
	demand(reference.LinkProvenance, "image.profile", m.Profile, asked.Profile)
	demand(reference.LinkProvenance, "image.build", m.Build, asked.Build)
	for _, c := range f.components() {
		got, _ := img.Values().Component(c.Conditions.Component)
		demand(reference.LinkValues, c.Conditions.Component, c.Value, got.String())
	}
	return errors.Join(errs...)
}

// loadOperator reads a private key that nobody else can read.
func loadOperator(path string) (*bundle.Key, error) {
	const others = 0o077
	info, err := os.Stat(path)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	if info.Mode().Perm()&others != 0 {
		return nil, cli.Usagef("%s: others can read it; chmod 600 it, and make a new key if it mattered", path)
	}
	b, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	k, err := bundle.LoadKey(secret.New(string(b)))
	if err != nil {
		return nil, cli.Usagef("%s: %w", path, err)
	}
	return k, nil
}

// writeVSA signs what was found and writes it, whole or not at all.
func (v *imageVerdict) writeVSA(ctx context.Context, f imageVerifyFlags, key *bundle.Key) error {
	policyURI, resource := f.policyURI, f.resourceURI
	if policyURI == "" {
		policyURI = "urn:kettle:policy:sha256:" + v.policy.Digest().String()
	}
	if resource == "" {
		manifest, _ := statement.DigestOf(v.image.Subjects(), statement.ImageManifest) // every image has it
		resource = statement.ImageURI(manifest)
	}
	vsa := statement.ImageVSA{VSA: statement.VSA{
		Subjects: v.image.Subjects(), Verifier: statement.Verifier{ID: f.verifier, Version: map[string]string{"kettle": version()}},
		TimeVerified: v.at, ResourceURI: resource, Policy: statement.VSAPolicy{URI: policyURI, Digest: v.policy.Digest()},
		Inputs: v.image.Inputs(), Result: statement.Passed,
		Levels: []string{statement.BuildLevel(v.image.BuildLevel()), statement.PropertyImage, statement.PropertyRevocationChecked},
	}}
	payload, err := vsa.Marshal()
	if err != nil {
		return cli.Usagef("writing the summary: %s", cli.CleanLines(err.Error())) // only flags can be wrong in it
	}
	line, err := bundle.Sign(ctx, key, payload)
	if err != nil {
		return err
	}
	return writeWhole(f.vsa, append(line, '\n'), 0o644)
}
