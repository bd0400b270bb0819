// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/attest/binding"
)

// ImageBuildType says how to read the external parameters of an image's provenance.
const ImageBuildType = "https://github.com/kettle/attest/buildtypes/image/v1"

// The profiles and the kinds of build of an image, in the words of its manifest.
const (
	ProfileStrict   = "strict"
	ProfileDocker   = "docker"
	BuildProduction = "production"
	BuildDebug      = "debug"
)

// ImageManifest is the one subject that every statement about an image has. The others are the files beside it: the
// manifest says which part each plays.
const ImageManifest = "image.json"

// ImageProvenance is a SLSA provenance v1 statement of build type [ImageBuildType]: a workflow built this image.
type ImageProvenance struct {
	Subjects       []Subject         // the files of the image; image.json among them
	BuilderID      string            // the signing workflow at its ref, equal to the certificate's name (SAN)
	BuilderVersion map[string]string // of the programs that built: kettle, go
	External       ImageParameters
	Internal       ImageInternal
	Materials      []ResourceDescriptor // the source first, as a git commit; lock and firmware among the others
	InvocationID   string
	StartedOn      time.Time // by the clock of the builder
	FinishedOn     time.Time
	Byproducts     []ResourceDescriptor // SBOM, list of packages
}

// ImageParameters is everything that whoever starts the workflow can set. It is complete.
type ImageParameters struct {
	Workflow Workflow          `json:"workflow"` // the top-level workflow: the shape of GitHub's own build type
	Image    ImageRequest      `json:"image"`
	Event    string            `json:"event"`
	Inputs   map[string]string `json:"inputs,omitempty"` // of workflow_dispatch or workflow_call
}

// ImageRequest says which image was asked for.
type ImageRequest struct {
	Name    string `json:"name"`
	Profile string `json:"profile"` // strict or docker
	Build   string `json:"build"`   // production or debug
}

// ImageInternal is what the platform chose.
type ImageInternal struct {
	GitHub ImageGitHub `json:"github"`
}

// ImageGitHub repeats claims of GitHub's identity token. The signer's certificate has them too, by GitHub's word, and a
// verifier compares.
type ImageGitHub struct {
	EventName         string `json:"event_name"`
	RepositoryID      string `json:"repository_id"`
	RepositoryOwnerID string `json:"repository_owner_id"`
	RunnerEnvironment string `json:"runner_environment"`
	RunID             string `json:"run_id"`
	RunAttempt        string `json:"run_attempt"`
	JobWorkflowSHA    string `json:"job_workflow_sha"` // commit of the file that defines the signing workflow
}

// Names of materials that every image has.
const (
	MaterialLock     = "lock"     // the lock file of packages
	MaterialFirmware = "firmware" // as fetched, with its own provenance as annotations
)

// Marshal encodes the statement once.
func (p *ImageProvenance) Marshal() ([]byte, error) {
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
			BuildType: ImageBuildType, ExternalParameters: external, InternalParameters: internal, ResolvedDependencies: p.Materials,
		},
		RunDetails: runDetails{
			Builder:    builder{ID: p.BuilderID, Version: p.BuilderVersion},
			Metadata:   metadata{InvocationID: p.InvocationID, StartedOn: seconds(p.StartedOn), FinishedOn: seconds(p.FinishedOn)},
			Byproducts: p.Byproducts,
		},
	})
}

