// SPDX-License-Identifier: Apache-2.0

package attesttest

import (
	"bytes"
	"encoding/hex"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/fakesigstore"
)

// The workflow that signs every image, called by a workflow of the images' repository.
const (
	ImageRepository = "acme/images"
	ImageSigner     = "kettle/attest/.github/workflows/image.yml@refs/tags/v1"
	imageCaller     = ".github/workflows/release.yml"
	imageRef        = "refs/tags/v1"
)

// ImagePolicy is the entry of environments.images that accepts [SignedImage], as YAML in braces.
func ImagePolicy() string {
	id := ImageIdentity()
	return `{issuer: ` + fakesigstore.GitHubIssuer + `, workflow: "https://github.com/kettle/attest/.github/workflows/image.yml", refs: [` + imageRef + `], ` +
		`repository: {url: "https://github.com/` + ImageRepository + `", id: "` + id.RepositoryID + `", ownerId: "` + id.OwnerID + `"}}`
}

// ImageIdentity is the job that signs images.
func ImageIdentity() fakesigstore.Identity {
	id := fakesigstore.GitHub(ImageRepository, imageCaller, imageRef)
	id.JobWorkflowRef, id.JobWorkflowSHA = ImageSigner, strings.Repeat("b2", 20)
	return id
}

// Image is one image in a test. The zero value of every field but Measurement stands for something that fits.
type Image struct {
	Measurement [48]byte                  // of the simulator
	VCPUs       int                       // that the measurement is for; 0: any
	Components  map[string]binding.Digest // reference values by their names, for example of kettled
	CommandLine string                    // the kernel's; "" for none
	Name        string                    // of which its files' digests are made; "kettle" when empty
	Build       string                    // production unless something else is written
	Identity    *fakesigstore.Identity    // who signs; [ImageIdentity] when nil
	ValuesBy    *fakesigstore.Identity    // who signs the reference values; Identity when nil
	Instance    *fakesigstore.Instance    // of Sigstore; [Sigstore] when nil
	SignedOn    time.Time                 // what the timestamps say; a day before [Now] when zero
	Change      func(*statement.ImageProvenance, *statement.ReferenceValues)
}

var sigstore = sync.OnceValues(func() (*fakesigstore.Instance, error) {
	return fakesigstore.New(fakesigstore.Config{Now: func() time.Time { return Now().Add(-24 * time.Hour) }})
})

// Sigstore is the instance that signs images.
func Sigstore(t testing.TB) *fakesigstore.Instance {
	t.Helper()
	i, err := sigstore()
	must(t, err)
	return i
}

// SigstoreTrust is the trusted root of [Sigstore].
func SigstoreTrust(t testing.TB) *bundle.Trust {
	t.Helper()
	trust, err := bundle.ParseTrust(Sigstore(t).TrustedRoot())
	must(t, err)
	return trust
}

// SignedImage gives the bundle of an image: its provenance and its reference values.
func SignedImage(t testing.TB, i Image) []byte {
	t.Helper()
	if i.Identity == nil {
		id := ImageIdentity()
		i.Identity = &id
	}
	if i.ValuesBy == nil {
		i.ValuesBy = i.Identity
	}
	if i.Instance == nil {
		i.Instance = Sigstore(t)
	}
	p, v := i.provenance(), i.values()
	if i.Change != nil {
		i.Change(p, v)
	}
	provenance, err := p.Marshal()
	must(t, err)
	values, err := v.Marshal()
	must(t, err)
	var lines [][]byte
	for payload, who := range map[*[]byte]*fakesigstore.Identity{&provenance: i.Identity, &values: i.ValuesBy} {
		line, err := i.Instance.Sign(*payload, fakesigstore.Options{Identity: *who, Stamped: i.SignedOn})
		must(t, err)
		lines = append(lines, line)
	}
	return append(bytes.Join(lines, []byte{'\n'}), '\n')
}

func (i Image) subjects() []statement.Subject {
	name := i.Name
	if name == "" {
		name = "kettle"
	}
	var out []statement.Subject
	for _, file := range []string{"firmware.bin", "vmlinuz", "initrd.cpio", "root.erofs", "uki.efi", statement.ImageManifest} {
		out = append(out, statement.Subject{Name: file, Digest: statement.SHA256(binding.Sum([]byte(name + " " + file)))})
	}
	return out
}

