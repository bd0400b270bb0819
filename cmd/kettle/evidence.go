// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
)

// evidenceFlags are the flags as written.
type evidenceFlags struct {
	certificate, collateral, crl, eventLog, payload, reportData, at, floor string
	roots, akRoots                                                         []string
	json                                                                   bool
}

// piece is one piece of evidence with the endorsements of the whole file.
type piece struct {
	evidence.Imported
	others []evidence.Endorsements
}

// demand is what every piece is judged with.
type demand struct {
	roots      appraise.Roots
	floor      floor.Floor
	at         time.Time
	payload    []byte // nil when none was named
	reportData []byte // nil, or what the quote has to carry
	eventLog   []byte // nil when none was named
}

func (a *app) evidenceCommand() *cobra.Command {
	group := &cobra.Command{Use: "evidence", Short: "Judge a piece of hardware evidence alone"}
	var f evidenceFlags
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify one piece of evidence",
		Long: `verify judges hardware evidence without the statements around it: is it genuine, does the platform reach the
floor, does an event log match it, and does it quote what you say it quotes. The kind is seen from the content:

  an SEV-SNP report, with its VCEK or VLEK in --certificate (DER or PEM) or in the table behind it
  a TDX quote, version 4 or 5, with Intel's documents in --collateral
  an AWS Nitro attestation document, of an enclave or an instance; its certificate lives three hours, so name --at
  the az-snp or az-tdx document of Kettle and trustee: a paravisor's report and the quote of its TPM
  a configfs-tsm report: a folder with provider, outblob and auxblob, or the three in one JSON object
  a CMW collection, a line of Kettle's own evidence, or a bundle file, in which each line of evidence is judged

Floors: signature asks whether it is genuine, and with --event-log whether that matches; default refuses debugging,
migration and firmware with known holes, by endorsements that are there and current; strict asks for more, such as
chips whose keys cannot be extracted. The launch measurement and registers are shown, not judged: that is what a policy
is for.`,
		Example: `  kettle evidence verify report.bin --certificate vcek.der
  kettle evidence verify quote.bin --collateral collateral.json --event-log ccel.bin
  kettle evidence verify evidence.json --floor signature --at 2026-11-21 --json
  kettle evidence verify /sys/kernel/config/tsm/report/mine --certificate vcek.der
  kettle evidence verify widget.tar.gz.intoto.jsonl --root sim/roots.pem`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(cmd *cobra.Command, args []string) error { return a.evidenceVerify(cmd.Context(), f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.certificate, "certificate", "", "VCEK or VLEK certificate of an SEV-SNP report (DER or PEM)")
	flags.StringVar(&f.collateral, "collateral", "", "Intel's TCB info, QE identity and revocation lists for a TDX quote (JSON)")
	flags.StringVar(&f.crl, "crl", "", "AMD's revocation list for an SEV-SNP report (DER)")
	flags.StringVar(&f.eventLog, "event-log", "", "event log of firmware and boot loader (CCEL or TPM, as the kernel shows it)")
	flags.StringVar(&f.payload, "payload", "", "file whose SHA-256 must be the first half of the report data")
	flags.StringVar(&f.reportData, "report-data", "", "the report data that the quote must carry, 128 hexadecimal digits; of a TPM, its extra data")
	flags.StringVar(&f.at, "at", "", "judge certificates at this time (default now)")
	flags.StringVar(&f.floor, "floor", floor.Default.String(), "how good the platform has to be: signature, default or strict")
	flags.StringArrayVar(&f.roots, "root", nil, "PEM file of a simulator's or private root; may be repeated")
	flags.StringArrayVar(&f.akRoots, "ak-root", nil, "PEM file of a provider's root for the attestation keys of its TPMs; may be repeated")
	flags.BoolVar(&f.json, "json", false, "print one JSON object for each piece of evidence")
	_ = cmd.RegisterFlagCompletionFunc("floor", cobra.FixedCompletions([]string{"signature", "default", "strict"}, cobra.ShellCompDirectiveNoFileComp))
	group.AddCommand(cmd)
	return group
}

func (a *app) evidenceVerify(ctx context.Context, f evidenceFlags, path string) error {
	d, err := f.demand()
	var pieces []piece
	if err == nil {
		pieces, err = f.pieces(path)
	}
	if err == nil && len(pieces) > 1 && (d.payload != nil || d.reportData != nil || d.eventLog != nil) {
		err = cli.Usagef("%s holds %d pieces of evidence: --payload, --report-data and --event-log need exactly one", path, len(pieces))
	}
	if err == nil {
		err = d.fits(pieces)
	}
	if err != nil {
		if f.json {
			return errors.Join(commands.WriteJSON(a.io.Out, evidenceFailure(f, err)), err)
		}
		return err
	}
	var errs []error
	for _, p := range pieces {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verifying evidence: %w", err)
		}
		j := d.judge(p)
		if err := a.showEvidence(f, d, j); err != nil {
			return err
		}
		errs = append(errs, j.err)
	}
	if err := errors.Join(errs...); err != nil {
		return &cli.ReportedError{Err: err}
	}
	return nil
}