// ParseImageProvenance reads a provenance payload of an image's build type.
func ParseImageProvenance(payload []byte) (*ImageProvenance, error) {
	var pred provenancePredicate
	subjects, err := parse(payload, ProvenanceType, &pred)
	if err != nil {
		return nil, err
	}
	b, r := pred.BuildDefinition, pred.RunDetails
	if b.BuildType != ImageBuildType {
		return nil, malformed("buildType "+ImageBuildType, fmt.Sprintf("%.80q", b.BuildType))
	}
	if r.Builder.BuilderDependencies != nil {
		return nil, malformed("a builder without dependencies of its own", "some")
	}
	p := &ImageProvenance{
		Subjects: subjects, BuilderID: r.Builder.ID, BuilderVersion: r.Builder.Version, Materials: b.ResolvedDependencies,
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

// ProvenanceBuildType tells the build type of a provenance payload without judging it, "" where there is none.
func ProvenanceBuildType(payload []byte) string {
	var p struct {
		Predicate struct {
			BuildDefinition struct {
				BuildType string `json:"buildType"`
			} `json:"buildDefinition"`
		} `json:"predicate"`
	}
	if json.Unmarshal(payload, &p) != nil {
		return ""
	}
	return p.Predicate.BuildDefinition.BuildType
}

// Source gives the URI and the commit of the source.
func (p *ImageProvenance) Source() (uri, commit string) {
	return p.Materials[0].URI, p.Materials[0].Digest["gitCommit"]
}

func (p *ImageProvenance) validate() error {
	e, g := p.External, p.Internal.GitHub
	for _, f := range []struct{ name, value string }{
		{"invocationId", p.InvocationID}, {"workflow.ref", e.Workflow.Ref}, {"workflow.repository", e.Workflow.Repository},
		{"workflow.path", e.Workflow.Path}, {"image.name", e.Image.Name}, {"event", e.Event}, {"github.event_name", g.EventName},
		{"github.repository_id", g.RepositoryID}, {"github.repository_owner_id", g.RepositoryOwnerID},
		{"github.runner_environment", g.RunnerEnvironment}, {"github.run_id", g.RunID}, {"github.run_attempt", g.RunAttempt},
		{"github.job_workflow_sha", g.JobWorkflowSHA}, {"builder.version kettle", p.BuilderVersion["kettle"]},
	} {
		if f.value == "" || len(f.value) > maxText {
			return malformed("a value of "+f.name, fmt.Sprintf("%d characters", len(f.value)))
		}
	}
	if !absolute(p.BuilderID) || !strings.HasPrefix(p.BuilderID, "https://") || !strings.Contains(p.BuilderID, "@") {
		return malformed("builder.id as https://SERVER/OWNER/NAME/PATH@REF", fmt.Sprintf("%.120q", p.BuilderID))
	}
	if !slices.Contains([]string{ProfileStrict, ProfileDocker}, e.Image.Profile) {
		return malformed("image.profile strict or docker", fmt.Sprintf("%.40q", e.Image.Profile))
	}
	if !slices.Contains([]string{BuildProduction, BuildDebug}, e.Image.Build) {
		return malformed("image.build production or debug", fmt.Sprintf("%.40q", e.Image.Build))
	}
	if e.Event != g.EventName {
		return malformed("one event", fmt.Sprintf("%.40q and %.40q", e.Event, g.EventName))
	}
	if _, ok := DigestOf(p.Subjects, ImageManifest); !ok {
		return malformed("the subject "+ImageManifest, "none")
	}
	return p.validateMaterials()
}

func (p *ImageProvenance) validateMaterials() error {
	if len(p.Materials) == 0 || len(p.Materials) > maxInputs || len(p.Byproducts) > maxInputs {
		return malformed(fmt.Sprintf("1 to %d materials and at most as many byproducts", maxInputs), fmt.Sprintf("%d and %d", len(p.Materials), len(p.Byproducts)))
	}
	if uri, commit := p.Source(); !strings.HasPrefix(uri, "git+https://") || !gitCommit(commit) {
		return malformed("the source commit as the first material", fmt.Sprintf("%.80q %.64q", uri, commit))
	}
	for _, m := range slices.Concat(p.Materials, p.Byproducts) {
		if m.Name == "" && m.URI == "" || m.Digest.check() != nil {
			return malformed("materials and byproducts with name or URI and digest", fmt.Sprintf("%.80q %.80q", m.Name, m.URI))
		}
	}
	for _, name := range []string{MaterialLock, MaterialFirmware} {
		at := slices.IndexFunc(p.Materials, func(m ResourceDescriptor) bool { return m.Name == name })
		if at < 0 {
			return malformed("the material "+name, "none")
		}
		if _, ok := p.Materials[at].Digest.SHA256(); !ok {
			return malformed("a SHA-256 digest of the material "+name, "none")
		}
	}
	return nil
}

// gitCommit reports whether s is a commit's whole name: SHA-1 or SHA-256.
func gitCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// DigestOf gives the SHA-256 digest of the subject of this name.
func DigestOf(subjects []Subject, name string) (binding.Digest, bool) {
	at := slices.IndexFunc(subjects, func(s Subject) bool { return s.Name == name })
	if at < 0 {
		return binding.Digest{}, false
	}
	return subjects[at].Digest.SHA256()
}
