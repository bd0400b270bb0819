// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/cmd/internal/cli"
)

// writeTree shows the chain of one artifact: a line for each link with a mark, what it says and where that comes from.
// The link that failed is expanded.
func writeTree(s *cli.IO, o outcome, explain bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", s.Styled(cli.Bold, cli.Clean(o.artifact.Name)), headline(s, o.err))
	for i, l := range o.trace {
		branch, stem := "├─", "│ "
		if i == len(o.trace)-1 {
			branch, stem = "└─", "  "
		}
		fmt.Fprintf(&b, "%s %s\n", branch, linkLine(s, l))
		if explain {
			fmt.Fprintf(&b, "%s                %s\n", stem, s.Styled(cli.Dim, explanation(l.Name)))
		}
		if l.Status == attest.Failed {
			for _, r := range refusal.All(o.err) {
				b.WriteString(cli.Refusal(r, stem+"                "))
			}
		}
	}
	b.WriteString(closing(s, o))
	_, err := fmt.Fprint(s.Out, b.String())
	if err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

func headline(s *cli.IO, err error) string {
	switch word, _, _ := verdict(err); word {
	case verdictVerified:
		return s.Styled(cli.Green, "verified")
	case verdictRefused:
		return s.Styled(cli.Red, "REFUSED")
	}
	return s.Styled(cli.Red, "not judged")
}

func linkLine(s *cli.IO, l attest.Link) string {
	name := fmt.Sprintf("%-11s", l.Name)
	switch l.Status {
	case attest.OK:
		return fmt.Sprintf("%s %s %s  %s", s.Styled(cli.Green, "✓"), name, cli.Clean(short(l.Value)), s.Styled(cli.Dim, "("+cli.Clean(short(l.Source))+")"))
	case attest.NotRequired:
		return fmt.Sprintf("– %s %s  %s", name, cli.Clean(short(l.Value)), s.Styled(cli.Dim, "("+cli.Clean(short(l.Source))+"; accepted by the policy)"))
	case attest.Failed:
		return fmt.Sprintf("%s %s", s.Styled(cli.Red, "✗"), s.Styled(cli.Red, l.Name))
	}
	return s.Styled(cli.Dim, "· "+name+" not reached")
}

// short keeps the first digits of each long hexadecimal number; --format json has them whole.
func short(text string) string {
	const keep, long = 12, 40
	var b strings.Builder
	for len(text) > 0 {
		n := len(text) - len(strings.TrimLeft(text, "0123456789abcdef"))
		switch {
		case n == 0:
			cut := strings.IndexAny(text, "0123456789abcdef")
			if cut < 0 {
				cut = len(text)
			}
			b.WriteString(text[:cut])
			text = text[cut:]
		case n >= long:
			b.WriteString(text[:keep] + "…")
			text = text[n:]
		default:
			b.WriteString(text[:n])
			text = text[n:]
		}
	}
	return b.String()
}

// closing says what the result means, or why there is none.
func closing(s *cli.IO, o outcome) string {
	var b strings.Builder
	if r := o.result; o.err == nil {
		for _, f := range [][2]string{
			{"identity", r.Identity()}, {"builder", r.BuilderID()}, {"platform", r.Platform() + ", level " + r.Level()},
			{"judged at", r.Time().Format(time.RFC3339)},
		} {
			fmt.Fprintf(&b, "   %-11s %s\n", f[0], cli.Clean(f[1]))
		}
		for _, n := range r.Notes() {
			fmt.Fprintf(&b, "   %s\n", s.Styled(cli.Dim, "note: "+cli.Clean(n)))
		}
		return b.String()
	}
	for _, l := range o.trace {
		if l.Status == attest.Failed {
			return "" // expanded at its link
		}
	}
	if all := refusal.All(o.err); len(all) > 0 {
		for _, r := range all {
			fmt.Fprintf(&b, "%s %s (%s)\n%s", s.Styled(cli.Red, "✗"), cli.Clean(r.Link), r.Code, cli.Refusal(r, "  "))
		}
		return b.String()
	}
	return fmt.Sprintf("%s %s\n", s.Styled(cli.Red, "✗"), cli.CleanLines(o.err.Error()))
}

// explanation says what a link means.
func explanation(link string) string {
	switch link {
	case "artifact":
		return "the bytes you hold are bytes that the provenance names"
	case "provenance":
		return "it is complete SLSA provenance of Kettle's build type, and its builder fits its platform"
	case "signature":
		return "the key that lived for this one provenance, inside the machine, signed it"
	case "response":
		return "the same key says which quote belongs to this provenance"
	case "quote":
		return "a secure processor signed the quote; its certificates lead to a root you trust; its firmware meets the floor"
	case "binding":
		return "the 64 bytes in the quote cover exactly this provenance, this key, this build and this place in its log"
	case "image":
		return "a workflow that the policy names built the image, and signed what a machine that starts it measures"
	case "measurement":
		return "firmware, kernel and command line that were started are signed for that image, or named by the policy"
	case "event-log":
		return "the machine made one key, took one job, and answered as often as it says"
	case "dispatch":
		return "before the job's code ran, the machine froze which job it is; provenance says the same in every field"
	case "boot":
		return "the key that froze the job was made by this very machine, at boot"
	case "admission":
		return "an operator whose key the policy names appraised this very machine before it got a job, and admits none twice"
	case "token":
		return "GitHub itself signed that such a job asked for a token for this machine's key"
	case "identity":
		return "repository, workflow, ref, event and builder are ones that the policy accepts"
	}
	return ""
}
