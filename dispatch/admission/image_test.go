// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"net/http"
	"strings"
	"testing"

	wire "github.com/kettle/attest/attest/admission"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/dispatch/admission"
	"github.com/kettle/attest/internal/fakesigstore"
)

// release is an image as its workflow releases it; a test changes it before it is signed.
type release struct {
	identity      fakesigstore.Identity
	measurement   string
	configuration string
	build         string
}

func newRelease() release {
	return release{
		fakesigstore.GitHub("acme/image", ".github/workflows/image.yml", "refs/tags/v1"), attesttest.Measurement(), "configuration", statement.BuildProduction,
	}
}

// uki is the digest of one of the image's files.
func uki() binding.Digest { return binding.Sum([]byte("uki.efi")) }

// bundle signs provenance and reference values.
func (r release) bundle(t *testing.T, i *fakesigstore.Instance) [][]byte {
	t.Helper()
	id := r.identity
	source := "https://github.com/" + id.Repository
	subjects := []statement.Subject{{Name: "uki.efi", Digest: statement.SHA256(uki())}, {Name: statement.ImageManifest, Digest: statement.SHA256(binding.Sum([]byte("manifest")))}}
	workflow, _, _ := strings.Cut(strings.TrimPrefix(id.WorkflowRef, id.Repository+"/"), "@")
	p := &statement.ImageProvenance{
		Subjects: subjects, BuilderID: id.SAN(), BuilderVersion: map[string]string{"kettle": "1.0.0"},
		External: statement.ImageParameters{
			Workflow: statement.Workflow{Ref: id.Ref, Repository: source, Path: workflow},
			Image:    statement.ImageRequest{Name: "kettle", Profile: statement.ProfileStrict, Build: r.build}, Event: id.Event,
		},
		Internal: statement.ImageInternal{GitHub: statement.ImageGitHub{
			EventName: id.Event, RepositoryID: id.RepositoryID, RepositoryOwnerID: id.OwnerID, RunnerEnvironment: id.RunnerEnvironment,
			RunID: id.RunID, RunAttempt: id.RunAttempt, JobWorkflowSHA: id.JobWorkflowSHA,
		}},
		Materials: []statement.ResourceDescriptor{
			{URI: "git+" + source + "@" + id.Ref, Digest: statement.DigestSet{"gitCommit": id.SHA}},
			{Name: statement.MaterialLock, Digest: statement.SHA256(uki())}, {Name: statement.MaterialFirmware, Digest: statement.SHA256(binding.Sum(nil))},
		},
		InvocationID: source + "/actions/runs/" + id.RunID + "/attempts/" + id.RunAttempt,
	}
	component := func(name, value string) statement.ReferenceValue {
		return statement.ReferenceValue{Conditions: statement.Conditions{Component: name}, Name: name, Key: "sha256", Value: binding.Sum([]byte(value)).String()}
	}
	v := &statement.ReferenceValues{Subjects: subjects, Producer: id.SAN(), Values: []statement.ReferenceValue{
		component(statement.ComponentCommandLine, "quiet"), component(statement.ComponentRootHash, "root"), component(statement.ComponentKettled, "kettled"),
		component(statement.ComponentConfiguration, r.configuration),
		{Conditions: statement.Conditions{Platform: statement.ReferenceSim}, Name: "launch", Key: statement.KeySimMeasurement, Value: r.measurement},
	}}
	var lines [][]byte
	for _, s := range []interface{ Marshal() ([]byte, error) }{p, v} {
		payload, err := s.Marshal()
		must(t, err)
		line, err := i.Sign(payload, fakesigstore.Options{Identity: id})
		must(t, err)
		lines = append(lines, line)
	}
	return lines
}

// signedPolicy takes images of one workflow and nothing but their signed measurements.
func signedPolicy(t *testing.T, changes ...string) []byte {
	t.Helper()
	id := newRelease().identity
	return policyFile(t, append([]string{"images: any", `images:
    - issuer: https://token.actions.githubusercontent.com
      workflow: https://github.com/acme/image/.github/workflows/image.yml
      refs: ["refs/tags/v*"]
      repository: {url: https://github.com/acme/image, id: "` + id.RepositoryID + `", ownerId: "` + id.OwnerID + `"}`,
		`measurements: ["` + attesttest.Measurement() + `"]`, "measurements: signed"}, changes...)...)
}

