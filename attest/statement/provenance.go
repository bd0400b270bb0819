// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kettle/attest/attest/binding"
)

// Provenance is a SLSA provenance v1 statement of build type [BuildType].
type Provenance struct {
	Subjects            []Subject
	BuilderID           string
	BuilderVersion      map[string]string
	BuilderDependencies []ResourceDescriptor
	External            ExternalParameters
	Internal            InternalParameters
	Dependencies        []ResourceDescriptor // the source first
	InvocationID        string               // the build ID
	StartedOn           time.Time            // dispatch accepted, by the clock of the environment
	FinishedOn          time.Time            // outputs frozen, by the clock of the environment
	Byproducts          []ResourceDescriptor
}

// ExternalParameters is everything that a tenant can set and that influences the job. It is complete: a parameter that
// cannot be represented makes kettled refuse the job. An absent field means that the job had none.
type ExternalParameters struct {
	Workflow  Workflow          `json:"workflow"`
	Job       string            `json:"job"`
	Event     string            `json:"event"`
	Inputs    map[string]any    `json:"inputs,omitempty"`
	Vars      map[string]string `json:"vars,omitempty"`
	Matrix    map[string]any    `json:"matrix,omitempty"`
	RunsOn    []string          `json:"runsOn,omitempty"`
	Payload   *EventPayload     `json:"eventPayload,omitempty"`
	SecretsOf []string          `json:"secretNames,omitempty"` // names only, never values
	Debug     bool              `json:"debug,omitempty"`       // debug logging, which steps can see

	Container *Container           `json:"container,omitempty"` // that the steps run in
	Services  map[string]Container `json:"services,omitempty"`  // that run beside them, by their network names
}

// Container is a container of the job as the workflow writes it: an expression stands as ${{ … }}. What a registry is
// asked with is never in it.
type Container struct {
	Image      string   `json:"image"`
	Options    string   `json:"options,omitempty"`
	Env        []string `json:"env,omitempty"` // names only: values may be made of secrets
	Ports      []string `json:"ports,omitempty"`
	Volumes    []string `json:"volumes,omitempty"`
	Entrypoint string   `json:"entrypoint,omitempty"`
	Command    string   `json:"command,omitempty"`
}

// Workflow has the same shape as in GitHub's own build type, so policies written for that read it.
type Workflow struct {
	Ref        string `json:"ref"`
	Repository string `json:"repository"`
	Path       string `json:"path"`
}

// EventPayload names the event payload by digest; its fields are tenant-controlled.
type EventPayload struct {
	Digest DigestSet `json:"digest"`
}

// InternalParameters is what the platform chose or saw. Nothing in it is needed to reproduce the build.
type InternalParameters struct {
	GitHub GitHubParameters `json:"github"`
	Kettle KettleParameters `json:"kettle"`
}

// GitHubParameters repeats the facts that GitHub's own build type puts here.
type GitHubParameters struct {
	EventName         string `json:"event_name"`
	RepositoryID      string `json:"repository_id"`
	RepositoryOwnerID string `json:"repository_owner_id"`
	RunnerEnvironment string `json:"runner_environment"`
	ActorID           string `json:"actor_id,omitempty"`
	RunID             string `json:"run_id"`
	RunAttempt        string `json:"run_attempt"`
	JobID             string `json:"job_id"`
	JobWorkflowRef    string `json:"job_workflow_ref,omitempty"`
	JobWorkflowSHA    string `json:"job_workflow_sha,omitempty"`
	RunnerName        string `json:"runner_name"`
}

// KettleParameters says how the environment ran the job and who vouches for which field.
type KettleParameters struct {
	Platform       string         `json:"platform"`
	Profile        string         `json:"profile"`
	Sandbox        string         `json:"sandbox"` // the container runtime and its version
	IdentitySource string         `json:"identitySource"`
	EnvironmentKey binding.Digest `json:"environmentKey"`
	Configuration  binding.Digest `json:"configuration"`
	Policy         binding.Digest `json:"policy"`
	Dispatch       binding.Digest `json:"dispatch"`
	Egress         Egress         `json:"egress"`
	Outputs        Outputs        `json:"outputs,omitempty"` // how the outputs were held still
	FrozenMillis   int64          `json:"frozenMillis"`      // how long the sandbox stood still to hold its outputs
	Origins        Origins        `json:"origins"`
	Steps          []Step         `json:"steps,omitempty"`
}

