// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/reference"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
)

const imageVerifySchema = "kettle.image-verify/v1"

// imageVerifyJSON is the output of kettle image verify.
type imageVerifyJSON struct {
	Schema  string       `json:"schema"`
	Verdict string       `json:"verdict"`
	Target  string       `json:"target,omitempty"`
	Reasons []reasonJSON `json:"reasons,omitempty"`
	Links   attest.Trace `json:"links,omitempty"`
	Image   *imageJSON   `json:"image,omitempty"`  // when it holds
	Signer  *signerJSON  `json:"signer,omitempty"` // when it holds
	Policy  string       `json:"policy,omitempty"` // digest of the policy file
	Time    string       `json:"time,omitempty"`   // that was judged at
	VSA     string       `json:"vsa,omitempty"`    // file that was written
	Notes   []string     `json:"notes,omitempty"`
	Error   string       `json:"error,omitempty"` // with verdict "error"
}

type imageJSON struct {
	Name       string            `json:"name"`
	Profile    string            `json:"profile"`
	Build      string            `json:"build"`
	Files      map[string]string `json:"files"`      // name to digest
	Components map[string]string `json:"components"` // name to digest
	Values     map[string]int    `json:"values"`     // how many reference values of each platform
	Shown      map[string]string `json:"shown,omitempty"`
	BuildLevel int               `json:"buildLevel"`
}

type signerJSON struct {
	Issuer     string `json:"issuer"`
	Workflow   string `json:"workflow"`
	Repository string `json:"repository"`
	Ref        string `json:"ref"`
	Commit     string `json:"commit"`
	Runner     string `json:"runner"`
	Run        string `json:"run"`
	SignedOn   string `json:"signedOn"`
}

