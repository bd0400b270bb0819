// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/statement"
)

// facts collects what a line says; empty values are left out.
type facts []factJSON

func (f *facts) add(name, value string) {
	if value != "" {
		*f = append(*f, factJSON{name, value})
	}
}

func (f *facts) digest(name string, d binding.Digest) {
	if !d.IsZero() {
		f.add(name, "sha256:"+d.String())
	}
}

func (f *facts) time(name string, t time.Time) {
	if !t.IsZero() {
		f.add(name, t.UTC().Format(time.RFC3339))
	}
}

// inspectStatement tells what a statement says, by its kind.
func inspectStatement(payload []byte) lineJSON {
	l := lineJSON{Kind: "statement", Digest: "sha256:" + binding.Sum(payload).String()}
	kind, attribute := statement.Kind(payload)
	var f facts
	var err error
	switch {
	case kind == statement.ProvenanceType:
		l.Kind = "provenance"
		err = provenanceFacts(&f, payload)
	case kind != statement.SCAIType:
		f.add("predicateType", kind)
	case attribute == statement.AttributeEnvironmentKey:
		l.Kind = "BOOT"
		err = bootFacts(&f, payload)
	case attribute == statement.AttributeBuildIDBound:
		l.Kind = "DISPATCH"
		err = dispatchFacts(&f, payload)
	case attribute == statement.AttributeTEEBound:
		l.Kind = "RESPONSE"
		err = responseFacts(&f, payload)
	case attribute == statement.AttributeJobFinished:
		l.Kind = "FINAL"
		err = finalFacts(&f, payload)
	default:
		f.add("predicateType", kind)
		f.add("attribute", attribute)
	}
	if err != nil {
		l.Fault = fault(err)
	}
	l.Says = f
	return l
}

// inspectCertified tells what a bundle with a certificate says, and who its certificate says signed it.
func inspectCertified(payload []byte, signer bundle.Signer) lineJSON {
	var f facts
	kind, attribute := statement.Kind(payload)
	f.add("predicateType", kind)
	f.add("attribute", attribute)
	f.add("signer", signer.SAN)
	f.add("issuer", signer.Issuer)
	f.add("source", strings.TrimSpace(signer.SourceRepository+" "+signer.SourceDigest))
	f.add("ref", signer.SourceRef)
	f.add("run", signer.RunInvocation)
	return lineJSON{Kind: "certified statement", Digest: "sha256:" + binding.Sum(payload).String(), Says: f}
}

func provenanceFacts(f *facts, payload []byte) error {
	p, err := statement.ParseProvenance(payload)
	if err != nil {
		return err
	}
	for _, s := range p.Subjects {
		f.add("subject", s.Name+" sha256:"+s.Digest["sha256"])
	}
	w, k := p.External.Workflow, p.Internal.Kettle
	f.add("builder", p.BuilderID)
	f.add("workflow", w.Repository+"/"+w.Path+"@"+w.Ref)
	f.add("event", p.External.Event)
	f.add("build", p.InvocationID)
	if len(p.Dependencies) > 0 {
		f.add("source", p.Dependencies[0].URI+" "+p.Dependencies[0].Digest["gitCommit"])
		f.add("dependencies", fmt.Sprint(len(p.Dependencies)))
	}
	f.add("platform", k.Platform)
	f.add("profile", k.Profile)
	egressFacts(f, k.Egress)
	f.add("outputs", fmt.Sprintf("%s, stood still for %d ms", k.Outputs, k.FrozenMillis))
	f.digest("environment key", k.EnvironmentKey)
	f.digest("dispatch", k.Dispatch)
	f.time("started", p.StartedOn)
	f.time("finished", p.FinishedOn)
	return nil
}

// egressFacts says what the job reached beyond the pinned hosts.
func egressFacts(f *facts, e statement.Egress) {
	f.add("egress", string(e.Mode))
	for _, flow := range e.Flows {
		f.add("reached", flowText(flow))
	}
	if e.Left > 0 {
		f.add("reached", fmt.Sprintf("and %d more hosts", e.Left))
	}
	if e.Refused > 0 {
		f.add("refused", fmt.Sprintf("%d attempts to reach something else", e.Refused))
	}
}

func flowText(f statement.Flow) string {
	text := fmt.Sprintf("%s:%d %s, %d connections, %d bytes sent, %d received", f.Host, f.Port, f.Protocol, f.Connections, f.Sent, f.Received)
	if f.Refused != "" {
		text = fmt.Sprintf("%s:%d %s, %d times: %s", f.Host, f.Port, f.Protocol, f.Connections, f.Refused)
	}
	return text
}