// Step is a step of the job as its workflow says it: a claim, since the job can run anything.
type Step struct {
	Name   string    `json:"name,omitempty"`
	Uses   string    `json:"uses,omitempty"`
	Run    string    `json:"run,omitempty"`    // the step's script, when short
	Script DigestSet `json:"script,omitempty"` // digest of a script that is not
}

// Origin says who vouches for a fact.
type Origin string

// The origins of facts.
const (
	FromGitHub   Origin = "github"   // GitHub's API over TLS, or its signature
	FromMeasured Origin = "measured" // read or computed by kettled, outside the sandbox
	FromJob      Origin = "job"      // a claim of the job
)

// Origins maps facts to who vouches for them. In JSON it is turned round, {"github":["event", …], …}, with the facts
// sorted: each origin is written once.
type Origins map[string]Origin

// MarshalJSON implements [json.Marshaler].
func (o Origins) MarshalJSON() ([]byte, error) {
	by := map[Origin][]string{}
	for _, fact := range slices.Sorted(maps.Keys(o)) {
		by[o[fact]] = append(by[o[fact]], fact)
	}
	return json.Marshal(by)
}

// UnmarshalJSON implements [json.Unmarshaler]. A fact with two origins, and an unknown origin, are refused.
func (o *Origins) UnmarshalJSON(b []byte) error {
	var by map[Origin][]string
	if err := json.Unmarshal(b, &by); err != nil {
		return fmt.Errorf("decoding origins: %w", err)
	}
	*o = Origins{}
	for origin, facts := range by {
		for _, fact := range facts {
			if _, twice := (*o)[fact]; twice || !origin.Valid() {
				return fmt.Errorf("decoding origins: one known origin for %q is wanted", fact)
			}
			(*o)[fact] = origin
		}
	}
	return nil
}

// Valid reports whether o is one of the origins.
func (o Origin) Valid() bool { return o == FromGitHub || o == FromMeasured || o == FromJob }

type provenancePredicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string               `json:"buildType"`
	ExternalParameters   json.RawMessage      `json:"externalParameters"`
	InternalParameters   json.RawMessage      `json:"internalParameters"`
	ResolvedDependencies []ResourceDescriptor `json:"resolvedDependencies"`
}

type runDetails struct {
	Builder    builder              `json:"builder"`
	Metadata   metadata             `json:"metadata"`
	Byproducts []ResourceDescriptor `json:"byproducts,omitempty"`
}

type builder struct {
	ID                  string               `json:"id"`
	Version             map[string]string    `json:"version,omitempty"`
	BuilderDependencies []ResourceDescriptor `json:"builderDependencies,omitempty"`
}

type metadata struct {
	InvocationID string     `json:"invocationId"`
	StartedOn    *time.Time `json:"startedOn,omitempty"`
	FinishedOn   *time.Time `json:"finishedOn,omitempty"`
}

// times gives both times, zero where one is absent.
func (m metadata) times() (started, finished time.Time) {
	if m.StartedOn != nil {
		started = *m.StartedOn
	}
	if m.FinishedOn != nil {
		finished = *m.FinishedOn
	}
	return started, finished
}

// Marshal encodes the provenance once, as the payload to quote and sign.
func (p *Provenance) Marshal() ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	external, err := encode(p.External)
	if err != nil {
		return nil, err
	}
	internal, err := encode(p.Internal)
	if err != nil {
		return nil, err
	}
	return marshal(p.Subjects, ProvenanceType, provenancePredicate{
		BuildDefinition: buildDefinition{
			BuildType: BuildType, ExternalParameters: external, InternalParameters: internal,
			ResolvedDependencies: p.Dependencies,
		},
		RunDetails: runDetails{
			Builder:    builder{ID: p.BuilderID, Version: p.BuilderVersion, BuilderDependencies: p.BuilderDependencies},
			Metadata:   metadata{InvocationID: p.InvocationID, StartedOn: seconds(p.StartedOn), FinishedOn: seconds(p.FinishedOn)},
			Byproducts: p.Byproducts,
		},
	})
}

