// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/binding"
)

// The SCAI attributes of the statements of one environment.
const (
	AttributeEnvironmentKey = "ENVIRONMENT_KEY"      // BOOT: this environment made this key
	AttributeBuildIDBound   = "BUILD_ID_BOUND"       // DISPATCH: this environment runs this build
	AttributeTEEBound       = "TEE_BOUND_PROVENANCE" // RESPONSE: this evidence quotes this provenance
	AttributeJobFinished    = "JOB_FINISHED"         // FINAL: how the job ended
)

// environmentSubject is the subject name of BOOT, DISPATCH and FINAL; its digest is the environment key's.
const environmentSubject = "build-environment"

// Instance names one running virtual machine on one chip. All quotes of one build must agree on it. Which names there
// are depends on the platform; on TDX the run-time register, which starts with the environment key, does the rest.
type Instance struct {
	Platform       string `json:"platform"`
	ReportID       string `json:"reportId,omitempty"`       // snp, sim, az-snp: REPORT_ID, 32 bytes in hexadecimal
	ChipID         string `json:"chipId,omitempty"`         // snp, sim, az-snp: CHIP_ID, 64 bytes; tdx, az-tdx: PPID, 16 bytes
	AttestationKey string `json:"attestationKey,omitempty"` // az-snp, az-tdx, vtpm: SHA-256 of the TPM's attestation key (SPKI)
}

type scaiPredicate struct {
	Attributes []scaiAttribute `json:"attributes"`
}

type scaiAttribute struct {
	Attribute  string              `json:"attribute"`
	Target     *ResourceDescriptor `json:"target,omitempty"`
	Conditions json.RawMessage     `json:"conditions,omitempty"`
	Evidence   *ResourceDescriptor `json:"evidence,omitempty"`
}

// Boot is the BOOT statement: an environment, named by its key, on an instance.
type Boot struct {
	EnvironmentKey binding.Digest
	Conditions     BootConditions
}

// BootConditions is what holds while the BOOT statement holds.
type BootConditions struct {
	Instance      Instance          `json:"instance"`
	Configuration binding.Digest    `json:"configuration"`
	Software      map[string]string `json:"software"`
	BootedOn      time.Time         `json:"bootedOn"`
}

// Marshal encodes the statement once.
func (s *Boot) Marshal() ([]byte, error) {
	s.Conditions.BootedOn = s.Conditions.BootedOn.UTC().Truncate(time.Second)
	return environment(s.EnvironmentKey, AttributeEnvironmentKey,
		&ResourceDescriptor{Name: "environment-key", Digest: SHA256(s.EnvironmentKey)}, s.Conditions, nil)
}

