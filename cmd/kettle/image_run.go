// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/idblock"
	"github.com/kettle/attest/image/launch"
)

// The ways to boot an image.
const (
	profileDirect = "direct"
	profileUKI    = "uki"
)

// runFlags are the flags as written.
type runFlags struct {
	imageVerifyFlags
	profile, platform, console      string
	firmware, variables             string
	simulator, simRoot              string
	vcpuType, idBlock, idAuth, qgs  string
	guestPolicy                     uint64
	memory, cpus                    int
	forwards                        []string
	unverified, printOnly, jsonLine bool
	set                             func(name string) bool // whether a flag was written
}

func (a *app) imageRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run IMAGE --policy FILE --trusted-root FILE [--profile direct|uki] [--platform sim|snp|tdx]",
		Short: "Verify an image and start it",
		Long: `run verifies an image folder as kettle image verify does, starts it in QEMU, and shows what the machine says until it turns
itself off. An image that does not verify is not started; --unverified starts one that nobody looked at, and says so.

There are two ways to boot the same disk, and each is measured:

  direct  firmware, kernel, initrd and command line are handed to QEMU, and the disk for the root and the bundle
  uki     firmware of UEFI (Debian's package ovmf) finds the unified kernel image in the disk's EFI system partition, and measures
          it into a TPM that swtpm plays

and three platforms:

  sim     this program plays the secure processor: it measures what it really starts, and signs quotes with a root of its own.
          Needs no hardware, and proves nothing to anybody else. Neither does the TPM: who launches the machine owns it
  snp     AMD SEV-SNP: Linux 6.11 and QEMU 9.1 or later, kernel hashes on, the guest policy of --guest-policy
  tdx     Intel TDX: Linux 6.16 and QEMU 10.1 or later, quotes from the host's quote generation service

On a machine that cannot launch on the platform, run prints QEMU's command line for one that can, and exits with 6.

The machine verifies itself before anything else: "self-verified" is the line to wait for. An image takes its simulated
processor's quotes only from the root that is in its configuration: give the folder of that one with --simulator.
This command gives the machine no credential. One whose configuration takes it by admission asks the dispatcher for it;
kettle-dispatch run starts the others.`,
		Example: `  kettle image run image --policy policy.yaml --trusted-root trusted_root.json --simulator sim
  kettle image run image --policy policy.yaml --trusted-root trusted_root.json --simulator sim --profile uki --json
  kettle image run image --unverified --platform snp --vcpu-type EPYC-Milan --firmware OVMF.amdsev.fd --print-command`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(cmd *cobra.Command, args []string) error {
			f.set = cmd.Flags().Changed
			return a.imageRun(cmd.Context(), f, args[0])
		}),
	}
	f.define(cmd)
	return cmd
}

