// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/image/measure"
)

const measureSchema = "kettle.measure/v1"

// The platforms that a launch can be predicted for.
const (
	platformSNP = "snp"
	platformTDX = "tdx"
	platformTPM = "tpm"
	platformSim = "sim"
)

// measureFlags are the flags as written.
type measureFlags struct {
	platform, manifest, ovmf, kernel, initrd, cmdline string
	uki, loader, disk, variables, vmm, features       string
	vcpus                                             []int
	vcpuTypes                                         []string
	memory                                            uint64
	secureBoot, json                                  bool
	set                                               func(name string) bool // whether a flag was written
}

// measureJSON is the output of the command.
type measureJSON struct {
	Schema   string        `json:"schema"`
	Platform string        `json:"platform"`
	Values   []measurement `json:"values"`
}

// measurement is one predicted value.
type measurement struct {
	VCPUs    int    `json:"vcpus,omitempty"`
	VCPUType string `json:"vcpuType,omitempty"`
	Register string `json:"register"`
	Variant  string `json:"variant,omitempty"` // of values that depend on the host's software: all are given
	Digest   string `json:"digest"`
}

func (a *app) imageCommand() *cobra.Command {
	group := &cobra.Command{Use: "image", Short: "Work with build images"}
	group.AddCommand(a.imageBuildCommand(), a.imageFetchCommand(), a.imageLockCommand(), a.imageMeasureCommand(), a.imageAttestCommand(), a.imageVerifyCommand(), a.imageDiskCommand(), a.imagePushCommand(), a.imageIDBlockCommand(), a.imageRunCommand())
	return group
}

func (a *app) imageMeasureCommand() *cobra.Command {
	var f measureFlags
	cmd := &cobra.Command{
		Use:   "measure --platform snp|tdx|tpm|sim [--manifest FILE | --ovmf FILE --kernel FILE ...]",
		Short: "Predict what a launch of an image measures",
		Long: `measure says what an attestation has to show for an image, without launching it:

  snp  the launch digest of a direct boot (--kernel) or of the firmware alone, one for each --vcpus and --vcpu-type
  tdx  MRTD of the firmware; RTMR1 and RTMR2 of a direct boot (--kernel) or of a unified kernel image (--uki)
  tpm  PCR 4, 9, 11 and 12 of a unified kernel image, or of a direct boot
  sim  the simulator's launch digest of a direct boot, or of a unified kernel image (--uki) with --ovmf and --variables

Where a register depends on the version of the host's software, each value is given with the name of its variant:

  single-pass, two-pass         MRTD: Linux 6.16 and later measures pages as it adds them; patched hosts before it did not
  kernel-as-file                RTMR1, PCR 4: the firmware gets the kernel unchanged, as from QEMU 10.2 on
  kernel-patched                the same of earlier QEMU, which writes into the kernel; needs --memory
  initrd-first, initrd-last     RTMR2, PCR 9: edk2-stable202508 and later puts its word for the initrd first

With --manifest the parts are the files beside it, which have to be the ones that it names; --ovmf replaces its firmware.`,
		Example: `  kettle image measure --platform snp --ovmf OVMF.amdsev.fd --kernel vmlinuz --initrd initrd --cmdline 'console=ttyS0' \
      --vcpus 2,4 --vcpu-type EPYC-Milan --json
  kettle image measure --platform tdx --ovmf OVMF.inteltdx.fd --manifest image.json
  kettle image measure --platform tpm --uki uki.efi`,
		Args: cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error {
			f.set = cmd.Flags().Changed
			return a.imageMeasure(cmd.Context(), f)
		}),
	}
	f.define(cmd)
	return cmd
}