// ParseProvenance reads a provenance payload of Kettle's build type.
func ParseProvenance(payload []byte) (*Provenance, error) {
	var pred provenancePredicate
	subjects, err := parse(payload, ProvenanceType, &pred)
	if err != nil {
		return nil, err
	}
	if pred.BuildDefinition.BuildType != BuildType {
		return nil, malformed("buildType "+BuildType, fmt.Sprintf("%q", pred.BuildDefinition.BuildType))
	}
	b, r := pred.BuildDefinition, pred.RunDetails
	p := &Provenance{
		Subjects: subjects, BuilderID: r.Builder.ID, BuilderVersion: r.Builder.Version,
		BuilderDependencies: r.Builder.BuilderDependencies, Dependencies: b.ResolvedDependencies,
		InvocationID: r.Metadata.InvocationID, Byproducts: r.Byproducts,
	}
	p.StartedOn, p.FinishedOn = r.Metadata.times()
	if err := decode(b.ExternalParameters, &p.External); err != nil {
		return nil, err
	}
	if err := decode(b.InternalParameters, &p.Internal); err != nil {
		return nil, err
	}
	if err := p.validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// validate demands every field that a verifier relies on.
func (p *Provenance) validate() error {
	g, k := p.Internal.GitHub, p.Internal.Kettle
	required := []struct{ name, value string }{
		{"builder.id", p.BuilderID}, {"invocationId", p.InvocationID},
		{"workflow.ref", p.External.Workflow.Ref}, {"workflow.repository", p.External.Workflow.Repository},
		{"workflow.path", p.External.Workflow.Path}, {"job", p.External.Job}, {"event", p.External.Event},
		{"github.event_name", g.EventName}, {"github.repository_id", g.RepositoryID},
		{"github.repository_owner_id", g.RepositoryOwnerID}, {"github.run_id", g.RunID},
		{"github.run_attempt", g.RunAttempt}, {"github.job_id", g.JobID}, {"github.runner_name", g.RunnerName},
		{"kettle.platform", k.Platform}, {"kettle.profile", k.Profile}, {"kettle.sandbox", k.Sandbox},
		{"kettle.identitySource", k.IdentitySource},
	}
	for _, f := range required {
		if f.value == "" {
			return malformed("a value of "+f.name, "none")
		}
	}
	if g.RunnerEnvironment != "self-hosted" {
		return malformed(`github.runner_environment "self-hosted"`, fmt.Sprintf("%q", g.RunnerEnvironment))
	}
	if p.BuilderID != BuilderID(k.Platform, k.Profile) {
		return malformed("builder.id "+BuilderID(k.Platform, k.Profile), fmt.Sprintf("%q", p.BuilderID))
	}
	if k.EnvironmentKey.IsZero() || k.Configuration.IsZero() || k.Policy.IsZero() || k.Dispatch.IsZero() {
		return malformed("digests of environment key, configuration, policy and dispatch", "a zero digest")
	}
	if len(p.Dependencies) == 0 || p.Dependencies[0].Digest["gitCommit"] == "" {
		return malformed("the source commit as the first resolved dependency", "none")
	}
	if !k.Outputs.valid() {
		return malformed("outputs snapshot or ended, or none for frozen ones", fmt.Sprintf("%q", k.Outputs))
	}
	if err := k.Egress.validate(); err != nil {
		return err
	}
	if len(k.Origins) == 0 {
		return malformed("the origin of every fact", "none")
	}
	for name, o := range k.Origins {
		if !o.Valid() {
			return malformed("a known origin of "+name, fmt.Sprintf("%q", o))
		}
	}
	return nil
}
