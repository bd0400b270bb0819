// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/idblock"
	"github.com/kettle/attest/image/launch"
)

// idBlockSchema is the schema of the command's JSON.
const idBlockSchema = "kettle.id-block/v1"

// idBlockFlags are the flags as written.
type idBlockFlags struct {
	firmware, vcpuType, key, author, family, image, output string
	vcpus                                                  int
	svn                                                    uint32
	policy                                                 uint64
	json                                                   bool
}

// idBlockJSON is what was signed, and as what reports name who did.
type idBlockJSON struct {
	Schema          string `json:"schema"`
	LaunchDigest    string `json:"launchDigest"`
	VCPUs           int    `json:"vcpus"`
	VCPUType        string `json:"vcpuType"`
	GuestPolicy     uint64 `json:"guestPolicy"`
	GuestSVN        uint32 `json:"guestSvn"`
	IDKeyDigest     string `json:"idKeyDigest"`
	AuthorKeyDigest string `json:"authorKeyDigest,omitempty"`
	Block           string `json:"block"` // file
	Auth            string `json:"auth"`  // file
}

func (a *app) imageIDBlockCommand() *cobra.Command {
	var f idBlockFlags
	cmd := &cobra.Command{
		Use:   "id-block IMAGE --vcpus N --vcpu-type TYPE --firmware FILE --key FILE",
		Short: "Sign an image's SEV-SNP launch digest as an ID block",
		Long: `id-block predicts the launch digest of an image on SEV-SNP, for one number and type of processors, and signs it with a key of
yours. The host hands the two files to AMD's firmware when it launches the image (kettle image run --id-block, --id-auth), and the
firmware starts no guest whose digest or guest policy is another. Reports then carry the digest of the key, the author key's if
there is one, and the family, image and version numbers that you give.

A host may launch without an ID block, and what was signed once stays signed: it is the signed reference values and the policy that
say which images are trusted, not this.

The keys are ECDSA on P-384, PEM, and readable by their owner alone:

  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out id.pem

Keep the author key offline: it certifies the key that signs, which you can then replace. Every file of the image is compared with
image.json first. The same image and keys give the same bytes.`,
		Example: `  kettle image id-block image --vcpus 4 --vcpu-type EPYC-Milan --firmware OVMF.amdsev.fd --key id.pem
  kettle image run image --platform snp --cpus 4 --vcpu-type EPYC-Milan --firmware OVMF.amdsev.fd \
      --id-block image/id-4-EPYC-Milan.block --id-auth image/id-4-EPYC-Milan.auth …`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(cmd *cobra.Command, args []string) error { return a.imageIDBlock(cmd.Context(), f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.firmware, "firmware", "", "firmware that measures kernels, as Debian's OVMF.amdsev.fd (default: the image's)")
	flags.IntVar(&f.vcpus, "vcpus", 0, "number of processors (required)")
	flags.StringVar(&f.vcpuType, "vcpu-type", "", "QEMU's model of the processors as EPYC-Milan, or a CPUID signature as 0xa00f11 (required)")
	flags.StringVar(&f.key, "key", "", "PEM file of the key that signs; nobody else may read it (required)")
	flags.StringVar(&f.author, "author-key", "", "PEM file of the key that certifies it; nobody else may read it")
	flags.Uint64Var(&f.policy, "guest-policy", launch.GuestPolicy, "the guest policy, which the launch has to have too")
	flags.StringVar(&f.family, "family-id", "", "16 bytes of your own in hexadecimal, for reports")
	flags.StringVar(&f.image, "image-id", "", "16 bytes of your own in hexadecimal, for reports")
	flags.Uint32Var(&f.svn, "guest-svn", 0, "your version number of the image, for reports")
	flags.StringVar(&f.output, "output", "", "beginning of the two files' names, which end in .block and .auth (default IMAGE/id-VCPUS-TYPE)")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	return cmd
}

func (a *app) imageIDBlock(ctx context.Context, f idBlockFlags, dir string) error {
	for name, missing := range map[string]bool{"vcpus": f.vcpus == 0, "vcpu-type": f.vcpuType == "", "key": f.key == ""} {
		if missing {
			return cli.Usagef("--%s is required", name)
		}
	}
	block, err := f.block()
	if err != nil {
		return err
	}
	key, err := signingKey("key", f.key)
	if err != nil {
		return err
	}
	author, err := signingKey("author-key", f.author)
	if err != nil {
		return err
	}
	progress := a.io.Progress()
	defer progress.Done()
	if _, err := openImage(ctx, dir, progress); err != nil {
		return err
	}
	m := measureFlags{
		manifest: filepath.Join(dir, image.ManifestName), ovmf: f.firmware, vcpus: []int{f.vcpus}, vcpuTypes: []string{f.vcpuType},
		vmm: "qemu", features: "0x1",
	}
	if block.LaunchDigest, err = m.snpDigest(ctx, progress); err != nil {
		return err
	}
	signed, err := idblock.Sign(block, key, author)
	if err != nil {
		return err
	}
	progress.Done()
	return a.writeIDBlock(f, dir, signed)
}

// block is the block but for its digest.
func (f idBlockFlags) block() (b idblock.Block, err error) {
	b = idblock.Block{GuestSVN: f.svn, Policy: snp.Policy(f.policy)}
	for _, id := range []struct {
		flag, text string
		to         *[16]byte
	}{{"family-id", f.family, &b.FamilyID}, {"image-id", f.image, &b.ImageID}} {
		raw, err := hex.DecodeString(id.text)
		if err != nil || len(raw) != 0 && len(raw) != len(id.to) {
			return b, cli.Usagef("--%s %.40q: want %d bytes in hexadecimal", id.flag, id.text, len(id.to))
		}
		copy(id.to[:], raw)
	}
	return b, nil
}

// signingKey reads a key; nil if no file is named.
func signingKey(flag, path string) (crypto.Signer, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // an author key is optional, and --key was checked.
	}
	text, err := cli.ReadPrivate(path)
	if err != nil {
		return nil, cli.Usagef("--%s: %w", flag, err)
	}
	key, err := idblock.ParseKey(text)
	if err != nil {
		return nil, cli.Usagef("--%s: %w", flag, err)
	}
	return key, nil
}

// snpDigest is the launch digest of a direct boot on one kind of machine.
func (f measureFlags) snpDigest(ctx context.Context, progress *cli.Progress) (digest [48]byte, err error) {
	parts, err := f.parts()
	if err != nil {
		return digest, err
	}
	parts.progress = progress
	values, err := f.measureSNP(ctx, parts)
	if err != nil {
		return digest, err
	}
	raw, err := hex.DecodeString(values[0].Digest)
	if err != nil || len(values) != 1 || len(raw) != len(digest) {
		return digest, fmt.Errorf("predicting the launch digest: %d values", len(values))
	}
	return [48]byte(raw), nil
}

func (a *app) writeIDBlock(f idBlockFlags, dir string, signed *idblock.Signed) error {
	said, err := idblock.Verify(signed)
	if err != nil {
		return err
	}
	if f.output == "" {
		f.output = filepath.Join(dir, fmt.Sprintf("id-%d-%s", f.vcpus, f.vcpuType))
	}
	j := idBlockJSON{
		Schema: idBlockSchema, LaunchDigest: hex.EncodeToString(said.Block.LaunchDigest[:]), VCPUs: f.vcpus, VCPUType: f.vcpuType,
		GuestPolicy: uint64(said.Block.Policy), GuestSVN: said.Block.GuestSVN, IDKeyDigest: hex.EncodeToString(said.IDKeyDigest[:]),
		Block: f.output + ".block", Auth: f.output + ".auth",
	}
	if signed.HasAuthor {
		j.AuthorKeyDigest = hex.EncodeToString(said.AuthorKeyDigest[:])
	}
	for path, content := range map[string][]byte{j.Block: signed.Block[:], j.Auth: signed.Auth[:]} {
		if err := writeWhole(path, content, 0o644); err != nil {
			return err
		}
	}
	if f.json {
		return commands.WriteJSON(a.io.Out, j)
	}
	text := fmt.Sprintf("launch digest  %s\nguest policy   %#x\nID key         %s\n", j.LaunchDigest, j.GuestPolicy, j.IDKeyDigest)
	if j.AuthorKeyDigest != "" {
		text += fmt.Sprintf("author key     %s\n", j.AuthorKeyDigest)
	}
	if _, err := fmt.Fprintf(a.io.Out, "%swritten        %s, %s\n", text, j.Block, j.Auth); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}