// imageGate is a gate that verifies images against one Sigstore instance.
func imageGate(t *testing.T, i *fakesigstore.Instance, policyText []byte) *gate {
	t.Helper()
	trust, err := bundle.ParseTrust(i.TrustedRoot())
	must(t, err)
	return newGate(t, policyText, func(c *admission.Config) {
		c.Judge.Images = &admission.SignedImages{Trust: trust, Policy: c.Judge.Policy}
	})
}

func withImage(lines [][]byte) talk { return talk{message: func(r *wire.Request) { r.Image = lines }} }

func newSigstore(t *testing.T) *fakesigstore.Instance {
	t.Helper()
	i, err := fakesigstore.New(fakesigstore.Config{Now: attesttest.Now})
	must(t, err)
	return i
}

// TestSignedImage admits a machine whose measurement nobody wrote down: the image's own workflow signed it.
func TestSignedImage(t *testing.T) {
	t.Parallel()
	i := newSigstore(t)
	g := imageGate(t, i, signedPolicy(t))
	key, err := wire.NewKey()
	must(t, err)
	k := withImage(newRelease().bundle(t, i))
	k.key = key
	status, body := g.ask(g.boot(nil), k)
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, body)
	}
	a, err := wire.ParseAnswer(body)
	must(t, err)
	b, err := bundle.Parse(a.Summary)
	must(t, err)
	v, err := statement.ParseEnvironmentVSA(b.Payload())
	must(t, err)
	if d, ok := statement.DigestOf(v.Image, "uki.efi"); !ok || d != uki() || !v.Summary.Has(statement.BuildLevel(2)) || len(v.Summary.Inputs) != 6 {
		t.Errorf("%+v", v)
	}
}

// TestAttackForeignImageBundle asks with bundles that are not of the image that the machine booted, or that the policy does
// not accept.
func TestAttackForeignImageBundle(t *testing.T) {
	t.Parallel()
	i, other := newSigstore(t), newSigstore(t)
	change := func(f func(*release)) release { r := newRelease(); f(&r); return r }
	for name, tc := range map[string]struct {
		lines  [][]byte
		policy []string
		code   refusal.Code
	}{
		"none":                  {nil, nil, refusal.Missing},
		"another measurement":   {change(func(r *release) { r.measurement = strings.Repeat("77", 48) }).bundle(t, i), nil, refusal.Measurement},
		"another configuration": {change(func(r *release) { r.configuration = "another" }).bundle(t, i), nil, refusal.Measurement},
		"a debug build":         {change(func(r *release) { r.build = statement.BuildDebug }).bundle(t, i), nil, refusal.Debug},
		"another workflow": {change(func(r *release) {
			r.identity = fakesigstore.GitHub("acme/image", ".github/workflows/other.yml", "refs/tags/v1")
		}).bundle(t, i), nil, refusal.Identity},
		"another branch": {change(func(r *release) {
			r.identity = fakesigstore.GitHub("acme/image", ".github/workflows/image.yml", "refs/heads/main")
		}).bundle(t, i), nil, refusal.Identity},
		"a fork": {change(func(r *release) {
			r.identity = fakesigstore.GitHub("mallory/image", ".github/workflows/image.yml", "refs/tags/v1")
		}).bundle(t, i), nil, refusal.Identity},
		"another instance": {newRelease().bundle(t, other), nil, refusal.Chain},
		"revoked":          {newRelease().bundle(t, i), []string{"revoked: none", "revoked: {images: [" + uki().String() + "], keys: none, chips: none}"}, refusal.Revoked},
		"half":             {newRelease().bundle(t, i)[:1], nil, refusal.Missing},
		"halves of two":    {append(newRelease().bundle(t, i)[:1], change(func(r *release) { r.identity.RunID = "9002" }).bundle(t, i)[1]), nil, refusal.Identity},
		"no bundle at all": {[][]byte{[]byte(`{}`)}, nil, refusal.Missing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := imageGate(t, i, signedPolicy(t, tc.policy...))
			status, body := g.ask(g.boot(nil), withImage(tc.lines))
			g.refused(status, body, tc.code, "")
			g.nothing()
		})
	}
}