// showImageVerdict prints the outcome on the output stream.
func (a *app) showImageVerdict(f imageVerifyFlags, v *imageVerdict) error {
	if f.json {
		a.io.Report("kettle: "+cli.Clean(v.target), v.err)
		return commands.WriteJSON(a.io.Out, v.json(f))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", a.io.Styled(cli.Bold, cli.Clean(v.target)), headline(a.io, v.err))
	links := v.links()
	for i, l := range links {
		branch, stem := "├─", "│ "
		if i == len(links)-1 {
			branch, stem = "└─", "  "
		}
		fmt.Fprintf(&b, "%s %s\n", branch, imageLine(a.io, l))
		if l.Status == attest.Failed {
			for _, r := range refusal.All(v.err) {
				if r.Link == l.Name {
					b.WriteString(cli.Refusal(r, stem+"                     "))
				}
			}
		}
	}
	for _, r := range refusal.All(v.err) { // of the bundle itself
		if !slices.ContainsFunc(links, func(l attest.Link) bool { return l.Name == r.Link }) {
			fmt.Fprintf(&b, "%s %s (%s)\n%s", a.io.Styled(cli.Red, "✗"), cli.Clean(r.Link), r.Code, cli.Refusal(r, "  "))
		}
	}
	b.WriteString(v.closing(a.io, f))
	if _, err := fmt.Fprint(a.io.Out, b.String()); err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

func imageLine(s *cli.IO, l attest.Link) string {
	name := fmt.Sprintf("%-16s", l.Name)
	switch l.Status {
	case attest.OK:
		return fmt.Sprintf("%s %s %s  %s", s.Styled(cli.Green, "✓"), name, cli.Clean(short(l.Value)), s.Styled(cli.Dim, "("+cli.Clean(short(l.Source))+")"))
	case attest.NotRequired:
		return fmt.Sprintf("– %s %s  %s", name, cli.Clean(short(l.Value)), s.Styled(cli.Dim, "("+cli.Clean(short(l.Source))+")"))
	case attest.Failed:
		return fmt.Sprintf("%s %s", s.Styled(cli.Red, "✗"), s.Styled(cli.Red, l.Name))
	}
	return s.Styled(cli.Dim, "· "+name+" not reached")
}

// links says of each link whether it holds. Those behind the first that failed were not reached, unless they failed too.
func (v *imageVerdict) links() attest.Trace {
	out := attest.Trace{{Name: linkFiles}, {Name: reference.LinkProvenance}, {Name: reference.LinkValues}}
	failed := func(link string) bool {
		return slices.ContainsFunc(refusal.All(v.err), func(r *refusal.Refusal) bool { return r.Link == link })
	}
	for i := range out {
		l := &out[i]
		switch {
		case failed(l.Name):
			l.Status = attest.Failed
		case l.Name == linkFiles && v.folder != nil && len(v.files) > 0:
			l.Status, l.Value, l.Source = attest.OK, fmt.Sprintf("%d files, %s", len(v.folder.files())+1, cli.Bytes(v.folder.hashed)), "image.json sha256:"+v.folder.digest.String()
		case l.Name == linkFiles && v.folder == nil && len(v.files) > 0:
			l.Status, l.Value, l.Source = attest.NotRequired, "sha256:"+v.files[0].String(), "one file of the image"
		case v.err != nil:
			l.Status = attest.NotReached
		case l.Name == reference.LinkProvenance:
			s := v.image.Signer()
			l.Status, l.Value, l.Source = attest.OK, s.SAN, fmt.Sprintf("signed on %s, commit %s", v.image.SignedOn().Format(time.RFC3339), s.SourceDigest)
		default:
			l.Status, l.Value, l.Source = attest.OK, v.counts(), "same run, same subjects"
		}
	}
	return out
}

// counts says how many values there are of each platform.
func (v *imageVerdict) counts() string {
	n := v.values()
	var parts []string
	for _, p := range []string{statement.ReferenceSNP, statement.ReferenceTDX, statement.ReferenceTPM, statement.ReferenceSim} {
		if n[p] > 0 {
			parts = append(parts, fmt.Sprintf("%d for %s", n[p], p))
		}
	}
	if len(parts) == 0 {
		return "components only: no machine can be compared with it"
	}
	return strings.Join(parts, ", ")
}

func (v *imageVerdict) values() map[string]int {
	out := map[string]int{}
	for _, value := range v.image.Values().Values {
		if p := value.Conditions.Platform; p != "" {
			out[p]++
		}
	}
	return out
}

// closing says what the result means.
func (v *imageVerdict) closing(s *cli.IO, f imageVerifyFlags) string {
	if v.err != nil {
		return ""
	}
	var b strings.Builder
	p, signer := v.image.Provenance(), v.image.Signer()
	lines := [][2]string{
		{"image", fmt.Sprintf("%s, profile %s, %s build, SLSA build level %d", p.External.Image.Name, p.External.Image.Profile, p.External.Image.Build, v.image.BuildLevel())},
		{"source", signer.SourceRepository + "@" + signer.SourceRef}, {"run", signer.RunInvocation + ", " + signer.RunnerEnvironment},
		{"judged at", v.at.UTC().Format(time.RFC3339)},
	}
	if f.vsa != "" {
		lines = append(lines, [2]string{"summary", f.vsa})
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "   %-11s %s\n", l[0], cli.Clean(l[1]))
	}
	for _, open := range v.policy.Open() {
		fmt.Fprintf(&b, "   %s\n", s.Styled(cli.Dim, "note: the policy is open at "+cli.Clean(open)))
	}
	return b.String()
}

func (v *imageVerdict) json(f imageVerifyFlags) imageVerifyJSON {
	j := imageVerifyJSON{
		Schema: imageVerifySchema, Target: v.target, Links: v.links(), Policy: "sha256:" + v.policy.Digest().String(), Time: v.at.UTC().Format(time.RFC3339),
	}
	j.Verdict, j.Reasons, j.Error = verdict(v.err)
	if v.err != nil {
		return j
	}
	p, s := v.image.Provenance(), v.image.Signer()
	j.VSA, j.Notes = f.vsa, v.policy.Open()
	j.Image = &imageJSON{
		Name: p.External.Image.Name, Profile: p.External.Image.Profile, Build: p.External.Image.Build, Files: map[string]string{},
		Components: map[string]string{}, Values: v.values(), Shown: map[string]string{}, BuildLevel: v.image.BuildLevel(),
	}
	for _, file := range v.image.Subjects() {
		j.Image.Files[file.Name] = "sha256:" + file.Digest["sha256"]
	}
	for _, value := range v.image.Values().Values {
		if c := value.Conditions.Component; c != "" {
			j.Image.Components[c] = "sha256:" + value.Value
		}
	}
	for _, shown := range v.image.Values().Shown {
		j.Image.Shown[shown.Attribute] = shown.Test
	}
	j.Signer = &signerJSON{
		Issuer: s.Issuer, Workflow: s.SAN, Repository: s.SourceRepository, Ref: s.SourceRef, Commit: s.SourceDigest,
		Runner: s.RunnerEnvironment, Run: s.RunInvocation, SignedOn: v.image.SignedOn().UTC().Format(time.RFC3339),
	}
	return j
}