func (f *measureFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.platform, "platform", "", "snp, tdx, tpm or sim (required)")
	flags.StringVar(&f.manifest, "manifest", "", "image manifest; its files lie beside it")
	flags.StringVar(&f.ovmf, "ovmf", "", "firmware file")
	flags.StringVar(&f.kernel, "kernel", "", "kernel of a direct boot")
	flags.StringVar(&f.initrd, "initrd", "", "initrd of a direct boot")
	flags.StringVar(&f.cmdline, "cmdline", "", "kernel command line of a direct boot")
	flags.StringVar(&f.uki, "uki", "", "unified kernel image with systemd-stub")
	flags.StringVar(&f.loader, "uki-from", "disk", "what starts the unified kernel image: disk, or qemu for QEMU's -kernel")
	flags.StringVar(&f.disk, "disk", "", "disk image that holds the unified kernel image; tdx measures its partition table")
	flags.StringVar(&f.variables, "variables", "", "with --uki, for sim: file of the firmware's variables as the machine finds them")
	flags.BoolVar(&f.secureBoot, "secure-boot", false, "the firmware enforces secure boot")
	flags.IntSliceVar(&f.vcpus, "vcpus", nil, "number of processors, for snp; several with commas")
	flags.StringSliceVar(&f.vcpuTypes, "vcpu-type", nil, "QEMU's model of the processors as EPYC-Milan, or a CPUID signature as 0xa00f11, for snp; several with commas")
	flags.StringVar(&f.vmm, "vmm", string(measure.QEMU), "whose virtual machine monitor, for snp: qemu, ec2, ec2-v1 or gce")
	flags.StringVar(&f.features, "guest-features", "0x1", "SEV_FEATURES of the guest, for snp")
	flags.Uint64Var(&f.memory, "memory", 0, "memory of the guest in MiB: adds the variant kernel-patched")
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions([]string{platformSNP, platformTDX, platformTPM, platformSim}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("vmm", cobra.FixedCompletions([]string{"qemu", "ec2", "ec2-v1", "gce"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("vcpu-type", cobra.FixedCompletions(measure.CPUNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("uki-from", cobra.FixedCompletions([]string{"disk", "qemu"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) imageMeasure(ctx context.Context, f measureFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	parts, err := f.parts()
	if err != nil {
		return err
	}
	parts.progress = a.io.Progress()
	defer parts.progress.Done()
	var values []measurement
	switch f.platform {
	case platformSNP:
		values, err = f.measureSNP(ctx, parts)
	case platformTDX:
		values, err = f.measureTDX(ctx, parts)
	case platformTPM:
		values, err = f.measureTPM(ctx, parts)
	case platformSim:
		values, err = f.measureSim(ctx, parts)
	}
	if err != nil {
		return err
	}
	if f.json {
		return commands.WriteJSON(a.io.Out, measureJSON{measureSchema, f.platform, values})
	}
	w := tabwriter.NewWriter(a.io.Out, 0, 0, 2, ' ', 0)
	for _, v := range values {
		shape := v.Variant
		if v.VCPUs > 0 {
			shape = strconv.Itoa(v.VCPUs) + " × " + orAny(v.VCPUType)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", v.Register, shape, v.Digest)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

func orAny(kind string) string {
	if kind == "" {
		return "any type"
	}
	return kind
}

// check refuses flags that contradict each other, and flags that the platform would not look at.
func (f measureFlags) check() error {
	belongs := map[string][]string{
		platformSNP: {"ovmf", "kernel", "initrd", "cmdline", "manifest", "vcpus", "vcpu-type", "vmm", "guest-features"},
		platformTDX: {"ovmf", "kernel", "initrd", "cmdline", "manifest", "uki", "uki-from", "disk", "secure-boot", "memory"},
		platformTPM: {"kernel", "initrd", "cmdline", "manifest", "uki", "uki-from", "secure-boot", "memory"},
		platformSim: {"ovmf", "kernel", "initrd", "cmdline", "manifest", "uki", "variables"},
	}
	allowed, ok := belongs[f.platform]
	if !ok {
		return cli.Usagef("--platform is required: snp, tdx, tpm or sim, got %.20q", f.platform)
	}
	mine := map[string]bool{}
	for _, name := range allowed {
		mine[name] = true
	}
	for _, name := range []string{"ovmf", "kernel", "initrd", "cmdline", "manifest", "uki", "uki-from", "disk", "variables", "secure-boot", "vcpus", "vcpu-type", "vmm", "guest-features", "memory"} {
		if f.set(name) && !mine[name] {
			return cli.Usagef("--%s says nothing about --platform %s", name, f.platform)
		}
	}
	return f.checkParts()
}

func (f measureFlags) checkParts() error {
	direct := f.set("kernel") || f.set("initrd") || f.set("cmdline")
	switch {
	case f.manifest != "" && (direct || f.uki != ""):
		return cli.Usagef("--manifest names kernel, initrd and command line already")
	case f.uki != "" && direct:
		return cli.Usagef("--uki holds kernel, initrd and command line already")
	case direct && f.kernel == "":
		return cli.Usagef("--initrd and --cmdline need --kernel")
	case f.uki == "" && (f.set("uki-from") || f.set("disk") || f.set("secure-boot")):
		return cli.Usagef("--uki-from, --disk and --secure-boot need --uki")
	case f.set("memory") && f.kernel == "" && f.manifest == "":
		return cli.Usagef("--memory needs --kernel or --manifest")
	case f.loader != "disk" && f.loader != "qemu":
		return cli.Usagef("--uki-from %.20q: want disk or qemu", f.loader)
	case f.platform == platformTPM && f.uki == "" && f.kernel == "" && f.manifest == "":
		return cli.Usagef("--platform tpm needs --uki, --kernel or --manifest")
	case (f.platform == platformSNP || f.platform == platformTDX || f.platform == platformSim) && f.ovmf == "" && f.manifest == "":
		return cli.Usagef("--platform %s needs --ovmf or --manifest", f.platform)
	case f.platform == platformSim && (f.uki == "") != (f.variables == ""):
		return cli.Usagef("--uki and --variables belong together on --platform sim: both are in the digest")
	case f.platform == platformSim && f.uki == "" && f.manifest == "" && (f.kernel == "" || f.initrd == "" || !f.set("cmdline")):
		return cli.Usagef("--platform sim needs --ovmf with --kernel, --initrd and --cmdline, or with --uki and --variables, or --manifest")
	case f.platform == platformTDX && f.uki != "" && f.loader == "disk" && f.disk == "":
		return cli.Usagef("--uki on --platform tdx needs --disk, whose partition table is measured, or --uki-from qemu")
	}
	return nil
}

// value names one digest.
func value(register, variant string, digest []byte) measurement {
	return measurement{Register: register, Variant: variant, Digest: hex.EncodeToString(digest)}
}
