// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/cmd/internal/cli"
)

// evidenceJSON is the output for one piece of evidence. What the quote says stands in it only when it is genuine.
type evidenceJSON struct {
	Schema      string             `json:"schema"`
	Verdict     string             `json:"verdict"`
	Evidence    string             `json:"evidence,omitempty"` // digest of a line
	Kind        string             `json:"kind,omitempty"`
	Genuine     bool               `json:"genuine"`
	Floor       string             `json:"floor"`
	Reasons     []reasonJSON       `json:"reasons,omitempty"`
	Platform    string             `json:"platform,omitempty"`
	Product     string             `json:"product,omitempty"`
	Purpose     string             `json:"purpose,omitempty"`
	Measurement string             `json:"measurement,omitempty"`
	ReportData  string             `json:"reportData,omitempty"`
	TCB         map[string]tcbJSON `json:"tcb,omitempty"`
	Flags       *flagsJSON         `json:"flags,omitempty"`
	Identities  map[string]string  `json:"identities,omitempty"`
	Time        string             `json:"time,omitempty"`
	Notes       []string           `json:"notes,omitempty"`
	Error       string             `json:"error,omitempty"`
}

type tcbJSON struct {
	FMC        uint8 `json:"fmc"`
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

type flagsJSON struct {
	Policy         string `json:"policy"`
	PlatformInfo   string `json:"platformInfo"`
	ReportVersion  uint32 `json:"reportVersion"`
	VMPL           uint32 `json:"vmpl"`
	Debug          bool   `json:"debug"`
	MigrationAgent bool   `json:"migrationAgent"`
	SMT            bool   `json:"smt"`
	AliasCheck     bool   `json:"aliasCheckComplete"`
	CiphertextHide bool   `json:"ciphertextHiding"`
}

// evidenceFailure is the output when nothing could be judged.
func evidenceFailure(f evidenceFlags, err error) evidenceJSON {
	j := evidenceJSON{Schema: evidenceSchema, Floor: f.floor}
	j.Verdict, j.Reasons, j.Error = verdict(err)
	return j
}

func (j judged) json(d *demand) evidenceJSON {
	out := evidenceJSON{
		Schema: evidenceSchema, Evidence: j.piece.name, Kind: j.piece.kind(), Genuine: j.report != nil, Floor: d.floor.String(),
		Time: d.at.UTC().Format(time.RFC3339), Notes: d.notes(j.piece),
	}
	out.Verdict, out.Reasons, out.Error = verdict(j.err)
	r := j.report
	if r == nil {
		return out
	}
	measurement, data := r.Measurement(), r.ReportData()
	out.Platform, out.Product = r.Platform(), string(r.Line())
	out.Measurement, out.ReportData = hex.EncodeToString(measurement[:]), hex.EncodeToString(data[:])
	out.TCB = map[string]tcbJSON{
		"reported": tcbJSON(r.ReportedTCB()), "committed": tcbJSON(r.CommittedTCB()), "current": tcbJSON(r.CurrentTCB()),
		"launch": tcbJSON(r.LaunchTCB()),
	}
	out.Flags = &flagsJSON{
		Policy: fmt.Sprintf("%#x", uint64(r.Policy())), PlatformInfo: fmt.Sprintf("%#x", uint64(r.PlatformInfo())),
		ReportVersion: r.Version(), VMPL: r.VMPL(), Debug: r.Policy().Debug(), MigrationAgent: r.Policy().MigrationAgent(),
		SMT: r.Policy().SMT(), AliasCheck: r.PlatformInfo().AliasCheckComplete(), CiphertextHide: r.PlatformInfo().CiphertextHiding(),
	}
	out.Identities = identities(r)
	if j.piece.bundled != nil {
		if ctx, err := binding.Parse(j.piece.bundled.Binding); err == nil {
			out.Purpose = string(ctx.Purpose)
		}
	}
	return out
}

// identities gives every name in the report that is not blank.
func identities(r *snp.Report) map[string]string {
	report, chip, host, id := r.ReportID(), r.ChipID(), r.HostData(), r.IDKeyDigest()
	family, image, root := r.FamilyID(), r.ImageID(), r.Root().Fingerprint()
	out := map[string]string{"signingKey": r.SigningKey(), "endorsementExpires": r.EndorsementExpires().UTC().Format(time.RFC3339)}
	add := func(name string, b []byte) {
		if strings.Trim(string(b), "\x00") != "" {
			out[name] = hex.EncodeToString(b)
		}
	}
	add("root", root[:])
	add("reportId", report[:])
	add("chipId", chip[:])
	add("hostData", host[:])
	add("familyId", family[:])
	add("imageId", image[:])
	add("idKeyDigest", id[:])
	if author, ok := r.AuthorKeyDigest(); ok {
		add("authorKeyDigest", author[:])
	}
	if p := r.Provider(); p != "" {
		out["provider"] = p
	}
	return out
}

// showEvidence prints one piece on the output stream.
func (a *app) showEvidence(f evidenceFlags, d *demand, j judged) error {
	out := j.json(d)
	if f.json {
		a.io.Report("kettle", j.err)
		return writeJSON(a.io.Out, out)
	}
	var b strings.Builder
	name := "SEV-SNP report"
	if j.piece.name != "" {
		name = "evidence " + short(j.piece.name)
	}
	fmt.Fprintf(&b, "%s %s\n", a.io.Styled(cli.Bold, name), headline(a.io, j.err))
	genuine := a.io.Styled(cli.Green, "yes")
	if !out.Genuine {
		genuine = a.io.Styled(cli.Red, "NO")
	}
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "   %-12s %s\n", name, cli.Clean(value))
		}
	}
	fmt.Fprintf(&b, "   %-12s %s\n", "genuine", genuine)
	row("floor", out.Floor)
	if r := j.report; r != nil {
		row("platform", out.Platform+", "+out.Product+" line, "+r.SigningKey())
		row("purpose", out.Purpose)
		row("measurement", out.Measurement)
		row("report data", out.ReportData)
		row("tcb", r.ReportedTCB().String())
		row("policy", fmt.Sprintf("%s, debug %v, VMPL %d", out.Flags.Policy, out.Flags.Debug, out.Flags.VMPL))
		row("chip", out.Identities["chipId"])
	}
	row("judged at", out.Time)
	for _, r := range refusal.All(j.err) {
		fmt.Fprintf(&b, "%s %s (%s)\n%s", a.io.Styled(cli.Red, "✗"), cli.Clean(r.Link), r.Code, cli.Refusal(r, "     "))
	}
	if out.Error != "" {
		fmt.Fprintf(&b, "%s %s\n", a.io.Styled(cli.Red, "✗"), out.Error)
	}
	for _, n := range out.Notes {
		fmt.Fprintf(&b, "   %s\n", a.io.Styled(cli.Dim, "note: "+n))
	}
	if _, err := fmt.Fprint(a.io.Out, b.String()); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}