func bootFacts(f *facts, payload []byte) error {
	s, err := statement.ParseBoot(payload)
	if err != nil {
		return err
	}
	f.digest("environment key", s.EnvironmentKey)
	f.digest("configuration", s.Conditions.Configuration)
	instanceFacts(f, s.Conditions.Instance)
	f.time("booted", s.Conditions.BootedOn)
	return nil
}

func dispatchFacts(f *facts, payload []byte) error {
	s, err := statement.ParseDispatch(payload)
	if err != nil {
		return err
	}
	job := s.Conditions.Facts
	f.add("build", s.BuildID)
	f.add("repository", fmt.Sprintf("%s/%s (id %s, owner %s)", job.Server, job.Repository, job.RepositoryID, job.RepositoryOwnerID))
	f.add("workflow", job.WorkflowPath)
	f.add("ref", job.Ref)
	f.add("commit", job.SHA)
	f.add("event", job.Event)
	f.add("runner", job.RunnerName)
	f.add("identity source", job.IdentitySource)
	f.digest("environment key", s.EnvironmentKey)
	f.digest("BOOT evidence", s.BootEvidence)
	f.digest("policy", s.Conditions.Policy)
	instanceFacts(f, s.Conditions.Instance)
	f.time("dispatched", s.Conditions.DispatchedOn)
	return nil
}

func responseFacts(f *facts, payload []byte) error {
	s, err := statement.ParseResponse(payload)
	if err != nil {
		return err
	}
	f.digest("provenance", s.Provenance)
	f.digest("evidence", s.Evidence)
	f.add("build", s.BuildID)
	f.add("sequence", fmt.Sprint(s.Sequence))
	return nil
}

func finalFacts(f *facts, payload []byte) error {
	s, err := statement.ParseFinal(payload)
	if err != nil {
		return err
	}
	f.add("build", s.BuildID)
	c := s.Conditions
	f.add("outcome", c.Outcome)
	if c.Conclusion != "" {
		f.add("conclusion", c.Conclusion+" (GitHub's word; the job can influence it)")
	}
	f.add("responses", fmt.Sprint(c.Responses))
	for _, flow := range c.Egress {
		f.add(map[bool]string{true: "reached", false: "refused"}[flow.Refused == ""], flowText(flow))
	}
	if c.Killed != nil {
		f.add("still running", fmt.Sprintf("%d processes: %s", c.Killed.Count, strings.Join(c.Killed.Names, ", ")))
	}
	if c.Disk != nil {
		f.add("image files", fmt.Sprintf("%d created, %d changed, %d deleted", c.Disk.Created, c.Disk.Changed, c.Disk.Deleted))
		f.digest("list of changes", c.Disk.List)
	}
	f.digest("environment key", s.EnvironmentKey)
	f.time("finished", s.Conditions.FinishedOn)
	return nil
}

func instanceFacts(f *facts, i statement.Instance) {
	f.add("platform", i.Platform)
	f.add("report ID", i.ReportID)
	f.add("chip ID", i.ChipID)
	f.add("attestation key", i.AttestationKey)
}

// evidenceFacts tells what evidence says, and why a verifier would refuse to read it.
func evidenceFacts(c *evidence.Collection) ([]factJSON, string) {
	var f facts
	f.add("kind", string(c.Kind))
	f.add("report", fmt.Sprintf("%d bytes", len(c.Report)))
	if d, ok := appraise.UnverifiedPayloadDigest(&c.Evidence); ok {
		f.digest("quotes payload", d)
	}
	f.digest("public key", binding.Sum(c.PublicKey))
	ctx, err := binding.Parse(c.Binding)
	if err != nil {
		return f, fault(err)
	}
	f.add("purpose", string(ctx.Purpose))
	f.digest("environment key", ctx.EnvironmentKey)
	f.digest("statement key", ctx.StatementKey)
	f.add("build", ctx.BuildID)
	f.digest("BOOT evidence", ctx.BootEvidence)
	f.digest("dispatch", ctx.Dispatch)
	if ctx.Sequence > 0 {
		f.add("sequence", fmt.Sprint(ctx.Sequence))
	}
	log, err := eventlog.Parse(c.EventLog)
	if err != nil {
		return f, fault(err)
	}
	for _, e := range log.Events() {
		f.add(fmt.Sprintf("event %d", e.Seq), fmt.Sprintf("%s sha256:%s", e.Type, e.Digest))
	}
	return f, ""
}
