// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image/disk"
	"github.com/kettle/attest/internal/strict"
)

// attestFlags are the flags as written.
type attestFlags struct {
	launches
	trustedRoot, fulcio, rekor, timestamp, token string
	output, firmware                             string
	inputs, shown                                []string
	disk                                         bool
	getenv                                       func(string) string
}

func (a *app) imageAttestCommand() *cobra.Command {
	f := attestFlags{getenv: os.Getenv}
	cmd := &cobra.Command{
		Use:   "attest FOLDER --platform snp|tdx|tpm|sim --trusted-root FILE",
		Short: "Sign what an image was made of and what it measures",
		Long: `attest reads an image folder, compares every file with image.json, and signs two statements about the image:

  provenance        SLSA provenance v1: which workflow made it, of which source, lock and firmware
  reference values  SCAI: command line, root hash, components, and what a launch measures on each platform asked for

Both are signed without a key of one's own: Fulcio certifies the identity of the GitHub Actions job, whose token comes from
--identity-token or, in a job with the permission id-token: write, from GitHub. The statements repeat what that identity
says, and whoever verifies compares. What was signed is verified against --trusted-root before it is written, as JSON
Lines, to --output. A debug image is refused.

--shown says which property a test has shown, by the path of the test in the repository of the signing workflow.`,
		Example: `  kettle image attest image --platform snp,tpm --vcpus 2,4,8 --vcpu-type EPYC-Milan,EPYC-Genoa \
      --trusted-root trusted_root.json --disk`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(cmd *cobra.Command, args []string) error { return a.imageAttest(cmd.Context(), f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.platforms, "platform", nil, "snp, tdx, tpm or sim; several with commas (required)")
	flags.StringSliceVar(&f.vmms, "vmm", nil, "for snp: qemu (default), ec2, ec2-v1 or gce; several with commas")
	flags.IntSliceVar(&f.vcpus, "vcpus", nil, "for snp: numbers of processors, with commas")
	flags.StringSliceVar(&f.vcpuTypes, "vcpu-type", nil, "for snp: QEMU's models of the processors as EPYC-Milan, with commas")
	flags.StringVar(&f.features, "guest-features", "0x1", "for snp: SEV_FEATURES of the guest")
	flags.UintSliceVar(&f.memory, "memory", nil, "for tdx and tpm: memory of guests in MiB under QEMU before 10.2, with commas")
	flags.StringVar(&f.launches.firmware, "uki-firmware", "", "for sim: firmware that boots the disk, whose launch digest is signed too; needs --uki-variables")
	flags.StringVar(&f.variables, "uki-variables", "", "for sim: file of that firmware's variables")
	flags.StringVar(&f.trustedRoot, "trusted-root", "", "trusted_root.json of the Sigstore instance that signs (required)")
	flags.StringVar(&f.fulcio, "fulcio-url", "https://fulcio.sigstore.dev", "certificate authority")
	flags.StringVar(&f.rekor, "rekor-url", "https://log2025-1.rekor.sigstore.dev", "transparency log, Rekor v2; empty for an instance without one")
	flags.StringVar(&f.timestamp, "timestamp-url", "https://timestamp.sigstore.dev/api/v1/timestamp", "timestamp authority")
	flags.StringVar(&f.token, "identity-token", "", "file with the job's identity token (default: GitHub is asked)")
	flags.StringVar(&f.output, "output", "", "file for the statements (default FOLDER/"+imageBundle+")")
	flags.StringVar(&f.firmware, "firmware-provenance", "", "where the firmware comes from (default FOLDER/"+firmwareProvenance+", if it is there)")
	flags.StringArrayVar(&f.inputs, "input", nil, "NAME=VALUE: an input that the workflow was started with; may be repeated")
	flags.StringArrayVar(&f.shown, "shown", nil, "PROPERTY=PATH: "+statement.AttributeNoAgents+" or "+statement.AttributeEphemeralKey+" and its test; may be repeated")
	flags.BoolVar(&f.disk, "disk", false, "put the statements into the bundle partition of FOLDER/"+imageDisk+" too")
	return cmd
}

func (a *app) imageAttest(ctx context.Context, f attestFlags, dir string) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.trustedRoot == "" {
		return cli.Usagef("--trusted-root is required: what is signed is verified before it is written")
	}
	trust, err := loadSigstore(f.trustedRoot)
	if err != nil {
		return err
	}
	progress := a.io.Progress()
	defer progress.Done()
	folder, err := openImage(ctx, dir, progress)
	if err == nil {
		err = folder.production(reference.LinkProvenance)
	}
	if err != nil {
		return err
	}
	values, err := folder.reference(ctx, f.launches, progress)
	if err != nil {
		return err
	}
	token, err := identityToken(ctx, f.token, f.getenv)
	if err != nil {
		return err
	}
	job, err := readClaims(token)
	if err != nil {
		return err
	}
	payloads, err := f.statements(folder, job, values)
	if err != nil {
		return err
	}
	cfg := bundle.KeylessConfig{
		Fulcio: f.fulcio, Rekor: f.rekor, Timestamp: f.timestamp, Token: token, Trust: trust, Transport: http.DefaultTransport,
	}
	if err := cfg.Validate(); err != nil {
		return &cli.UsageError{Err: err}
	}
	lines, err := sign(ctx, cfg, payloads, job, progress)
	if err != nil {
		return err
	}
	progress.Done()
	return a.publish(f, folder, lines, len(values))
}

// sign signs each payload, and demands a certificate for the workflow that the payloads name.
func sign(ctx context.Context, cfg bundle.KeylessConfig, payloads [][]byte, job claims, progress *cli.Progress) ([]byte, error) {
	var out []byte
	for n, payload := range payloads {
		progress.Say("signing statement %d of %d", n+1, len(payloads))
		line, err := bundle.SignKeyless(ctx, cfg, payload)
		if errors.Is(err, bundle.ErrRemote) {
			return nil, &cli.RemoteError{Err: err}
		}
		if err != nil {
			return nil, err
		}
		_, signer, err := cfg.Trust.Verify(line)
		if err != nil {
			return nil, fmt.Errorf("verifying what was signed: %w", err)
		}
		if want := server + "/" + job.JobWorkflowRef; signer.SAN != want {
			return nil, fmt.Errorf("verifying what was signed: the certificate is for %.200q, and the token for %.200q", signer.SAN, want)
		}
		out = append(append(out, line...), '\n')
	}
	return out, nil
}

// statements makes the payloads: provenance, then reference values.
func (f attestFlags) statements(folder *imageFolder, job claims, values []statement.ReferenceValue) ([][]byte, error) {
	p, err := f.provenance(folder, job)
	if err != nil {
		return nil, err
	}
	r := statement.ReferenceValues{Subjects: p.Subjects, Producer: p.BuilderID, Values: values}
	for _, s := range f.shown {
		name, path, ok := strings.Cut(s, "=")
		if !ok || path == "" || name != statement.AttributeNoAgents && name != statement.AttributeEphemeralKey {
			return nil, cli.Usagef("--shown %.100q: want %s=PATH or %s=PATH", s, statement.AttributeNoAgents, statement.AttributeEphemeralKey)
		}
		repository, _, _ := strings.Cut(job.JobWorkflowRef, "/.github/")
		r.Shown = append(r.Shown, statement.Shown{
			Attribute: name, Test: fmt.Sprintf("%s/%s/blob/%s/%s", server, repository, job.JobWorkflowSHA, path), Commit: job.JobWorkflowSHA,
		})
	}
	payload, err := p.Marshal()
	if err != nil {
		return nil, fmt.Errorf("writing the provenance: %w", err)
	}
	second, err := r.Marshal()
	if err != nil {
		return nil, fmt.Errorf("writing the reference values: %w", err)
	}
	return [][]byte{payload, second}, nil
}

func (f attestFlags) provenance(folder *imageFolder, job claims) (*statement.ImageProvenance, error) {
	workflow, err := job.workflow()
	if err != nil {
		return nil, err
	}
	materials, err := f.materials(folder, job, workflow)
	if err != nil {
		return nil, err
	}
	inputs := map[string]string{}
	for _, in := range f.inputs {
		name, value, ok := strings.Cut(in, "=")
		if _, twice := inputs[name]; !ok || name == "" || twice {
			return nil, cli.Usagef("--input %.100q: want NAME=VALUE, each name once", in)
		}
		inputs[name] = value
	}
	m := folder.manifest
	byproduct := func(name string, d [32]byte) statement.ResourceDescriptor {
		return statement.ResourceDescriptor{Name: name, Digest: statement.SHA256(binding.Digest(d))}
	}
	return &statement.ImageProvenance{
		Subjects: folder.subjects(), BuilderID: server + "/" + job.JobWorkflowRef,
		BuilderVersion: map[string]string{"kettle": version(), "go": m.Toolchain.Go},
		External: statement.ImageParameters{
			Workflow: workflow, Image: statement.ImageRequest{Name: m.Name, Profile: m.Profile, Build: m.Build}, Event: job.Event, Inputs: inputs,
		},
		Internal: statement.ImageInternal{GitHub: statement.ImageGitHub{
			EventName: job.Event, RepositoryID: job.RepositoryID, RepositoryOwnerID: job.OwnerID, RunnerEnvironment: job.RunnerEnvironment,
			RunID: job.RunID, RunAttempt: job.RunAttempt, JobWorkflowSHA: job.JobWorkflowSHA,
		}},
		Materials: materials, InvocationID: job.run(),
		Byproducts: []statement.ResourceDescriptor{
			byproduct(m.Files.SBOM.Name, m.Files.SBOM.SHA256), byproduct(m.Files.Packages.Name, m.Files.Packages.SHA256),
		},
	}, nil
}

// materials lists what the image was made of, the source first.
func (f attestFlags) materials(folder *imageFolder, job claims, w statement.Workflow) ([]statement.ResourceDescriptor, error) {
	m := folder.manifest
	sum := func(d [32]byte) statement.DigestSet { return statement.SHA256(binding.Digest(d)) }
	out := []statement.ResourceDescriptor{{URI: "git+" + w.Repository + "@" + w.Ref, Digest: statement.DigestSet{"gitCommit": job.SHA}}}
	if other, ok := job.signingSource(); ok {
		out = append(out, other)
	}
	firmware, err := f.firmwareNotes(folder)
	if err != nil {
		return nil, err
	}
	out = append(out,
		statement.ResourceDescriptor{Name: statement.MaterialLock, Digest: sum(m.Toolchain.Lock)},
		statement.ResourceDescriptor{Name: "recipe", Digest: sum(m.Toolchain.Recipe)},
		statement.ResourceDescriptor{Name: statement.MaterialFirmware, Digest: sum(m.Files.Firmware.SHA256), Annotations: firmware})
	if runner, ok := m.Component(statement.ComponentRunner); ok {
		out = append(out, statement.ResourceDescriptor{
			Name: statement.ComponentRunner, Digest: sum(runner.SHA256), Annotations: map[string]string{"version": runner.Version},
		})
	}
	return out, nil
}

// firmwareOrigin says which package of which signed index the firmware is from. Nobody signs the firmware itself.
type firmwareOrigin struct {
	Firmware struct {
		SHA256 binding.Digest `json:"sha256"`
	} `json:"firmware"`
	Package struct {
		Name    string         `json:"name"`
		Version string         `json:"version"`
		SHA256  binding.Digest `json:"sha256"`
	} `json:"package"`
	Index struct {
		URI        string         `json:"uri"`
		SHA256     binding.Digest `json:"sha256"`
		Signatures string         `json:"signatures"` // as gpgv tells them
	} `json:"index"`
}

// firmwareNotes reads where the firmware comes from; nothing where nobody wrote it down.
func (f attestFlags) firmwareNotes(folder *imageFolder) (map[string]string, error) {
	path := f.firmware
	if path == "" {
		path = filepath.Join(folder.dir, firmwareProvenance)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, nil //nolint:nilnil // no annotations are a valid set of them.
		}
	}
	b, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	var o firmwareOrigin
	if err := strict.Decode(b, &o); err != nil {
		return nil, cli.Usagef("%s: %w", path, err)
	}
	if o.Firmware.SHA256 != binding.Digest(folder.manifest.Files.Firmware.SHA256) || o.Package.Name == "" || o.Package.SHA256.IsZero() || o.Index.URI == "" || o.Index.SHA256.IsZero() {
		return nil, cli.Usagef("%s: it does not say where this image's firmware comes from", path)
	}
	return map[string]string{
		"package": o.Package.Name + " " + o.Package.Version, "packageSha256": o.Package.SHA256.String(),
		"index": o.Index.URI, "indexSha256": o.Index.SHA256.String(), "origin": "sha256:" + binding.Sum(b).String(),
	}, nil
}

