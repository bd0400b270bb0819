// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/cmd/internal/cli"
)

// The schemas of the JSON outputs. A change that breaks a reader takes the next number.
const (
	verifySchema   = "kettle.verify/v1"
	inspectSchema  = "kettle.inspect/v1"
	evidenceSchema = "kettle.evidence/v1"
)

// The verdicts. "error" means that nothing was judged.
const (
	verdictVerified = "verified"
	verdictRefused  = "refused"
	verdictError    = "error"
)

// verifyJSON is the output for one artifact.
type verifyJSON struct {
	Schema         string        `json:"schema"`
	Verdict        string        `json:"verdict"`
	Artifact       *artifactJSON `json:"artifact,omitempty"`
	Reasons        []reasonJSON  `json:"reasons,omitempty"`
	Links          []attest.Link `json:"links,omitempty"`
	Platform       string        `json:"platform,omitempty"`
	Level          string        `json:"level,omitempty"`
	Builder        string        `json:"builder,omitempty"`
	BuildID        string        `json:"buildId,omitempty"`
	Identity       string        `json:"identity,omitempty"`
	IdentitySource string        `json:"identitySource,omitempty"`
	Measurement    string        `json:"measurement,omitempty"`
	Image          string        `json:"image,omitempty"`
	Time           string        `json:"time,omitempty"`
	Policy         string        `json:"policy,omitempty"` // digest of the policy file
	Notes          []string      `json:"notes,omitempty"`
	Error          string        `json:"error,omitempty"` // with verdict "error"
}

type artifactJSON struct {
	Name   string `json:"name"`
	Digest string `json:"digest,omitempty"`
}

type reasonJSON struct {
	Link string       `json:"link"`
	Code refusal.Code `json:"code"`
	Want string       `json:"want"`
	Got  string       `json:"got,omitempty"`
	Next string       `json:"next,omitempty"`
}

// verdict says what came of a check, with the reasons for a refusal or the sentence of a failure.
func verdict(err error) (word string, reasons []reasonJSON, failure string) {
	if err == nil {
		return verdictVerified, nil, ""
	}
	for _, r := range refusal.All(err) {
		reasons = append(reasons, reasonJSON{r.Link, r.Code, r.Want, r.Got, r.Next})
	}
	if len(reasons) > 0 && errors.Is(err, refusal.ErrNotVerified) {
		return verdictRefused, reasons, ""
	}
	return verdictError, nil, cli.CleanLines(err.Error())
}

func (o outcome) json(p *policy.Policy) verifyJSON {
	j := verifyJSON{Schema: verifySchema, Artifact: &artifactJSON{Name: o.artifact.Name}, Links: o.trace, Policy: "sha256:" + p.Digest().String()}
	if !o.artifact.Digest.IsZero() {
		j.Artifact.Digest = "sha256:" + o.artifact.Digest.String()
	}
	j.Verdict, j.Reasons, j.Error = verdict(o.err)
	if r := o.result; o.err == nil {
		j.Platform, j.Level, j.Builder, j.BuildID = r.Platform(), r.Level(), r.BuilderID(), r.BuildID()
		j.Identity, j.IdentitySource, j.Measurement, j.Image = r.Identity(), r.IdentitySource(), r.Measurement(), r.Image()
		j.Time, j.Notes = r.Time().Format(time.RFC3339), r.Notes()
	}
	return j
}
