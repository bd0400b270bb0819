// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/kettle/attest/runner/door"
)

// maxRows bounds the subjects that the summary lists; GitHub cuts a summary at 1 MiB.
const maxRows = 100

// simulated is the platform that proves nothing.
const simulated = "sim"

// summary is the step summary in Markdown: what was attested, by whom, on what, and the chain as a picture.
func summary(r *door.Attested, stored storage) string {
	var b strings.Builder
	b.WriteString("### Attested by this machine\n\n")
	if r.Platform == simulated {
		b.WriteString("> [!WARNING]\n> The platform is a **simulator**: its root is nobody's, and this proves nothing outside a test.\n\n")
	}
	subjects(&b, r)
	b.WriteString("| | |\n|---|---|\n")
	for _, row := range [][2]string{
		{"Identity", r.Identity}, {"Identity from", source(r.IdentitySource)}, {"Build", r.BuildID}, {"Builder", r.BuilderID},
		{"Platform", r.Platform}, {"Level", r.Level}, {"Measurement", r.Measurement}, {"Response", fmt.Sprint(r.Sequence)},
		{"Bundle", r.Bundle}, {"GitHub attestation", stored.shown()},
	} {
		if row[1] != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", row[0], code(row[1]))
		}
	}
	b.WriteString("\n" + picture(r) + "\n")
	b.WriteString("Check it anywhere, offline: `kettle verify ARTIFACT --bundle BUNDLE --policy POLICY`\n\n")
	return b.String()
}

func (s storage) shown() string {
	if s.reason != "" {
		return "not stored: " + s.reason
	}
	return s.id
}

func source(s string) string {
	switch s {
	case "token":
		return "token: GitHub's signature, checkable by everyone"
	case "jobs-api":
		return "jobs-api: kettled asked GitHub"
	}
	return s
}

func subjects(b *strings.Builder, r *door.Attested) {
	b.WriteString("| Subject | SHA-256 |\n|---|---|\n")
	shown := r.Subjects[:min(len(r.Subjects), maxRows)]
	for _, s := range shown {
		fmt.Fprintf(b, "| %s | %s |\n", code(s.Name), code(s.Digest))
	}
	if more := r.SubjectCount - len(shown); more > 0 {
		fmt.Fprintf(b, "| … and %d more | see the checksums file |\n", more)
	}
	b.WriteString("\n")
}

// picture is the chain of trust as a Mermaid diagram, from the artifact to the root that vouches for it.
func picture(r *door.Attested) string {
	artifact := fmt.Sprintf("%d artifacts", r.SubjectCount)
	if r.SubjectCount == 1 && len(r.Subjects) == 1 {
		artifact = label(r.Subjects[0].Name) + "<br/>sha256 " + short(r.Subjects[0].Digest)
	}
	root := "CPU vendor root"
	if r.Platform == simulated {
		root = "simulator root<br/>proves nothing"
	}
	return "```mermaid\nflowchart RL\n" +
		`  root["` + root + `"] -->|certifies| quote["hardware quote<br/>` + label(r.Platform) + measured(r) + "\"]\n" +
		`  quote -->|binds| key["statement key<br/>` + short(r.StatementKey) + "\"]\n" +
		"  key -->|signs| provenance[\"SLSA provenance\"]\n" +
		`  provenance -->|names| artifact["` + artifact + "\"]\n```\n"
}

func measured(r *door.Attested) string {
	if r.Measurement == "" {
		return ""
	}
	return "<br/>measured " + short(r.Measurement)
}

// short is the beginning of a digest.
func short(digest string) string {
	if s := label(digest); len(s) > 12 {
		return s[:12] + "…"
	}
	return label(digest)
}

// label keeps of a text what has no meaning in Mermaid.
func label(s string) string {
	const limit = 40
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._- ", r):
			return r
		}
		return '_'
	}, s)
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// code shows text of foreign origin as code. Everything but letters, digits and blanks becomes a character reference,
// which CommonMark never takes for structure (CommonMark 2.5), so no name can end a cell, open a link or mention someone.
func code(s string) string {
	var b strings.Builder
	b.WriteString("<code>")
	for _, r := range printable(s) {
		if r == ' ' || r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "&#%d;", r)
	}
	b.WriteString("</code>")
	return b.String()
}

// printable replaces control characters, marks that change the direction of text, and bytes that are no UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
