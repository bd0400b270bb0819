// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"fmt"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/statement"
)

// Result is a verified artifact. It exists only after every link of the chain held.
type Result struct {
	artifact   Artifact
	provenance *statement.Provenance
	facts      statement.Facts
	instance   statement.Instance
	measured   string
	key        binding.Digest
	at         time.Time
	level      int
	image      string
	notes      []string
}

func (c *chain) result(given bool) *Result {
	return &Result{
		artifact: c.req.Artifact, provenance: c.provenance, facts: c.dispatch.Conditions.Facts,
		instance: c.appraisal.Instance(), measured: c.appraisal.Measurement(), key: c.boot.EnvironmentKey,
		at: c.req.At.UTC(), level: c.level(), image: c.imageName(), notes: c.notes(given),
	}
}

// level is the highest level of the BuildEnv track that the links support. Level 1 is an image of known provenance, built at
// level 2 of SLSA's build track or more. Level 2 asks besides that somebody outside appraised the machine before it got its
// job, and said so. Level 3 asks for hardware that proves the whole state at boot: a TD, or a guest under a paravisor that
// its report names. A guest of SEV-SNP runs ACPI tables that nothing measures.
func (c *chain) level() int {
	switch platform := c.appraisal.Platform(); {
	case c.image == nil || c.image.BuildLevel() < 2 || platform == appraise.PlatformSim:
		return 0
	case c.admission == nil || c.image.BuildLevel() < 3:
		return 1
	case platform == "tdx" || platform == "az-snp" || platform == "az-tdx":
		return 3
	}
	return 2
}

func (c *chain) imageName() string {
	if c.image == nil {
		return ""
	}
	return c.image.Signer().SAN
}

// notes says what the result does not prove, and where the policy is open.
func (c *chain) notes(given bool) []string {
	clock := "now"
	if given {
		clock = "the time that was asked for"
	}
	notes := []string{
		fmt.Sprintf("time: certificates and policy judged at %s, %s; no timestamp covers the evidence", c.req.At.UTC().Format(time.RFC3339), clock),
	}
	if !c.quote.RevocationChecked() {
		notes = append(notes, "revocation: not checked")
	}
	if c.image == nil {
		notes = append(notes, "image: the measurement is the policy's word; the image's own provenance was not checked")
	}
	switch r := c.quote.Report(); {
	case c.appraisal.Platform() == appraise.PlatformSim:
		notes = append(notes, "sim: a simulator made the evidence; it proves nothing outside a test")
	case r != nil:
		for _, o := range r.Unproven() {
			notes = append(notes, o.Name+": "+o.State)
		}
	}
	if c.claims == nil {
		notes = append(notes, "identity: read from GitHub's API by the environment; GitHub did not sign it")
	} else {
		notes = append(notes, "token: judged at dispatch, "+c.dispatch.Conditions.DispatchedOn.UTC().Format(time.RFC3339)+", by the environment's clock")
	}
	for _, open := range c.req.Policy.Open() {
		notes = append(notes, "policy: "+open)
	}
	return notes
}

// Artifact is what was verified.
func (r *Result) Artifact() Artifact { return r.artifact }

// Platform is "snp", or "sim" under a private root.
func (r *Result) Platform() string { return r.instance.Platform }

// Level is the level of the BuildEnv track that the result supports, with the draft that defines it, or "none".
func (r *Result) Level() string {
	if r.level == 0 {
		return "none"
	}
	return fmt.Sprintf("BuildEnv L%d (working draft 2490593)", r.level)
}

// Image names the workflow that signed the image: repository, file and ref; empty where the policy accepts any image.
func (r *Result) Image() string { return r.image }

// BuilderID is the builder that the provenance names and the quote's platform confirms.
func (r *Result) BuilderID() string { return r.provenance.BuilderID }

// BuildID is the URI of the one job.
func (r *Result) BuildID() string { return r.provenance.InvocationID }

// Facts identify the job, as the DISPATCH statement froze them.
func (r *Result) Facts() statement.Facts { return r.facts }

// Identity names the job in one line: workflow, ref, commit and event.
func (r *Result) Identity() string { return identity(r.facts) }

// IdentitySource is "token" when GitHub signed the identity, "jobs-api" when the environment asked GitHub.
func (r *Result) IdentitySource() string { return r.facts.IdentitySource }

// Measurement is the launch measurement in lower-case hexadecimal.
func (r *Result) Measurement() string { return r.measured }

// Instance names the machine that every quote of the build is of.
func (r *Result) Instance() statement.Instance { return r.instance }

// EnvironmentKey names the build environment.
func (r *Result) EnvironmentKey() binding.Digest { return r.key }

// Time is when certificates and policy were judged, in UTC.
func (r *Result) Time() time.Time { return r.at }

// Notes says in plain words what the result does not prove and where the policy is open.
func (r *Result) Notes() []string { return append([]string(nil), r.notes...) }