// demand reads what the flags ask for.
func (f evidenceFlags) demand() (*demand, error) {
	d := new(demand)
	var err error
	if d.floor, err = floor.Parse(f.floor); err != nil {
		return nil, cli.Usagef("--floor: %w", err)
	}
	if d.at, err = parseTime(f.at); err != nil {
		return nil, err
	}
	if d.at.IsZero() {
		d.at = time.Now()
	}
	if d.roots, err = loadRoots(f.roots); err != nil {
		return nil, err
	}
	for _, path := range f.akRoots {
		b, err := readBounded(path, 64<<10)
		if err == nil {
			d.roots, err = d.roots.WithTPM(b)
		}
		if err != nil {
			return nil, cli.Usagef("--ak-root: %w", err)
		}
	}
	if f.reportData != "" {
		if d.reportData, err = hex.DecodeString(f.reportData); err != nil || len(d.reportData) > maxExtraData {
			return nil, cli.Usagef("--report-data: want 128 hexadecimal digits, got %.140q", f.reportData)
		}
	}
	if d.payload, err = optionalFile(f.payload, statement.MaxPayload); err != nil {
		return nil, err
	}
	d.eventLog, err = optionalFile(f.eventLog, evidence.MaxInput)
	return d, err
}

// fits refuses report data that no quote of this kind could carry. Only a TPM takes less than 64 bytes.
func (d *demand) fits(pieces []piece) error {
	hardware := slices.ContainsFunc(pieces, func(p piece) bool { return len(p.TPMQuote) == 0 && p.Kind != evidence.Nitro })
	if n := len(d.reportData); d.reportData != nil && (n == 0 || hardware && n != len([64]byte{})) {
		return cli.Usagef("--report-data: want 128 hexadecimal digits, got %d", 2*n)
	}
	return nil
}

// optionalFile reads a file that a flag may name; nil only where it names none.
func optionalFile(path string, limit int64) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readBounded(path, limit)
	if err != nil {
		return nil, err
	}
	return append([]byte{}, b...), nil
}

// pieces reads the evidence in a file or folder, by its content, and adds what the flags bring.
func (f evidenceFlags) pieces(path string) ([]piece, error) {
	imported, err := readEvidence(path)
	if err != nil {
		return nil, err
	}
	var all []evidence.Endorsements
	for i := range imported {
		if err := f.endorse(&imported[i].Endorsements, imported[i].Kind); err != nil {
			return nil, err
		}
		if own := imported[i].Endorsements; !slices.ContainsFunc(all, own.Equal) && !own.Empty() {
			all = append(all, own)
		}
	}
	out := make([]piece, len(imported))
	for i := range imported {
		out[i] = piece{imported[i], all}
	}
	return out, nil
}

// endorse gives one piece what the flags bring. Evidence that brings its own is not judged by another's.
func (f evidenceFlags) endorse(e *evidence.Endorsements, kind evidence.Kind) error {
	amd := kind == evidence.SNP || kind == evidence.AzureSNP
	intel := kind == evidence.TDX || kind == evidence.AzureTDX
	for _, b := range [...]struct {
		flag, path string
		fits       bool
		to         *[]byte
		read       func(string) ([]byte, error)
	}{
		{"--certificate", f.certificate, amd, &e.Leaf, readLeaf},
		{"--crl", f.crl, amd, &e.CRL, readList},
		{"--collateral", f.collateral, intel, &e.Collateral, func(p string) ([]byte, error) { return readBounded(p, 4<<20) }},
	} {
		switch {
		case b.path == "":
			continue
		case !b.fits:
			return cli.Usagef("%s is not for evidence of kind %s", b.flag, kind)
		case len(*b.to) > 0:
			return cli.Usagef("%s is for evidence that brings none: this brings its own", b.flag)
		}
		content, err := b.read(b.path)
		if err != nil {
			return err
		}
		*b.to = content
	}
	return nil
}

// readList reads AMD's revocation list. An empty file is no list: taken for none given, it would be no list to hold.
func readList(path string) ([]byte, error) {
	const limit = 4 << 20
	list, err := readBounded(path, limit)
	if err == nil && len(list) == 0 {
		err = &refusal.Refusal{
			Link: "endorsements", Code: refusal.Malformed, Want: "a revocation list in DER", Got: "an empty file",
			Next: "get it from AMD's key distribution service, or leave --crl away",
		}
	}
	return list, err
}

// readEvidence reads a file, or the folder of a configfs-tsm report.
func readEvidence(path string) ([]evidence.Imported, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err // it names operation and path
	}
	if info.IsDir() {
		return readTriple(path)
	}
	file, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, evidence.MaxInput+1)) // one more: Import refuses it
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return evidence.Import(b)
}

// readTriple reads what configfs-tsm shows for one report.
func readTriple(dir string) ([]evidence.Imported, error) {
	var parts [3][]byte
	for i, name := range [...]string{"provider", "outblob", "auxblob"} {
		b, err := readBounded(filepath.Join(dir, name), 1<<20)
		if name == "provider" && errors.Is(err, os.ErrNotExist) {
			return nil, cli.Usagef("%s is a folder without a configfs-tsm report: provider, outblob and auxblob are its files; name those, or one file", dir)
		}
		if err != nil && (name != "auxblob" || !errors.Is(err, os.ErrNotExist)) {
			return nil, err
		}
		parts[i] = b
	}
	e, err := evidence.Triple(string(parts[0]), parts[1], parts[2])
	if err != nil {
		return nil, err
	}
	return []evidence.Imported{{Evidence: e, Layout: evidence.LayoutTSM}}, e.Check()
}

// readLeaf reads a certificate in DER or PEM.
func readLeaf(path string) ([]byte, error) {
	leaf, err := readBounded(path, 64<<10)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(leaf); block != nil {
		return snp.EndorsementKey(leaf)
	}
	if len(leaf) == 0 {
		return nil, &refusal.Refusal{
			Link: "endorsements", Code: refusal.Malformed, Want: "a certificate in DER or PEM", Got: "an empty file",
			Next: "get it from AMD's key distribution service or the provider",
		}
	}
	return leaf, nil
}
