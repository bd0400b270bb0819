// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
)

// inspectJSON is the output of kettle inspect: what a file says. It claims nothing.
type inspectJSON struct {
	Schema string     `json:"schema"`
	File   string     `json:"file"`
	Lines  []lineJSON `json:"lines,omitempty"`
	Error  string     `json:"error,omitempty"`
}

// lineJSON is one line of a bundle file, or a whole file of another kind.
type lineJSON struct {
	Line   int        `json:"line"`
	Kind   string     `json:"kind"`
	Bytes  int        `json:"bytes"`
	Digest string     `json:"digest"` // of a statement its payload's, of anything else its bytes'
	Says   []factJSON `json:"says,omitempty"`
	Fault  string     `json:"fault,omitempty"` // why a verifier would refuse to read it
}

type factJSON struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (a *app) inspectCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a bundle or evidence file says",
		Long: `inspect shows what stands in a bundle file, line by line: statements, evidence, and the digests that link them.
It verifies nothing and claims nothing: everything it prints is the file's own word.`,
		Example: `  kettle inspect widget.tar.gz.intoto.jsonl
  kettle inspect widget.tar.gz.intoto.jsonl --json | jq '.lines[] | {line, kind, digest}'`,
		Args: cobra.ExactArgs(1),
		RunE: a.Does(func(_ *cobra.Command, args []string) error { return a.inspect(args[0], asJSON) }),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func (a *app) inspect(path string, asJSON bool) error {
	out := inspectJSON{Schema: inspectSchema, File: path}
	b, err := readBounded(path, bundle.MaxFile)
	if err == nil {
		out.Lines, err = inspectLines(b)
	}
	if err != nil {
		out.Error = cli.CleanLines(err.Error())
	}
	if asJSON {
		if werr := commands.WriteJSON(a.io.Out, out); werr != nil {
			return werr
		}
		return err
	}
	for _, l := range out.Lines {
		fmt.Fprintf(a.io.Out, "%s  %s\n", a.io.Styled(cli.Bold, fmt.Sprintf("line %d: %s", l.Line, l.Kind)),
			a.io.Styled(cli.Dim, fmt.Sprintf("%s, %s", cli.Bytes(int64(l.Bytes)), l.Digest)))
		for _, f := range l.Says {
			fmt.Fprintf(a.io.Out, "  %-16s %s\n", cli.Clean(f.Name), cli.Clean(f.Value))
		}
		if l.Fault != "" {
			fmt.Fprintf(a.io.Out, "  %s %s\n", a.io.Styled(cli.Red, "fault"), cli.Clean(l.Fault))
		}
	}
	if err == nil {
		fmt.Fprintln(a.io.Out, a.io.Styled(cli.Dim, "Nothing of this was verified."))
	}
	return err
}

// inspectLines reads every line; the error says that the file holds nothing that is known.
func inspectLines(b []byte) ([]lineJSON, error) {
	if len(b) == snp.ReportSize && b[0] != '{' {
		return []lineJSON{{Line: 1, Kind: "SEV-SNP report", Bytes: len(b), Digest: "sha256:" + binding.Sum(b).String(),
			Says: []factJSON{{"next", "kettle evidence verify FILE --certificate VCEK"}}}}, nil
	}
	var out []lineJSON
	known := false
	for n, line := range bytes.Split(b, []byte{'\n'}) {
		if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
			continue
		}
		if len(out) == bundle.MaxLines {
			return nil, fmt.Errorf("reading file: more than %d lines", bundle.MaxLines)
		}
		l := inspectLine(line)
		l.Line, l.Bytes = n+1, len(line)
		known = known || l.Kind != kindOther
		out = append(out, l)
	}
	if !known {
		return nil, &refusal.Refusal{
			Link: "file", Code: refusal.Malformed, Want: "a bundle file or a line of evidence", Got: "nothing that is known",
			Next: "name the .intoto.jsonl file that a runner wrote",
		}
	}
	return out, nil
}

const kindOther = "other"

func inspectLine(line []byte) lineJSON {
	switch {
	case bundle.Is(line):
		parsed, err := bundle.Parse(line)
		if err == nil {
			return inspectStatement(parsed.Payload())
		}
		if payload, signer, certErr := bundle.Claimed(line); certErr == nil {
			return inspectCertified(payload, signer)
		}
		return lineJSON{Kind: "bundle", Digest: "sha256:" + binding.Sum(line).String(), Fault: fault(err)}
	case evidence.Is(line):
		l := lineJSON{Kind: "evidence", Digest: "sha256:" + evidence.Digest(line).String()}
		c, err := evidence.Parse(line)
		if err != nil {
			l.Fault = fault(err)
			return l
		}
		l.Says, l.Fault = evidenceFacts(c)
		return l
	}
	return lineJSON{Kind: kindOther, Digest: "sha256:" + binding.Sum(line).String()}
}

// fault gives the reasons in one line.
func fault(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