func (f *runFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", profileDirect, "how to boot: direct or uki")
	flags.StringVar(&f.platform, "platform", platformSim, "sim, snp or tdx")
	flags.StringVar(&f.bundle, "bundle", "", "file with the image's statements, or oci://REGISTRY/OWNER/NAME[:TAG] (default IMAGE/"+imageBundle+")")
	registryRootFlag(cmd, &f.registryRoot)
	flags.StringVar(&f.policy, "policy", "", "policy file")
	flags.StringVar(&f.trustedRoot, "trusted-root", "", "trusted_root.json of the Sigstore instance that signs images")
	flags.BoolVar(&f.unverified, "unverified", false, "start an image that nobody verified, in place of --policy and --trusted-root")
	flags.IntVar(&f.memory, "memory", 2048, "the machine's memory in MiB")
	flags.IntVar(&f.cpus, "cpus", 1, "the machine's processors")
	flags.StringVar(&f.console, "console", "", "file that the serial line is written to")
	flags.StringArrayVar(&f.forwards, "forward", nil, "GUEST=HOST: let the machine reach one endpoint, as 10.0.2.100:443=127.0.0.1:8443; again for more")
	flags.StringVar(&f.simulator, "simulator", "", "folder of the simulated processor's root, made if it is not there (default: a root for this run alone)")
	flags.StringVar(&f.simRoot, "sim-root", "", "write the simulated processor's root to this file, for --root of other commands")
	flags.StringVar(&f.firmware, "firmware", "", "firmware (default: the image's; with --profile uki Debian's OVMF)")
	flags.StringVar(&f.variables, "variables", "", "with --profile uki: file of the firmware's variables, which stays as it is (default: Debian's, without keys)")
	flags.StringVar(&f.vcpuType, "vcpu-type", "", "with --platform snp: QEMU's model of the processors, which is measured, as EPYC-Milan")
	flags.Uint64Var(&f.guestPolicy, "guest-policy", launch.GuestPolicy, "with --platform snp: the guest policy")
	flags.StringVar(&f.idBlock, "id-block", "", "with --platform snp: file with an ID block; needs --id-auth")
	flags.StringVar(&f.idAuth, "id-auth", "", "with --platform snp: file with the ID block's authentication information")
	flags.StringVar(&f.qgs, "quote-service", "/var/run/tdx-qgs/qgs.socket", "with --platform tdx: socket of the quote generation service")
	flags.BoolVar(&f.printOnly, "print-command", false, "print QEMU's command line and start nothing")
	flags.BoolVar(&f.jsonLine, "json", false, "print one JSON object a line, for each event")
	fixed := func(flag string, values ...string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	fixed("profile", profileDirect, profileUKI)
	fixed("platform", platformSim, platformSNP, platformTDX)
}

func (f runFlags) check() error {
	belongs := map[string]bool{
		"simulator": f.platform == platformSim, "sim-root": f.platform == platformSim, "variables": f.profile == profileUKI,
		"vcpu-type": f.platform == platformSNP, "guest-policy": f.platform == platformSNP, "id-block": f.platform == platformSNP,
		"id-auth": f.platform == platformSNP, "quote-service": f.platform == platformTDX,
	}
	for name, mine := range belongs {
		if f.set(name) && !mine {
			return cli.Usagef("--%s says nothing about --profile %s --platform %s", name, f.profile, f.platform)
		}
	}
	switch {
	case f.profile != profileDirect && f.profile != profileUKI:
		return cli.Usagef("--profile %.20q: want direct or uki", f.profile)
	case f.platform != platformSim && f.platform != platformSNP && f.platform != platformTDX:
		return cli.Usagef("--platform %.20q: want sim, snp or tdx", f.platform)
	case f.platform != platformSim && f.profile == profileUKI:
		return cli.Usagef("--profile uki is for --platform sim: the hardware measures a kernel that is handed over")
	case f.platform == platformSNP && f.vcpuType == "":
		return cli.Usagef("--platform snp needs --vcpu-type: the type of the processors is in the digest")
	case (f.idBlock == "") != (f.idAuth == ""):
		return cli.Usagef("--id-block and --id-auth belong together")
	case f.unverified && (f.policy != "" || f.trustedRoot != "" || f.bundle != ""):
		return cli.Usagef("--unverified looks at no policy, root or bundle: leave it out, or them")
	case !f.unverified && (f.policy == "" || f.trustedRoot == ""):
		return cli.Usagef("--policy and --trusted-root are required: an image is verified before it is started. --unverified starts it without")
	}
	return nil
}

// imageRun verifies, starts and follows.
func (a *app) imageRun(ctx context.Context, f runFlags, dir string) error {
	if err := f.check(); err != nil {
		return err
	}
	m, err := a.accepted(ctx, f, dir)
	if err != nil {
		return err
	}
	c, err := f.launchConfig(dir, m)
	if err != nil {
		return err
	}
	if f.printOnly {
		return a.printCommand(c)
	}
	if c.Hardware != nil {
		if err := launch.Supported(ctx, c.Hardware.Platform); err != nil {
			return errors.Join(a.printCommand(c), err)
		}
	} else if err := f.simulate(&c); err != nil {
		return err
	}
	want, err := a.predicted(ctx, f, dir, m, c)
	if err != nil {
		return err
	}
	vm, err := launch.Start(ctx, c)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, launch.ErrNoKVM) {
		return &lackingError{err, "QEMU and swtpm"}
	}
	if err != nil {
		return err
	}
	run := newRunLog(a.io, f.jsonLine, vm.Timings().Started)
	if err = expected(vm, want); err == nil {
		err = run.follow(ctx, vm, runEvent{Image: m.Name, Profile: f.profile, Platform: f.platform, Acceleration: string(vm.Acceleration())})
	}
	vm.Kill() // no harm to one that has ended
	waitErr := vm.Wait()
	err = errors.Join(err, vm.Control().Close())
	if errors.Is(waitErr, context.Canceled) && ctx.Err() == nil { // by us
		waitErr = nil
	}
	return errors.Join(err, waitErr)
}

// accepted gives the manifest of an image that was verified, or of one that nobody shall verify.
func (a *app) accepted(ctx context.Context, f runFlags, dir string) (*image.Manifest, error) {
	if f.unverified {
		fmt.Fprintf(a.io.Err, "kettle: %s is started unverified: nobody has said whose it is, nor that its files are the ones that it names\n", cli.Clean(dir))
		b, err := readBounded(filepath.Join(dir, image.ManifestName), maxManifestFile)
		if err != nil {
			return nil, &cli.UsageError{Err: err}
		}
		m, err := image.Parse(b)
		if err != nil {
			return nil, cli.Usagef("%s: %w", dir, err)
		}
		return m, nil
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, cli.Usagef("%.200q is no image folder", dir)
	}
	v, _, err := a.judgeImage(ctx, f.imageVerifyFlags, dir)
	if v == nil {
		return nil, err
	}
	if v.err != nil {
		f.imageVerifyFlags.json = f.jsonLine
		return nil, errors.Join(a.showImageVerdict(f.imageVerifyFlags, v), &cli.ReportedError{Err: v.err})
	}
	signer := v.image.Signer()
	fmt.Fprintf(a.io.Err, "kettle: %s is verified: signed on %s by %s\n", cli.Clean(dir), v.image.SignedOn().UTC().Format(time.RFC3339), cli.Clean(signer.SAN))
	return v.folder.manifest, nil
}