func (i Image) provenance() *statement.ImageProvenance {
	id, build := *i.Identity, i.Build
	if build == "" {
		build = statement.BuildProduction
	}
	path, ref, _ := strings.Cut(strings.TrimPrefix(id.WorkflowRef, id.Repository+"/"), "@")
	source := "https://github.com/" + id.Repository
	return &statement.ImageProvenance{
		Subjects: i.subjects(), BuilderID: id.SAN(), BuilderVersion: map[string]string{"kettle": "1.0.0"},
		External: statement.ImageParameters{
			Workflow: statement.Workflow{Ref: ref, Repository: source, Path: path},
			Image:    statement.ImageRequest{Name: "kettle", Profile: statement.ProfileStrict, Build: build}, Event: id.Event,
		},
		Internal: statement.ImageInternal{GitHub: statement.ImageGitHub{
			EventName: id.Event, RepositoryID: id.RepositoryID, RepositoryOwnerID: id.OwnerID, RunnerEnvironment: id.RunnerEnvironment,
			RunID: id.RunID, RunAttempt: id.RunAttempt, JobWorkflowSHA: id.JobWorkflowSHA,
		}},
		Materials: []statement.ResourceDescriptor{
			{URI: "git+" + source + "@" + id.Ref, Digest: statement.DigestSet{"gitCommit": id.SHA}},
			{Name: statement.MaterialLock, Digest: statement.SHA256(binding.Sum([]byte("lock")))},
			{Name: statement.MaterialFirmware, Digest: statement.SHA256(binding.Sum([]byte("firmware")))},
		},
		InvocationID: source + "/actions/runs/" + id.RunID + "/attempts/" + id.RunAttempt,
	}
}

func (i Image) values() *statement.ReferenceValues {
	v := &statement.ReferenceValues{Subjects: i.subjects(), Producer: i.Identity.SAN()}
	add := func(c statement.Conditions, name, key, value string) {
		v.Values = append(v.Values, statement.ReferenceValue{Conditions: c, Name: name, Key: key, Value: value})
	}
	components := map[string]binding.Digest{
		statement.ComponentRootHash: binding.Sum([]byte("root")), statement.ComponentKettled: binding.Sum([]byte("kettled")),
		statement.ComponentConfiguration: Configuration(),
	}
	for name, digest := range i.Components {
		components[name] = digest
	}
	if i.CommandLine != "" {
		components[statement.ComponentCommandLine] = binding.Sum([]byte(i.CommandLine))
	}
	for name, digest := range components {
		add(statement.Conditions{Component: name}, name, "sha256", digest.String())
	}
	add(statement.Conditions{Platform: statement.ReferenceSim, VCPUs: i.VCPUs}, "launch", statement.KeySimMeasurement, hex.EncodeToString(i.Measurement[:]))
	return v
}

// Operator is a key that admits environments, and its public half as PEM.
func Operator(t testing.TB) (*bundle.Key, string) {
	t.Helper()
	key, err := bundle.NewKey()
	must(t, err)
	text, err := key.GetPublicKeyPem()
	must(t, err)
	return key, text
}

// Admitted is the summary of somebody outside who admitted the environment half a minute before its dispatch. change may
// change it before it is signed.
func (e *Environment) Admitted(t testing.TB, by *bundle.Key, change func(*statement.EnvironmentVSA)) []byte {
	t.Helper()
	digest := LaunchDigest()
	v := &statement.EnvironmentVSA{
		EnvironmentKey: e.Key.Digest(), Instance: e.Instance(t), Launch: statement.DigestSet{statement.KeySimMeasurement: hex.EncodeToString(digest[:])},
		Image: Image{}.subjects(),
		Summary: statement.VSA{
			Verifier:     statement.Verifier{ID: "https://dispatch.example/verifiers/admission/v1", Version: map[string]string{"kettle-dispatch": "1.0.0"}},
			TimeVerified: Now().Add(-30 * time.Second),
			Policy:       statement.VSAPolicy{URI: "https://dispatch.example/policy.yaml", Digest: binding.Sum([]byte("policy"))},
			Inputs:       []statement.ResourceDescriptor{{Name: "evidence", Digest: statement.SHA256(binding.Sum([]byte("evidence")))}},
			Result:       statement.Passed, Levels: []string{statement.BuildLevel(3), statement.PropertyEnvironment, statement.PropertyRevocationChecked},
		},
	}
	apply(change, v)
	payload, err := v.Marshal()
	must(t, err)
	line, err := bundle.Sign(t.Context(), by, payload)
	must(t, err)
	return line
}
