// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
)

const signer = "https://github.com/acme/images/.github/workflows/image.yml@refs/tags/v1"

func imageProvenance() *ImageProvenance {
	return &ImageProvenance{
		Subjects: imageFiles(), BuilderID: signer, BuilderVersion: map[string]string{"kettle": "1.0.0", "go": "go1.26.0"},
		External: ImageParameters{
			Workflow: Workflow{Ref: "refs/tags/v1", Repository: "https://github.com/acme/images", Path: ".github/workflows/release.yml"},
			Image:    ImageRequest{Name: "kettle", Profile: ProfileStrict, Build: BuildProduction},
			Event:    "push", Inputs: map[string]string{"profile": "strict"},
		},
		Internal: ImageInternal{ImageGitHub{
			EventName: "push", RepositoryID: "1296269", RepositoryOwnerID: "583231", RunnerEnvironment: "github-hosted", RunID: "1",
			RunAttempt: "1", JobWorkflowSHA: strings.Repeat("b2", 20),
		}},
		Materials: []ResourceDescriptor{
			{URI: "git+https://github.com/acme/images@refs/tags/v1", Digest: DigestSet{"gitCommit": strings.Repeat("a1", 20)}},
			{Name: MaterialLock, Digest: SHA256(digest(20))},
			{Name: MaterialFirmware, Digest: SHA256(digest(21)), Annotations: map[string]string{"package": "ovmf 2025.02-8"}},
		},
		InvocationID: "https://github.com/acme/images/actions/runs/1/attempts/1", StartedOn: when, FinishedOn: when,
		Byproducts: []ResourceDescriptor{{Name: "sbom.spdx.json", Digest: SHA256(digest(22))}},
	}
}

func referenceValues() *ReferenceValues {
	hex := func(s string, bytes int) string { return strings.Repeat(s, bytes) }
	snp := Conditions{Platform: ReferenceSNP, Boot: BootDirect, VMM: "qemu", VCPUs: 4, VCPUType: "EPYC-v4", GuestFeatures: "0x1"}
	return &ReferenceValues{
		Subjects: imageFiles(), Producer: signer,
		Values: []ReferenceValue{
			{Conditions{Component: ComponentCommandLine}, "command line", "sha256", hex("c1", 32)},
			{Conditions{Component: ComponentRootHash}, "dm-verity root hash", "sha256", hex("c2", 32)},
			{Conditions{Component: ComponentKettled}, "kettled", "sha256", hex("c3", 32)},
			{snp, "launch", KeySNPMeasurement, hex("d1", 48)},
			{Conditions{Platform: ReferenceSim, Boot: BootDirect}, "launch", KeySimMeasurement, hex("d2", 48)},
			{Conditions{Platform: ReferenceTDX, Register: "mrtd", Variant: "single-pass"}, "MRTD", KeyTDXMRTD, hex("d3", 48)},
			{Conditions{Platform: ReferenceTDX, Boot: BootUKI, Register: "rtmr1"}, "RTMR1", KeyTDXRTMR + "1", hex("d4", 48)},
			{Conditions{Platform: ReferenceTPM, Boot: BootUKI, Register: "pcr11"}, "PCR 11", KeyTPMPCR + "11", hex("d5", 32)},
			{Conditions{Platform: ReferenceTPM, Boot: BootDirect, Register: "pcr11"}, "PCR 11", KeyTPMPCR + "11", hex("00", 32)}, // not extended
		},
		Shown: []Shown{
			{AttributeNoAgents, "https://github.com/acme/images/blob/main/image/build/agents_test.go", hex("a1", 20)},
			{AttributeEphemeralKey, "https://github.com/acme/images/blob/main/runner/boot/scratch_test.go", hex("a1", 20)},
		},
	}
}

func TestImageProvenanceRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*ImageProvenance){
		"no builder":         func(p *ImageProvenance) { p.BuilderID = "" },
		"builder of no ref":  func(p *ImageProvenance) { p.BuilderID = strings.Split(signer, "@")[0] },
		"builder over http":  func(p *ImageProvenance) { p.BuilderID = strings.Replace(signer, "https", "http", 1) },
		"no version":         func(p *ImageProvenance) { p.BuilderVersion = map[string]string{"go": "go1.26.0"} },
		"no invocation":      func(p *ImageProvenance) { p.InvocationID = "" },
		"no ref":             func(p *ImageProvenance) { p.External.Workflow.Ref = "" },
		"no repository":      func(p *ImageProvenance) { p.External.Workflow.Repository = "" },
		"no path":            func(p *ImageProvenance) { p.External.Workflow.Path = "" },
		"no name":            func(p *ImageProvenance) { p.External.Image.Name = "" },
		"profile":            func(p *ImageProvenance) { p.External.Image.Profile = "any" },
		"no build":           func(p *ImageProvenance) { p.External.Image.Build = "" },
		"no event":           func(p *ImageProvenance) { p.External.Event, p.Internal.GitHub.EventName = "", "" },
		"two events":         func(p *ImageProvenance) { p.Internal.GitHub.EventName = "schedule" },
		"no repository ID":   func(p *ImageProvenance) { p.Internal.GitHub.RepositoryID = "" },
		"no owner ID":        func(p *ImageProvenance) { p.Internal.GitHub.RepositoryOwnerID = "" },
		"no runner":          func(p *ImageProvenance) { p.Internal.GitHub.RunnerEnvironment = "" },
		"no run":             func(p *ImageProvenance) { p.Internal.GitHub.RunID = "" },
		"no attempt":         func(p *ImageProvenance) { p.Internal.GitHub.RunAttempt = "" },
		"no workflow commit": func(p *ImageProvenance) { p.Internal.GitHub.JobWorkflowSHA = "" },
		"no material":        func(p *ImageProvenance) { p.Materials = nil },
		"no source":          func(p *ImageProvenance) { p.Materials = p.Materials[1:] },
		"short commit":       func(p *ImageProvenance) { p.Materials[0].Digest["gitCommit"] = "a1a1a1a" },
		"source over ssh":    func(p *ImageProvenance) { p.Materials[0].URI = "git+ssh://git@github.com/acme/images" },
		"no lock":            func(p *ImageProvenance) { p.Materials[1].Name = "locks" },
		"lock of no digest":  func(p *ImageProvenance) { p.Materials[1].Digest = nil },
		"lock by SHA-1":      func(p *ImageProvenance) { p.Materials[1].Digest = DigestSet{"sha1": strings.Repeat("a1", 20)} },
		"no firmware":        func(p *ImageProvenance) { p.Materials = p.Materials[:2] },
		"nameless byproduct": func(p *ImageProvenance) { p.Byproducts[0].Name = "" },
		"no manifest":        func(p *ImageProvenance) { p.Subjects = p.Subjects[:2] },
		"no subject":         func(p *ImageProvenance) { p.Subjects = nil },
	} {
		p := imageProvenance()
		change(p)
		if b, err := p.Marshal(); !errors.Is(err, refusal.ErrMalformed) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReferenceValuesRefuse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*ReferenceValues){
		"no producer":            func(r *ReferenceValues) { r.Producer = "" },
		"no manifest":            func(r *ReferenceValues) { r.Subjects = r.Subjects[:2] },
		"no values":              func(r *ReferenceValues) { r.Values = nil },
		"nameless value":         func(r *ReferenceValues) { r.Values[0].Name = "" },
		"no value":               func(r *ReferenceValues) { r.Values[0].Value = "" },
		"zeros":                  func(r *ReferenceValues) { r.Values[3].Value = strings.Repeat("0", 96) },
		"capitals":               func(r *ReferenceValues) { r.Values[3].Value = strings.Repeat("D1", 48) },
		"short":                  func(r *ReferenceValues) { r.Values[3].Value = r.Values[3].Value[2:] },
		"no condition":           func(r *ReferenceValues) { r.Values[0].Conditions = Conditions{} },
		"component on a machine": func(r *ReferenceValues) { r.Values[0].Conditions.Platform = ReferenceSNP },
		"component in capitals":  func(r *ReferenceValues) { r.Values[0].Conditions.Component = "Kettled" },
		"component twice":        func(r *ReferenceValues) { r.Values[0].Conditions.Component = ComponentKettled },
		"component's algorithm":  func(r *ReferenceValues) { r.Values[0].Key = "sha512" },
		"unknown platform":       func(r *ReferenceValues) { r.Values[3].Conditions.Platform = "az-snp" },
		"other platform's key":   func(r *ReferenceValues) { r.Values[3].Key = KeySimMeasurement },
		"register of SNP":        func(r *ReferenceValues) { r.Values[3].Conditions.Register = "pcr4" },
		"no processors":          func(r *ReferenceValues) { r.Values[3].Conditions.VCPUs = 0 },
		"negative processors":    func(r *ReferenceValues) { r.Values[3].Conditions.VCPUs = -4 },
		"too many processors":    func(r *ReferenceValues) { r.Values[3].Conditions.VCPUs = 4097 },
		"no VMM":                 func(r *ReferenceValues) { r.Values[3].Conditions.VMM = "" },
		"no features":            func(r *ReferenceValues) { r.Values[3].Conditions.GuestFeatures = "" },
		"features in decimal":    func(r *ReferenceValues) { r.Values[3].Conditions.GuestFeatures = "1" },
		"two words":              func(r *ReferenceValues) { r.Values[3].Conditions.VCPUType = "EPYC v4" },
		"unknown boot":           func(r *ReferenceValues) { r.Values[3].Conditions.Boot = "pxe" },
		"processors of a TPM":    func(r *ReferenceValues) { r.Values[7].Conditions.VCPUs = 4 },
		"type of a TPM":          func(r *ReferenceValues) { r.Values[7].Conditions.VCPUType = "EPYC" },
		"no register":            func(r *ReferenceValues) { r.Values[7].Conditions.Register = "" },
		"register that is none": func(r *ReferenceValues) {
			r.Values[7].Conditions.Register = "pcr24"
			r.Values[7].Key = KeyTPMPCR + "24"
		},
		"register and key": func(r *ReferenceValues) { r.Values[7].Key = KeyTPMPCR + "4" },
		"RTMR 4": func(r *ReferenceValues) {
			r.Values[6].Conditions.Register = "rtmr4"
			r.Values[6].Key = KeyTDXRTMR + "4"
		},
		"value twice": func(r *ReferenceValues) { r.Values = append(r.Values, r.Values[7]) },
		"value twice, renamed": func(r *ReferenceValues) {
			v := r.Values[7]
			v.Name = "other"
			r.Values = append(r.Values, v)
		},
		"unknown property":     func(r *ReferenceValues) { r.Shown[0].Attribute = "SECURE" },
		"property as value":    func(r *ReferenceValues) { r.Shown[0].Attribute = AttributeReferenceValue },
		"property twice":       func(r *ReferenceValues) { r.Shown[0] = r.Shown[1] },
		"property unshown":     func(r *ReferenceValues) { r.Shown[0].Test = "" },
		"property of no state": func(r *ReferenceValues) { r.Shown[0].Commit = "main" },
		"too many":             func(r *ReferenceValues) { r.Values = make([]ReferenceValue, maxValues+1) },
	} {
		r := referenceValues()
		change(r)
		if b, err := r.Marshal(); !errors.Is(err, refusal.ErrMalformed) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestImageParseRefuses alters the bytes of an image's statements.
func TestImageParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, kind, old, with string }{
		{"build type of a job", "image-provenance", "buildtypes/image/v1", "buildtypes/github-actions-job/v1"},
		{"unknown parameter", "image-provenance", `"externalParameters":{`, `"externalParameters":{"x":1,`},
		{"unknown internal", "image-provenance", `"internalParameters":{`, `"internalParameters":{"x":1,`},
		{"no parameters", "image-provenance", `"externalParameters":{`, `"externalParameters":null,"x":{`},
		{"builder's dependencies", "image-provenance", `"builder":{`, `"builder":{"builderDependencies":[],`},
		{"image", "image-provenance", `"build":"production"`, `"build":"Production"`},
		{"unknown attribute", "reference-values", `"attribute":"NO_MAINTENANCE_AGENTS"`, `"attribute":"SECURE"`},
		{"attribute of the PoC", "reference-values", `"attribute":"REFERENCE_VALUE"`, `"attribute":"REF_VALUE:kernel"`},
		{"unknown condition", "reference-values", `"conditions":{"component"`, `"conditions":{"x":1,"component"`},
		{"no conditions", "reference-values", `"conditions":{"component":"kettled"}`, `"conditions":null`},
		{"two digests", "reference-values", `"digest":{"sha256":"c1`, `"digest":{"sha512":"aa","sha256":"c1`},
		{"no digest", "reference-values", `"digest":{"sha256":"` + strings.Repeat("c1", 32) + `"}`, `"digest":{}`},
		{"target with place", "reference-values", `"target":{"name":"kettled"`, `"target":{"uri":"https://acme.example","name":"kettled"`},
		{"value with evidence", "reference-values", `"conditions":{"component":"kettled"}`, `"conditions":{"component":"kettled"},"evidence":{"uri":"https://acme.example"}`},
		{"property with target", "reference-values", `"attribute":"NO_MAINTENANCE_AGENTS"`, `"attribute":"NO_MAINTENANCE_AGENTS","target":{"name":"x"}`},
		{"property without evidence", "reference-values", `"attribute":"NO_MAINTENANCE_AGENTS","evidence"`, `"attribute":"NO_MAINTENANCE_AGENTS","x"`},
		{"evidence of no commit", "reference-values", `"digest":{"gitCommit":`, `"digest":{"sha1":`},
		{"producer with more", "reference-values", `"producer":{`, `"producer":{"name":"x",`},
		{"no producer", "reference-values", `"producer":{"uri"`, `"producer":{"name"`},
		{"property before the values", "reference-values", `"attributes":[`, `"attributes":[{"attribute":"NO_MAINTENANCE_AGENTS","evidence":{"uri":"https://acme.example/t","digest":{"gitCommit":"` + strings.Repeat("a1", 20) + `"}}},`},
	} {
		b, err := makers()[tc.kind]()
		if err != nil {
			t.Fatal(err)
		}
		bad := strings.Replace(string(b), tc.old, tc.with, 1)
		if bad == string(b) {
			t.Fatalf("%s: %q is not in the payload", tc.name, tc.old)
		}
		if s, err := parsers()[tc.kind]([]byte(bad)); !errors.Is(err, refusal.ErrMalformed) || s != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestImageReading(t *testing.T) {
	t.Parallel()
	b, err := imageProvenance().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got := ProvenanceBuildType(b); got != ImageBuildType {
		t.Errorf("build type %q", got)
	}
	if got := ProvenanceBuildType([]byte("x")); got != "" {
		t.Errorf("build type of nothing %q", got)
	}
	r := referenceValues()
	if d, ok := r.Component(ComponentKettled); !ok || d.String() != strings.Repeat("c3", 32) {
		t.Errorf("kettled is %v, %v", d, ok)
	}
	if _, ok := r.Component(ComponentRunner); ok {
		t.Error("a component that nobody named")
	}
}