// printCommand prints QEMU's command line, so that a shell takes it as it is.
func (a *app) printCommand(c launch.Config) error {
	if c.Hardware == nil && c.NewProcessor == nil {
		c.NewProcessor = func([48]byte) (launch.Processor, error) { return nil, fs.ErrInvalid } // it is only printed
	}
	words, err := launch.Command(c)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	for i, w := range words {
		if strings.IndexFunc(w, func(r rune) bool { return !strings.ContainsRune(plainLetters, r) }) >= 0 {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	if _, err := fmt.Fprintln(a.io.Out, strings.ReplaceAll(strings.Join(words, " "), " -", " \\\n  -")); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

// plainLetters mean nothing to a shell.
const plainLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./,:=+@%"

// launchConfig says what is started.
func (f runFlags) launchConfig(dir string, m *image.Manifest) (launch.Config, error) {
	file := func(name string) string { return filepath.Join(dir, name) }
	c := launch.Config{
		Firmware: file(m.Files.Firmware.Name), MemoryMiB: f.memory, CPUs: f.cpus, Acceleration: launch.Auto, Console: f.console, Disk: file(imageDisk),
	}
	var err error
	if c.Forwards, err = parseForwards(f.forwards); err != nil {
		return c, err
	}
	if _, err := os.Stat(c.Disk); err != nil {
		return c, cli.Usagef("%w; kettle image build --format raw makes it", err)
	}
	if f.profile == profileUKI {
		code, variables, err := launch.FindOVMF()
		if err != nil && (f.firmware == "" || f.variables == "") {
			return c, &lackingError{err, "ovmf"}
		}
		c.Firmware, c.UKI = code, &launch.UKI{Variables: variables}
		if f.variables != "" {
			c.UKI.Variables = f.variables
		}
	} else {
		c.Kernel, c.Initrd, c.CommandLine = file(m.Files.Kernel.Name), file(m.Files.Initrd.Name), m.CommandLine
	}
	if f.firmware != "" {
		c.Firmware = f.firmware
	}
	switch f.platform {
	case platformSNP:
		c.Hardware = &launch.Hardware{Platform: launch.SNP, CPU: f.vcpuType, Policy: f.guestPolicy}
		c.Hardware.IDBlock, err = f.readIDBlock()
	case platformTDX:
		c.Hardware = &launch.Hardware{Platform: launch.TDX, Quotes: f.qgs}
	}
	return c, err
}

// readIDBlock reads and checks the block that the launch is signed with; none is fine.
func (f runFlags) readIDBlock() (*idblock.Signed, error) {
	if f.idBlock == "" {
		return nil, nil //nolint:nilnil // a launch without one is a valid one.
	}
	block, err := readBounded(f.idBlock, idblock.Size)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	auth, err := readBounded(f.idAuth, idblock.AuthSize)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	signed, err := idblock.Read(block, auth)
	if err != nil {
		return nil, err
	}
	_, err = idblock.Verify(signed)
	return signed, err
}

// simulate makes the simulated processor's root, or takes an earlier one.
func (f runFlags) simulate(c *launch.Config) error {
	now := time.Now()
	var authority *sim.Authority
	err := fs.ErrNotExist
	if f.simulator != "" {
		if authority, err = sim.LoadAuthority(f.simulator); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return cli.Usagef("--simulator: %w", err)
		}
	}
	if err != nil {
		if authority, err = sim.NewAuthority(now); err != nil {
			return err
		}
		if f.simulator != "" {
			if err := authority.Save(f.simulator); err != nil {
				return cli.Usagef("--simulator: %w", err)
			}
		}
	}
	if f.simRoot != "" {
		if err := writeWhole(f.simRoot, authority.RootsPEM(), 0o644); err != nil {
			return err
		}
	}
	c.NewProcessor = func(digest [48]byte) (launch.Processor, error) { return authority.NewProcessor(digest, time.Now()) }
	return nil
}

// parseForwards reads GUEST=HOST.
func parseForwards(words []string) ([]launch.Forward, error) {
	var out []launch.Forward
	for _, word := range words {
		guest, host, _ := strings.Cut(word, "=")
		g, err := netip.ParseAddrPort(guest)
		h, err2 := netip.ParseAddrPort(host)
		if err != nil || err2 != nil || !g.Addr().Is4() || !h.Addr().Is4() {
			return nil, cli.Usagef("--forward %.100q: want two endpoints of IPv4, as in 10.0.2.100:443=127.0.0.1:8443", word)
		}
		out = append(out, launch.Forward{Guest: g, Host: h})
	}
	return out, nil
}
