// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
)

// evidenceJSON is the output for one piece of evidence. What the quote says stands in it only when it is genuine.
type evidenceJSON struct {
	Schema      string            `json:"schema"`
	Verdict     string            `json:"verdict"`
	Evidence    string            `json:"evidence,omitempty"` // digest of a line
	Kind        string            `json:"kind,omitempty"`
	Genuine     bool              `json:"genuine"`
	Floor       string            `json:"floor"`
	Reasons     []reasonJSON      `json:"reasons,omitempty"`
	Platform    string            `json:"platform,omitempty"`
	Product     string            `json:"product,omitempty"`
	Purpose     string            `json:"purpose,omitempty"`
	Measurement string            `json:"measurement,omitempty"`
	Registers   map[string]string `json:"registers,omitempty"`
	ReportData  string            `json:"reportData,omitempty"`
	ExtraData   string            `json:"extraData,omitempty"` // of the TPM that speaks
	EventLog    string            `json:"eventLog,omitempty"`  // match or mismatch
	Boot        *bootJSON         `json:"boot,omitempty"`
	TCB         any               `json:"tcb,omitempty"`
	Flags       any               `json:"flags,omitempty"`
	Identities  map[string]string `json:"identities,omitempty"`
	Time        string            `json:"time,omitempty"`
	Notes       []string          `json:"notes,omitempty"`
	Error       string            `json:"error,omitempty"`
}

// evidenceFailure is the output when nothing could be judged.
func evidenceFailure(f evidenceFlags, err error) evidenceJSON {
	j := evidenceJSON{Schema: evidenceSchema, Floor: f.floor}
	j.Verdict, j.Reasons, j.Error = verdict(err)
	return j
}

func (j judged) json(d *demand) evidenceJSON {
	out := evidenceJSON{
		Schema: evidenceSchema, Evidence: j.piece.Digest, Kind: string(j.piece.Layout), Genuine: j.quote != nil, Floor: d.floor.String(),
		Time: d.at.UTC().Format(time.RFC3339), Notes: j.notes,
	}
	out.Verdict, out.Reasons, out.Error = verdict(j.err)
	q := j.quote
	if q == nil {
		return out
	}
	e := q.Environment()
	out.Platform, out.Registers = q.Platform(), e.Registers
	if e.Measurement != [48]byte{} {
		out.Measurement = hex.EncodeToString(e.Measurement[:])
	}
	if r := q.Report(); r != nil {
		data := r.ReportData()
		out.Product, out.ReportData = string(r.Line()), hex.EncodeToString(data[:])
	}
	if td := q.TD(); td != nil {
		data := td.ReportData()
		out.Product, out.ReportData = "TDX", hex.EncodeToString(data[:])
	}
	if q.Document() != nil {
		out.Product = "Nitro"
	}
	if extra, ok := q.ExtraData(); ok {
		out.ExtraData = hex.EncodeToString(extra)
	}
	out.EventLog, out.Boot = j.logVerdict(d), bootOf(j.account)
	out.TCB, out.Flags, out.Identities = tcbOf(q), flagsOf(q), identitiesOf(q)
	if c := j.piece.Collection; c != nil {
		if ctx, err := binding.Parse(c.Binding); err == nil {
			out.Purpose = string(ctx.Purpose)
		}
	}
	return out
}

// logVerdict says what came of an event log, "" where there was none.
func (j judged) logVerdict(d *demand) string {
	switch {
	case j.account != nil:
		return "match"
	case d.log(j.piece) != nil:
		return "mismatch"
	}
	return ""
}

// showEvidence prints one piece on the output stream.
func (a *app) showEvidence(f evidenceFlags, d *demand, j judged) error {
	out := j.json(d)
	if f.json {
		a.io.Report("kettle", j.err)
		return commands.WriteJSON(a.io.Out, out)
	}
	var b strings.Builder
	name := string(j.piece.Kind) + " evidence"
	if out.Evidence != "" {
		name = "evidence " + short(out.Evidence)
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
	if j.quote != nil {
		out.rows(j, row)
	}
	row("judged at", out.Time)
	for _, r := range refusal.All(j.err) {
		fmt.Fprintf(&b, "%s %s (%s)\n%s", a.io.Styled(cli.Red, "✗"), cli.Clean(r.Link), r.Code, cli.Refusal(r, "     "))
	}
	if out.Error != "" {
		fmt.Fprintf(&b, "%s %s\n", a.io.Styled(cli.Red, "✗"), out.Error)
	}
	for _, n := range out.Notes {
		fmt.Fprintf(&b, "   %s\n", a.io.Styled(cli.Dim, "note: "+cli.Clean(n)))
	}
	_, err := fmt.Fprint(a.io.Out, b.String())
	return errors.Join(err)
}

// rows writes what a genuine quote says.
func (out evidenceJSON) rows(j judged, row func(name, value string)) {
	what, root := j.quote.Describe()
	row("quote", what)
	row("root", root)
	row("purpose", out.Purpose)
	row("measurement", out.Measurement)
	row("report data", out.ReportData)
	row("extra data", out.ExtraData)
	if r := j.quote.Report(); r != nil {
		row("tcb", r.ReportedTCB().String())
		row("policy", fmt.Sprintf("%#x: %s, VMPL %d", uint64(r.Policy()), strings.Join(r.Policy().Names(), ", "), r.VMPL()))
	}
	if td := j.quote.TD(); td != nil {
		if t, ok := j.quote.TCB(); ok {
			row("tcb", t.String())
		}
		row("attributes", fmt.Sprintf("%#x, debug %v", uint64(td.Attributes()), td.Attributes().Debug()))
	}
	for _, name := range registerNames(out.Registers) {
		if strings.Trim(out.Registers[name], "0") != "" {
			row(name, out.Registers[name])
		}
	}
	row("chip", out.Identities["chipId"]+out.Identities["ppid"])
	row("event log", out.EventLog)
	if out.Boot != nil {
		row("secure boot", out.Boot.SecureBoot)
		row("firmware", out.Boot.Firmware)
		for _, c := range out.Boot.CommandLines {
			row("command line", c)
		}
	}
}