// publish writes the statements and says what was done.
func (a *app) publish(f attestFlags, folder *imageFolder, lines []byte, values int) error {
	path := f.output
	if path == "" {
		path = filepath.Join(folder.dir, imageBundle)
	}
	if err := writeWhole(path, lines, 0o644); err != nil {
		return err
	}
	if f.disk {
		if err := folder.putBundle(lines); err != nil {
			return err
		}
	}
	m := folder.manifest
	_, err := fmt.Fprintf(a.io.Out, "image     %s, %s, sha256:%s\nvalues    %d for %s\nwritten   %s\n",
		cli.Clean(m.Name), m.Profile, folder.digest, values, strings.Join(f.platforms, ", "), cli.Clean(path))
	if err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

// putBundle writes the statements into the disk's partition for them, which is part of no digest.
func (f *imageFolder) putBundle(lines []byte) (err error) {
	d := f.manifest.Disk
	file, err := os.OpenFile(filepath.Join(f.dir, imageDisk), os.O_RDWR, 0)
	if err != nil {
		return err // it names operation and path
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := disk.PutBundle(file, disk.Layout{
		Size: d.Size, ESP: disk.Range(d.ESP), Root: disk.Range(d.Root), Bundle: disk.Range(d.Bundle),
	}, lines); err != nil {
		return fmt.Errorf("writing to %s: %w", imageDisk, err)
	}
	return file.Sync()
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, content []byte, mode os.FileMode) (err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = io.Copy(file, bytes.NewReader(content))
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// version is the program's, as the go command wrote it down.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