// ParseBoot reads a BOOT payload.
func ParseBoot(payload []byte) (*Boot, error) {
	s := new(Boot)
	a, key, err := parseEnvironment(payload, AttributeEnvironmentKey, &s.Conditions)
	if err != nil {
		return nil, err
	}
	s.EnvironmentKey = key
	if d, ok := target(a); !ok || d != key {
		return nil, malformed("a target with the environment key's digest", "another target")
	}
	if s.Conditions.Configuration.IsZero() {
		return nil, malformed("a digest of the configuration", "none")
	}
	if err := s.Conditions.Instance.validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// Dispatch is the DISPATCH statement: this environment runs this one job. Its facts were frozen before any code of the
// job ran.
type Dispatch struct {
	EnvironmentKey binding.Digest
	BuildID        string
	BootEvidence   binding.Digest // digest of the BOOT evidence line
	Conditions     DispatchConditions
}

// DispatchConditions is what kettled knew at dispatch.
type DispatchConditions struct {
	Instance     Instance       `json:"instance"`
	Facts        Facts          `json:"facts"`
	Token        string         `json:"token,omitempty"` // GitHub's signed OIDC token, when the job may ask for one
	Policy       binding.Digest `json:"policy"`          // SHA-256 of the policy file that allowed the job
	DispatchedOn time.Time      `json:"dispatchedOn"`
}

// Facts identify the one job. Origins says for each key who vouches for it.
type Facts struct {
	Server            string         `json:"server"`
	Repository        string         `json:"repository"`
	RepositoryID      string         `json:"repositoryId"`
	RepositoryOwnerID string         `json:"repositoryOwnerId"`
	RunID             string         `json:"runId"`
	RunAttempt        string         `json:"runAttempt"`
	JobID             string         `json:"jobId"` // numeric, as in the REST API; equals check_run_id
	Job               string         `json:"job"`   // the job's key in the workflow
	WorkflowPath      string         `json:"workflowPath"`
	Ref               string         `json:"ref"`
	SHA               string         `json:"sha"`
	Event             string         `json:"event"`
	HeadRepositoryID  string         `json:"headRepositoryId,omitempty"` // where the code comes from, when the event can bring it from another repository
	RunnerID          string         `json:"runnerId"`
	RunnerName        string         `json:"runnerName"`
	JobWorkflowRef    string         `json:"jobWorkflowRef,omitempty"`
	JobWorkflowSHA    string         `json:"jobWorkflowSha,omitempty"`
	ActorID           string         `json:"actorId,omitempty"`
	IdentitySource    string         `json:"identitySource"`
	JobMessage        binding.Digest `json:"jobMessage"` // the runner's own copy of the job message, masked
	Origins           Origins        `json:"origins"`
}

// The sources that an identity can come from.
const (
	IdentityToken    = "token"     // GitHub's signature, checkable by everyone
	IdentityScaleSet = "scale-set" // GitHub told kettled over a session of its own, and kettled asked it over TLS
	IdentityJobsAPI  = "jobs-api"  // kettled asked GitHub over TLS
)

// Marshal encodes the statement once.
func (s *Dispatch) Marshal() ([]byte, error) {
	s.Conditions.DispatchedOn = s.Conditions.DispatchedOn.UTC().Truncate(time.Second)
	if err := s.Conditions.Facts.validate(); err != nil {
		return nil, err
	}
	return environment(s.EnvironmentKey, AttributeBuildIDBound,
		&ResourceDescriptor{Name: "build", URI: s.BuildID}, s.Conditions,
		&ResourceDescriptor{Name: "boot-evidence", Digest: SHA256(s.BootEvidence), MediaType: "application/cmw+json"})
}

// ParseDispatch reads a DISPATCH payload.
func ParseDispatch(payload []byte) (*Dispatch, error) {
	s := new(Dispatch)
	a, key, err := parseEnvironment(payload, AttributeBuildIDBound, &s.Conditions)
	if err != nil {
		return nil, err
	}
	s.EnvironmentKey = key
	if a.Target == nil || a.Target.URI == "" || a.Evidence == nil {
		return nil, malformed("a build ID as target and the boot evidence", "neither or one of them")
	}
	s.BuildID = a.Target.URI
	boot, ok := a.Evidence.Digest.SHA256()
	if !ok {
		return nil, malformed("the digest of the boot evidence", "none")
	}
	s.BootEvidence = boot
	if s.Conditions.Policy.IsZero() {
		return nil, malformed("the digest of the policy that allowed the job", "none")
	}
	if err := s.Conditions.Instance.validate(); err != nil {
		return nil, err
	}
	f := s.Conditions.Facts
	if err := f.validate(); err != nil {
		return nil, err
	}
	if want := f.BuildID(); s.BuildID != want {
		return nil, malformed("build ID "+want+" as its facts say", s.BuildID)
	}
	if (f.IdentitySource == IdentityToken) != (s.Conditions.Token != "") {
		return nil, malformed("a token exactly when the identity comes from one", "identity source "+f.IdentitySource)
	}
	return s, nil
}

// BuildID gives the URI of the one job: server/repository/actions/runs/RUN/attempts/N/job/ID.
func (f Facts) BuildID() string {
	return fmt.Sprintf("%s/%s/actions/runs/%s/attempts/%s/job/%s", f.Server, f.Repository, f.RunID, f.RunAttempt, f.JobID)
}

func (f Facts) validate() error {
	required := map[string]string{
		"server": f.Server, "repository": f.Repository, "repositoryId": f.RepositoryID,
		"repositoryOwnerId": f.RepositoryOwnerID, "runId": f.RunID, "runAttempt": f.RunAttempt, "jobId": f.JobID,
		"job": f.Job, "workflowPath": f.WorkflowPath, "ref": f.Ref, "sha": f.SHA, "event": f.Event,
		"runnerId": f.RunnerID, "runnerName": f.RunnerName,
	}
	for name, value := range required {
		if value == "" {
			return malformed("the fact "+name, "none")
		}
		if !f.Origins[name].Valid() {
			return malformed("the origin of the fact "+name, fmt.Sprintf("%q", f.Origins[name]))
		}
	}
	if !slices.Contains([]string{IdentityToken, IdentityScaleSet, IdentityJobsAPI}, f.IdentitySource) {
		return malformed("a known identity source", fmt.Sprintf("%q", f.IdentitySource))
	}
	if f.JobMessage.IsZero() {
		return malformed("the digest of the job message", "none")
	}
	return nil
}

// Response is the RESPONSE statement: this evidence quotes this provenance.
type Response struct {
	Subjects   []Subject
	Provenance binding.Digest // SHA-256 of the provenance payload
	Evidence   binding.Digest // SHA-256 of the evidence line
	BuildID    string
	Sequence   int
}

type responseConditions struct {
	BuildID  string `json:"buildId"`
	Sequence int    `json:"sequence"`
}

// Marshal encodes the statement once.
func (s *Response) Marshal() ([]byte, error) {
	conditions, err := encode(responseConditions{s.BuildID, s.Sequence})
	if err != nil {
		return nil, err
	}
	return marshal(s.Subjects, SCAIType, scaiPredicate{Attributes: []scaiAttribute{{
		Attribute:  AttributeTEEBound,
		Target:     &ResourceDescriptor{Name: "provenance", Digest: SHA256(s.Provenance), MediaType: PayloadType},
		Conditions: conditions,
		Evidence:   &ResourceDescriptor{Name: "evidence", Digest: SHA256(s.Evidence), MediaType: "application/cmw+json"},
	}}})
}

// ParseResponse reads a RESPONSE payload.
func ParseResponse(payload []byte) (*Response, error) {
	var c responseConditions
	subjects, a, err := parseSCAI(payload, AttributeTEEBound, &c)
	if err != nil {
		return nil, err
	}
	s := &Response{Subjects: subjects, BuildID: c.BuildID, Sequence: c.Sequence}
	var ok bool
	if s.Provenance, ok = target(a); !ok {
		return nil, malformed("the digest of the provenance as target", "none")
	}
	if a.Evidence == nil {
		return nil, malformed("the evidence", "none")
	}
	if s.Evidence, ok = a.Evidence.Digest.SHA256(); !ok {
		return nil, malformed("the digest of the evidence", "none")
	}
	if s.BuildID == "" || s.Sequence < 1 {
		return nil, malformed("a build ID and a sequence from 1", fmt.Sprintf("%q, %d", s.BuildID, s.Sequence))
	}
	return s, nil
}

// Final is the FINAL statement, made when the sandbox is dead.
type Final struct {
	EnvironmentKey binding.Digest
	BuildID        string
	Conditions     FinalConditions
}

// FinalConditions says how the job ended. The conclusion is GitHub's; the job's own token can influence it.
type FinalConditions struct {
	Outcome          string     `json:"outcome"`              // finished, failed or cancelled, as kettled saw it
	Conclusion       string     `json:"conclusion,omitempty"` // as GitHub's API says
	ConclusionOrigin Origin     `json:"conclusionOrigin"`     // always "job": the job can complete itself
	RunnerExit       int        `json:"runnerExit"`
	Responses        int        `json:"responses"`
	Egress           []Flow     `json:"egress,omitempty"` // every flow of the job, pinned hosts and refusals included
	Killed           *Processes `json:"killed,omitempty"` // absent when nothing ran any more
	Disk             *Disk      `json:"disk,omitempty"`   // absent when nobody could look
	FinishedOn       time.Time  `json:"finishedOn"`
}

// Marshal encodes the statement once.
func (s *Final) Marshal() ([]byte, error) {
	s.Conditions.FinishedOn = s.Conditions.FinishedOn.UTC().Truncate(time.Second)
	return environment(s.EnvironmentKey, AttributeJobFinished,
		&ResourceDescriptor{Name: "build", URI: s.BuildID}, s.Conditions, nil)
}

// ParseFinal reads a FINAL payload.
func ParseFinal(payload []byte) (*Final, error) {
	s := new(Final)
	a, key, err := parseEnvironment(payload, AttributeJobFinished, &s.Conditions)
	if err != nil {
		return nil, err
	}
	if a.Target == nil || a.Target.URI == "" || s.Conditions.Outcome == "" {
		return nil, malformed("a build ID and an outcome", "neither or one of them")
	}
	if s.Conditions.ConclusionOrigin != FromJob {
		return nil, malformed("a conclusion that the job could influence", fmt.Sprintf("one of origin %q", s.Conditions.ConclusionOrigin))
	}
	s.EnvironmentKey, s.BuildID = key, a.Target.URI
	return s, nil
}

// environment encodes a statement whose subject is the environment.
func environment(key binding.Digest, attribute string, target *ResourceDescriptor, conditions any, evidence *ResourceDescriptor) ([]byte, error) {
	c, err := encode(conditions)
	if err != nil {
		return nil, err
	}
	return marshal([]Subject{{Name: environmentSubject, Digest: SHA256(key)}}, SCAIType,
		scaiPredicate{Attributes: []scaiAttribute{{Attribute: attribute, Target: target, Conditions: c, Evidence: evidence}}})
}

func parseEnvironment(payload []byte, attribute string, conditions any) (*scaiAttribute, binding.Digest, error) {
	subjects, a, err := parseSCAI(payload, attribute, conditions)
	if err != nil {
		return nil, binding.Digest{}, err
	}
	if len(subjects) != 1 || subjects[0].Name != environmentSubject {
		return nil, binding.Digest{}, malformed("the subject "+environmentSubject+" alone", "other subjects")
	}
	key, _ := subjects[0].Digest.SHA256() // its shape was checked with the subjects
	return a, key, nil
}

func parseSCAI(payload []byte, attribute string, conditions any) ([]Subject, *scaiAttribute, error) {
	var pred scaiPredicate
	subjects, err := parse(payload, SCAIType, &pred)
	if err != nil {
		return nil, nil, err
	}
	if len(pred.Attributes) != 1 || pred.Attributes[0].Attribute != attribute {
		return nil, nil, malformed("the attribute "+attribute+" alone", "other attributes")
	}
	a := &pred.Attributes[0]
	if err := decode(a.Conditions, conditions); err != nil {
		return nil, nil, err
	}
	return subjects, a, nil
}

func target(a *scaiAttribute) (binding.Digest, bool) {
	if a.Target == nil {
		return binding.Digest{}, false
	}
	return a.Target.Digest.SHA256()
}

// spokenBySimulator gives the platform whose names a simulator uses.
func (i Instance) spokenBySimulator() string {
	switch {
	case i.ReportID == "" && i.AttestationKey == "":
		return "tdx"
	case i.ReportID == "":
		return "az-tdx"
	case i.AttestationKey != "":
		return "az-snp"
	}
	return "snp"
}

// validate demands exactly the names that the platform has.
func (i Instance) validate() error {
	var report, chip, key int // bytes
	platform := i.Platform
	if platform == "sim" { // it speaks like another
		platform = i.spokenBySimulator()
	}
	switch platform {
	case "snp":
		report, chip = 32, 64
	case "tdx":
		chip = 16
	case "az-snp":
		report, chip, key = 32, 64, 32
	case "az-tdx":
		chip, key = 16, 32
	case "vtpm":
		key = 32
	default:
		return malformed("an instance of a platform that is known", fmt.Sprintf("%.20q", i.Platform))
	}
	for _, f := range [...]struct {
		name, value string
		size        int
	}{{"reportId", i.ReportID, report}, {"chipId", i.ChipID, chip}, {"attestationKey", i.AttestationKey, key}} {
		b, err := hex.DecodeString(f.value)
		if err != nil || len(b) != f.size || hex.EncodeToString(b) != f.value {
			return malformed(fmt.Sprintf("%s of an instance of platform %s: %d bytes in lower-case hexadecimal", f.name, i.Platform, f.size), "something else")
		}
	}
	return nil
}
