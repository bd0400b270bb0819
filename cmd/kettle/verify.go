// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
)

// The formats of the output.
const (
	formatTTY  = "tty"
	formatJSON = "json"
)

// verifyFlags are the flags as written.
type verifyFlags struct {
	digest, policy, at, format           string
	bundles, roots, trustedRoots, images []string
	offline, explain                     bool
}

// verifier is what all artifacts of one call are verified with.
type verifier struct {
	flags  verifyFlags
	policy *policy.Policy
	roots  appraise.Roots
	trust  trusted
	at     time.Time
}

// outcome is what came out for one artifact.
type outcome struct {
	artifact attest.Artifact
	result   *attest.Result // nil unless err is
	trace    attest.Trace
	err      error
}

func (a *app) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify ARTIFACT... --policy FILE",
		Short: "Verify artifacts against a policy, link by link",
		Long: `verify checks, for each artifact, every link of the chain:

  artifact     its SHA-256 is a subject of the provenance
  provenance   SLSA provenance of Kettle's build type, builder and platform agree
  signature    the key made inside the machine for this provenance signed it
  response     the same key signed the statement that names provenance and quote
  quote        the CPU's secure processor made the quote, up to a root you trust
  binding      the quote covers this provenance, this key and this build, as a response
  image        a workflow that the policy names built and signed the image that the machine shows
  measurement  what was quoted of the machine is signed for that image, or named by the policy
  event-log    what happened in the machine, replayed: one key, one job, nothing hidden
  dispatch     the one job, stated and quoted before any of its code ran
  boot         where the environment's key comes from, quoted at boot
  admission    an operator appraised this very machine before it got its job, once
  token        GitHub's own signature over the job's identity
  identity     repository, workflow, ref and event are what the policy accepts

The policy is required and decides; nothing defaults to accept. The bundle is ARTIFACT` + bundleSuffix + ` unless
--bundle names others. Evidence of a simulator or another private root is refused unless --root names the root.
GitHub's keys, and the roots of whoever signs images, come from --trusted-root, never from the bundle: name a trust file
of Kettle's and a trusted_root.json of Sigstore's; each is known by its content. The bundle of the image is one of the
files of --bundle, or of --image-bundle, which leaves the default of --bundle as it is. Nothing is fetched, ever.

All artifacts must pass. With --format json there is one JSON object a line and artifact, on failure too.`,
		Example: `  # The bundle lies beside the artifact.
  kettle verify widget.tar.gz --policy policy.yaml --trusted-root github.json

  # Only the digest is known.
  kettle verify --digest sha256:fe4f... --bundle widget.intoto.jsonl --policy policy.yaml --trusted-root github.json

  # What was built in a demo, under the simulator's root.
  kettle verify widget.tar.gz --policy demo.yaml --root sim/roots.pem --trusted-root github.json

  # For a script.
  kettle verify dist/* --policy policy.yaml --trusted-root github.json --format json | jq -r .verdict`,
		RunE: a.Does(func(cmd *cobra.Command, args []string) error { return a.verify(cmd.Context(), f, args) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.digest, "digest", "", "verify this digest (sha256:HEX) in place of a file; needs --bundle")
	flags.StringArrayVar(&f.bundles, "bundle", nil, "bundle file; may be repeated (default ARTIFACT"+bundleSuffix+")")
	flags.StringArrayVar(&f.images, "image-bundle", nil, "bundle of the image that built, image.intoto.jsonl; may be repeated")
	flags.StringVar(&f.policy, "policy", "", "policy file (required)")
	flags.StringArrayVar(&f.roots, "root", nil, "PEM file of a simulator's or private root, ASK then ARK; may be repeated")
	flags.StringArrayVar(&f.trustedRoots, "trusted-root", nil, "file with GitHub's token keys ("+token.Schema+"), or Sigstore's trusted_root.json; may be repeated")
	flags.StringVar(&f.at, "at", "", "judge certificates and policy at this time (default now)")
	flags.BoolVar(&f.offline, "offline", false, "use no network; always so in this version")
	flags.StringVar(&f.format, "format", formatTTY, "output: tty or json")
	flags.BoolVar(&f.explain, "explain", false, "say what each link means (tty)")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{formatTTY, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// verify checks all artifacts and shows each outcome. Its error, if any, was shown already.
func (a *app) verify(ctx context.Context, f verifyFlags, args []string) error {
	if f.format != formatTTY && f.format != formatJSON {
		return cli.Usagef("--format %q: want tty or json", f.format)
	}
	v, err := newVerifier(f, args)
	if err != nil {
		if f.format == formatJSON {
			return errors.Join(commands.WriteJSON(a.io.Out, verifyJSON{Schema: verifySchema, Verdict: verdictError, Error: cli.CleanLines(err.Error())}), err)
		}
		return err
	}
	targets := args
	if f.digest != "" {
		targets = []string{f.digest}
	}
	var errs []error
	for _, t := range targets {
		o := a.verifyOne(ctx, v, t)
		if err := a.show(v, o); err != nil {
			return err
		}
		errs = append(errs, o.err)
	}
	if err := errors.Join(errs...); err != nil {
		return &cli.ReportedError{Err: err}
	}
	return nil
}

func newVerifier(f verifyFlags, args []string) (*verifier, error) {
	switch {
	case f.digest == "" && len(args) == 0:
		return nil, cli.Usagef("name an artifact, or a digest with --digest")
	case f.digest != "" && len(args) > 0:
		return nil, cli.Usagef("name artifacts or --digest, not both")
	case f.digest != "" && len(f.bundles) == 0:
		return nil, cli.Usagef("--digest needs --bundle: there is no file to lie beside")
	case f.policy == "":
		return nil, cli.Usagef("--policy is required: without one nothing is accepted")
	}
	if _, err := parseDigest(f.digest); f.digest != "" && err != nil {
		return nil, err
	}
	v := &verifier{flags: f}
	var errs [4]error
	v.at, errs[0] = parseTime(f.at)
	v.policy, errs[1] = loadPolicy(f.policy)
	v.roots, errs[2] = loadRoots(f.roots)
	v.trust, errs[3] = loadTrusted(f.trustedRoots)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return v, nil
}

func parseDigest(s string) (binding.Digest, error) {
	hex, ok := strings.CutPrefix(s, "sha256:")
	d, err := binding.ParseDigest(hex)
	if !ok || err != nil {
		return binding.Digest{}, cli.Usagef("--digest %q: want sha256: and 64 lower-case hexadecimal digits", s)
	}
	return d, nil
}

// verifyOne verifies a file, or the digest that stands in its place.
func (a *app) verifyOne(ctx context.Context, v *verifier, target string) outcome {
	o := outcome{artifact: attest.Artifact{Name: target}, trace: attest.Unreached()}
	if v.flags.digest != "" {
		o.artifact.Digest, o.err = parseDigest(target)
	} else {
		progress := a.io.Progress()
		o.artifact.Digest, o.err = hashFile(ctx, target, progress)
		progress.Done()
	}
	if o.err != nil {
		return o
	}
	req := attest.Request{Artifact: o.artifact, Policy: v.policy, Roots: v.roots, Trust: v.trust.github, Sigstore: v.trust.sigstore, At: v.at}
	if req.Files, o.err = loadBundles(v.flags.bundles, target); o.err != nil {
		return o
	}
	if len(v.flags.images) > 0 {
		images, err := loadBundles(v.flags.images, "")
		if err != nil {
			o.err = err
			return o
		}
		req.Files = append(req.Files, images...)
	}
	o.result, o.trace, o.err = attest.Verify(ctx, req)
	return o
}

// show prints one outcome on the output stream.
func (a *app) show(v *verifier, o outcome) error {
	if v.flags.format == formatJSON {
		a.io.Report("kettle: "+cli.Clean(o.artifact.Name), o.err)
		return commands.WriteJSON(a.io.Out, o.json(v.policy))
	}
	return writeTree(a.io, o, v.flags.explain)
}
