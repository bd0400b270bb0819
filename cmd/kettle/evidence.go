// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
)

// evidenceFlags are the flags as written.
type evidenceFlags struct {
	certificate, payload, reportData, at, floor string
	roots                                       []string
	json                                        bool
}

// piece is one piece of evidence and what it has to say.
type piece struct {
	name         string // "" or the line's digest
	report       []byte
	leaf         []byte               // DER; read from the endorsements where nil and there is a collection
	endorsements [][]byte             // of the whole file
	bundled      *evidence.Collection // nil for a raw report
}

// demand is what every piece is judged with.
type demand struct {
	roots      []snp.Root
	floor      floor.Floor
	at         time.Time
	payload    []byte // nil when none was named
	reportData []byte // nil, or 64 bytes
}

// judged is what came out for one piece.
type judged struct {
	piece  piece
	report *snp.Report // nil unless it is genuine
	err    error
}

func (a *app) evidenceCommand() *cobra.Command {
	group := &cobra.Command{Use: "evidence", Short: "Judge a piece of hardware evidence alone"}
	var f evidenceFlags
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify one piece of evidence",
		Long: `verify judges hardware evidence without the statements around it: is it genuine, does the platform reach the
floor, and does it quote what you say it quotes. The kind is seen from the content:

  a raw SEV-SNP report of 1184 bytes, with its VCEK or VLEK in --certificate (DER or PEM)
  a line of Kettle's own evidence, or a bundle file, in which each line of evidence is judged

Floors: signature asks for a genuine quote only; default refuses debugging, migration and firmware with known holes;
strict refuses chips whose keys can be extracted, too. The launch measurement is shown, not judged: that is what a
policy is for.`,
		Example: `  kettle evidence verify report.bin --certificate vcek.der
  kettle evidence verify report.bin --certificate vcek.der --floor signature --at 2026-11-21 --json
  kettle evidence verify report.bin --certificate vcek.der --report-data 7465...
  kettle evidence verify widget.tar.gz.intoto.jsonl --root sim/roots.pem`,
		Args: cobra.ExactArgs(1),
		RunE: a.does(func(cmd *cobra.Command, args []string) error { return a.evidenceVerify(cmd.Context(), f, args[0]) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.certificate, "certificate", "", "VCEK or VLEK certificate of a raw report (DER or PEM)")
	flags.StringVar(&f.payload, "payload", "", "file whose SHA-256 must be the first half of the report data")
	flags.StringVar(&f.reportData, "report-data", "", "the report data that the quote must carry, 128 hexadecimal digits")
	flags.StringVar(&f.at, "at", "", "judge certificates at this time (default now)")
	flags.StringVar(&f.floor, "floor", floor.Default.String(), "how good the platform has to be: signature, default or strict")
	flags.StringArrayVar(&f.roots, "root", nil, "PEM file of a simulator's or private root, ASK then ARK; may be repeated")
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
	if err == nil && len(pieces) > 1 && (d.payload != nil || d.reportData != nil) {
		err = cli.Usagef("%s holds %d pieces of evidence: --payload and --report-data need exactly one", path, len(pieces))
	}
	if err != nil {
		if f.json {
			return errors.Join(writeJSON(a.io.Out, evidenceFailure(f, err)), err)
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
	if f.reportData != "" {
		if d.reportData, err = hex.DecodeString(f.reportData); err != nil || len(d.reportData) != 64 {
			return nil, cli.Usagef("--report-data: want 128 hexadecimal digits, got %q", f.reportData)
		}
	}
	if f.payload != "" {
		if d.payload, err = readBounded(f.payload, statement.MaxPayload); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// pieces reads the evidence in a file, by its content.
func (f evidenceFlags) pieces(path string) ([]piece, error) {
	b, err := readBounded(path, bundle.MaxFile)
	if err != nil {
		return nil, err
	}
	if len(b) == snp.ReportSize && b[0] != '{' {
		return f.rawReport(b)
	}
	var out []piece
	for _, line := range bytes.Split(b, []byte{'\n'}) {
		if line = bytes.TrimRight(line, "\r"); !evidence.Is(line) {
			continue
		}
		c, err := evidence.Parse(line)
		if err != nil {
			return nil, err
		}
		name := "sha256:" + evidence.Digest(line).String()
		if !slices.ContainsFunc(out, func(p piece) bool { return p.name == name }) {
			out = append(out, piece{name: name, report: c.Report, bundled: c})
		}
	}
	if len(out) == 0 {
		return nil, unknownKind(path, b)
	}
	return out, f.endorse(out)
}

// endorse gives each piece the certificates of the others: they travel once in a file. --certificate is for a file that
// has none.
func (f evidenceFlags) endorse(pieces []piece) error {
	var all [][]byte
	for _, p := range pieces {
		if len(p.bundled.Endorsements) > 0 {
			all = append(all, p.bundled.Endorsements)
		}
	}
	switch {
	case f.certificate != "" && len(all) > 0:
		return cli.Usagef("--certificate is for evidence that brings none: this brings its own")
	case f.certificate != "":
		leaf, err := readLeaf(f.certificate)
		if err != nil {
			return err
		}
		all = [][]byte{leaf}
	}
	for i := range pieces {
		pieces[i].endorsements = all
	}
	return nil
}

func (f evidenceFlags) rawReport(report []byte) ([]piece, error) {
	if f.certificate == "" {
		return nil, &refusal.Refusal{
			Link: "endorsements", Code: refusal.EndorsementsMissing, Want: "the VCEK or VLEK certificate of a raw report", Got: "none",
			Next: "get it from AMD's key distribution service or the provider, and name it with --certificate",
		}
	}
	leaf, err := readLeaf(f.certificate)
	if err != nil {
		return nil, err
	}
	return []piece{{report: report, leaf: leaf}}, nil
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
	return leaf, nil
}

// unknownKind says what a file is when it can be seen, and what is missing to judge it.
func unknownKind(path string, b []byte) error {
	const tdx, teeTDX, quoteHeader = "an Intel TDX quote", 0x81, 48
	kind := ""
	switch {
	case len(b) > quoteHeader && (b[0] == 4 || b[0] == 5) && b[1] == 0 && b[4] == teeTDX:
		kind = tdx
	case bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) && bytes.Contains(b, []byte(`"tpm_quote"`)):
		kind = "evidence of a cloud's virtual TPM"
	case bytes.Contains(b, []byte("\xffTCG")):
		kind = "a TPM quote"
	}
	if kind != "" {
		return &attest.UnsupportedError{Kind: path + " is " + kind, Need: "this version judges SEV-SNP reports and Kettle's own evidence"}
	}
	return &refusal.Refusal{
		Link: "evidence", Code: refusal.Malformed, Want: "a SEV-SNP report of 1184 bytes, or a line of Kettle's evidence",
		Got: fmt.Sprintf("%d bytes of something else", len(b)), Next: "name the file as the machine or the runner wrote it",
	}
}

// judge asks in turn whether the evidence is genuine, whether the platform is good enough, and whether it quotes what
// it should. What follows a genuine quote is joined, so that all faults are seen.
func (d *demand) judge(p piece) judged {
	j := judged{piece: p}
	if p.bundled != nil {
		q, err := appraise.Verify(p.bundled, p.endorsements, d.roots, d.at)
		if err != nil {
			j.err = err
			return j
		}
		j.report = q.Report()
	} else if j.report, j.err = snp.Verify(p.report, p.leaf, d.roots, d.at); j.err != nil {
		return j
	}
	j.err = errors.Join(j.report.Meets(d.floor), d.bound(p, j.report.ReportData()))
	return j
}

// bound compares the report data with what was asked for.
func (d *demand) bound(p piece, got [64]byte) error {
	var errs []error
	mismatch := func(want string, got []byte) {
		errs = append(errs, &refusal.Refusal{
			Link: "binding", Code: refusal.Binding, Want: want, Got: hex.EncodeToString(got),
			Next: "the quote was made for something else; take the evidence that belongs to it",
		})
	}
	if d.reportData != nil && subtle.ConstantTimeCompare(d.reportData, got[:]) != 1 {
		mismatch("report data "+hex.EncodeToString(d.reportData), got[:])
	}
	if d.payload != nil {
		sum := binding.Sum(d.payload)
		if subtle.ConstantTimeCompare(sum[:], got[:32]) != 1 {
			mismatch("report data that starts with the payload's SHA-256, "+sum.String(), got[:32])
		}
	}
	if p.bundled != nil {
		sum := binding.Sum(p.bundled.Binding)
		if subtle.ConstantTimeCompare(sum[:], got[32:]) != 1 {
			mismatch("report data that ends with the SHA-256 of the binding beside it, "+sum.String(), got[32:])
		}
		if _, err := binding.Parse(p.bundled.Binding); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// notes says what the verdict leaves open.
func (d *demand) notes(p piece) []string {
	notes := []string{"revocation: not checked", "measurement: shown, not judged"}
	if d.payload == nil && d.reportData == nil {
		notes = append(notes, "report data: shown, not compared with anything of yours")
	} else if p.bundled == nil && d.reportData == nil {
		notes = append(notes, "report data: the second half was not compared with anything")
	}
	return notes
}

// kind names what was judged.
func (p piece) kind() string {
	if p.bundled == nil {
		return "snp-report"
	}
	return strings.TrimPrefix(evidence.MediaType, "application/")
}
