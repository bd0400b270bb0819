// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

func imageFiles() []Subject {
	return []Subject{{"uki.efi", SHA256(digest(10))}, {"vmlinuz", SHA256(digest(11))}, {"image.json", SHA256(digest(12))}}
}

func summary(levels ...string) VSA {
	return VSA{
		Verifier:     Verifier{ID: "https://acme.example/verifiers/launcher/v1", Version: map[string]string{"kettle": "1.0.0"}},
		TimeVerified: when, Policy: VSAPolicy{"policy.yaml", digest(13)},
		Inputs: []ResourceDescriptor{{Name: "image provenance", Digest: SHA256(digest(14))}, {Name: "reference values", Digest: SHA256(digest(15))}},
		Result: Passed, Levels: levels,
	}
}

func imageVSA() *ImageVSA {
	v := &ImageVSA{summary(BuildLevel(3), PropertyImage, PropertyRevocationChecked)}
	v.Subjects, v.ResourceURI = imageFiles(), ImageURI(digest(12))
	v.DependencyLevels = &map[string]uint64{BuildLevel(0): 37, BuildLevel(3): 4}
	return v
}

func selfVSA() *SelfVSA {
	v := &SelfVSA{EnvironmentKey: digest(1), Image: imageFiles(), Summary: summary(BuildLevel(3), PropertySelf, PropertyRevocationNotChecked)}
	v.Summary.Verifier.ID = SelfVerifier
	return v
}

func environmentVSA() *EnvironmentVSA {
	v := &EnvironmentVSA{
		EnvironmentKey: digest(1), Instance: instance(), Image: imageFiles(),
		Launch:  DigestSet{KeySNPMeasurement: strings.Repeat("aa", 48)},
		Summary: summary(BuildLevel(3), BuildEnvLevel(3), PropertyEnvironment, PropertyRevocationChecked, "KETTLE_TEE_SEV_SNP"),
	}
	v.Summary.DraftLevels = true
	return v
}

// TestVSADependencyLevels keeps the three states apart: no claim, no dependency, counted ones.
func TestVSADependencyLevels(t *testing.T) {
	t.Parallel()
	for name, levels := range map[string]*map[string]uint64{
		"no claim": nil, "none": {}, "counted": {BuildLevel(2): 1, "SLSA_BUILD_LEVEL_UNEVALUATED": 2},
	} {
		v := imageVSA()
		v.DependencyLevels = levels
		b, err := v.Marshal()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := strings.Contains(string(b), `"dependencyLevels"`); got != (levels != nil) {
			t.Errorf("%s: written: %v", name, got)
		}
		again, err := ParseImageVSA(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if (again.DependencyLevels == nil) != (levels == nil) || levels != nil && !maps.Equal(*again.DependencyLevels, *levels) {
			t.Errorf("%s: read as %v", name, again.DependencyLevels)
		}
	}
	b, err := imageVSA().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), `"SLSA_BUILD_LEVEL_3":4`, `"SLSA_BUILD_LEVEL_3":"4"`, 1) // as Protobuf's JSON writes it
	if v, err := ParseImageVSA([]byte(text)); err != nil || (*v.DependencyLevels)[BuildLevel(3)] != 4 {
		t.Errorf("a count as text: %v", err)
	}
	for _, bad := range []string{`"x"`, `""`, `-1`, `1.5`, `1e3`, `"04"`, `null`, `"18446744073709551616"`, `[4]`} {
		text := strings.Replace(string(b), `"SLSA_BUILD_LEVEL_3":4`, `"SLSA_BUILD_LEVEL_3":`+bad, 1)
		if _, err := ParseImageVSA([]byte(text)); !errors.Is(err, refusal.ErrMalformed) {
			t.Errorf("the count %s: %v", bad, err)
		}
	}
}

// TestVSAFailed writes and reads the summaries of refusals.
func TestVSAFailed(t *testing.T) {
	t.Parallel()
	img, env := imageVSA(), environmentVSA()
	for _, v := range []*VSA{&img.VSA, &env.Summary} {
		v.Result, v.Levels, v.DependencyLevels = Failed, []string{"FAILED"}, nil
	}
	b, err := img.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if v, err := ParseImageVSA(b); err != nil || v.Result != Failed || v.Has("FAILED") || v.Has(PropertyImage) {
		t.Errorf("VSA-IMG: %v, %v", v, err)
	}
	if b, err = env.Marshal(); err != nil {
		t.Fatal(err)
	}
	if v, err := ParseEnvironmentVSA(b); err != nil || v.Summary.Result != Failed || v.Instance != instance() {
		t.Errorf("VSA-ENV: %v, %v", v, err)
	}
}

// TestVSARefuses changes one thing of a summary at a time; it can then neither be written nor, where it can be said in
// JSON, read.
func TestVSARefuses(t *testing.T) {
	t.Parallel()
	common := map[string]func(*VSA){
		"no verifier":             func(v *VSA) { v.Verifier.ID = "" },
		"relative verifier":       func(v *VSA) { v.Verifier.ID = "verifiers/x" },
		"no version":              func(v *VSA) { v.Verifier.Version = nil },
		"empty version":           func(v *VSA) { v.Verifier.Version = map[string]string{"kettle": ""} },
		"no time":                 func(v *VSA) { v.TimeVerified = time.Time{} },
		"no policy URI":           func(v *VSA) { v.Policy.URI = "" },
		"no policy digest":        func(v *VSA) { v.Policy.Digest = binding.Digest{} },
		"no inputs":               func(v *VSA) { v.Inputs = nil },
		"input without digest":    func(v *VSA) { v.Inputs[1].Digest = nil },
		"input of zeros":          func(v *VSA) { v.Inputs[1].Digest = SHA256(binding.Digest{}) },
		"input twice":             func(v *VSA) { v.Inputs[1] = v.Inputs[0] },
		"no result":               func(v *VSA) { v.Result = "" },
		"other result":            func(v *VSA) { v.Result = "passed" },
		"failed with levels":      func(v *VSA) { v.Result = Failed },
		"passed as failed":        func(v *VSA) { v.Levels = []string{"FAILED"} },
		"no levels":               func(v *VSA) { v.Levels = nil },
		"level twice":             func(v *VSA) { v.Levels = append(v.Levels, BuildLevel(3)) },
		"two levels of one track": func(v *VSA) { v.Levels = append(v.Levels, BuildLevel(2)) },
		"level 4":                 func(v *VSA) { v.Levels[0] = BuildLevel(4) },
		"own value as SLSA's":     func(v *VSA) { v.Levels = append(v.Levels, "SLSA_KETTLE") },
		"property of SLSA":        func(v *VSA) { v.Levels = append(v.Levels, "SLSA_BUILD_REPRODUCED") },
		"stranger's property":     func(v *VSA) { v.Levels = append(v.Levels, "ACME_X") },
		"property in lower case":  func(v *VSA) { v.Levels = append(v.Levels, "KETTLE_x") },
		"property twice":          func(v *VSA) { v.Levels = append(v.Levels, v.Levels[len(v.Levels)-1]) },
		"long property":           func(v *VSA) { v.Levels = append(v.Levels, "KETTLE_"+strings.Repeat("A", 64)) },
		"other spelling":          func(v *VSA) { v.Levels = append(v.Levels, "SLSA_BUILD_ENV_LEVEL_3") },
		"unknown dependencies":    func(v *VSA) { v.DependencyLevels = &map[string]uint64{"SLSA_BUILDENV_LEVEL_3": 1} },
		"kind of another":         func(v *VSA) { v.Levels = []string{BuildLevel(3), PropertyImage, PropertySelf, PropertyEnvironment} },
		"no kind":                 func(v *VSA) { v.Levels = []string{BuildLevel(3), PropertyRevocationNotChecked} },
		"draft level not asked for": func(v *VSA) {
			v.Levels, v.DraftLevels = append(v.Levels, BuildEnvLevel(2)), false
		},
	}
	for name, change := range common {
		img, self, env := imageVSA(), selfVSA(), environmentVSA()
		for _, v := range []*VSA{&img.VSA, &self.Summary, &env.Summary} {
			change(v)
		}
		for kind, marshal := range map[string]func() ([]byte, error){"image": img.Marshal, "self": self.Marshal, "environment": env.Marshal} {
			if b, err := marshal(); !errors.Is(err, refusal.ErrMalformed) || b != nil {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
	for name, change := range map[string]func(*ImageVSA, *SelfVSA, *EnvironmentVSA) func() ([]byte, error){
		"img: no subject": func(i *ImageVSA, _ *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			i.Subjects = nil
			return i.Marshal
		},
		"img: no SHA-256": func(i *ImageVSA, _ *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			i.Subjects[0].Digest = DigestSet{"sha512": "ab"}
			return i.Marshal
		},
		"img: an environment": func(i *ImageVSA, _ *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			i.Subjects[0].Name = environmentSubject
			return i.Marshal
		},
		"img: an instance": func(i *ImageVSA, _ *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			i.Subjects[0].Name = "instance:snp"
			return i.Marshal
		},
		"img: no resource": func(i *ImageVSA, _ *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			i.ResourceURI = ""
			return i.Marshal
		},
		"self: no key": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.EnvironmentKey = binding.Digest{}
			return s.Marshal
		},
		"self: no image": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.Image = nil
			return s.Marshal
		},
		"self: a launch as file": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.Image[0].Name = launchSubject
			return s.Marshal
		},
		"self: by somebody": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.Summary.Verifier.ID = "https://acme.example/v"
			return s.Marshal
		},
		"self: knows revocation": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.Summary.Levels[2] = PropertyRevocationChecked
			return s.Marshal
		},
		"self: says both": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.Summary.Levels = append(s.Summary.Levels, PropertyRevocationChecked)
			return s.Marshal
		},
		"self: grants itself": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.Summary.Levels, s.Summary.DraftLevels = append(s.Summary.Levels, BuildEnvLevel(1)), true
			return s.Marshal
		},
		"self: failed": func(_ *ImageVSA, s *SelfVSA, _ *EnvironmentVSA) func() ([]byte, error) {
			s.Summary.Result, s.Summary.Levels = Failed, []string{"FAILED"}
			return s.Marshal
		},
		"env: no key": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.EnvironmentKey = binding.Digest{}
			return e.Marshal
		},
		"env: no instance": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Instance = Instance{}
			return e.Marshal
		},
		"env: half an instance": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Instance.ChipID = ""
			return e.Marshal
		},
		"env: other platform": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Instance.Platform = "tdx"
			return e.Marshal
		},
		"env: no launch": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Launch = nil
			return e.Marshal
		},
		"env: unknown register": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Launch = DigestSet{"tdxRtmr4": strings.Repeat("aa", 48)}
			return e.Marshal
		},
		"env: register of a number": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Launch = DigestSet{"tpmPcrSha256_04": strings.Repeat("aa", 32)}
			return e.Marshal
		},
		"env: short register": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Launch = DigestSet{KeySNPMeasurement: strings.Repeat("aa", 32)}
			return e.Marshal
		},
		"env: zeros": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Launch = DigestSet{KeySNPMeasurement: strings.Repeat("00", 48)}
			return e.Marshal
		},
		"env: by itself": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Summary.Verifier.ID = SelfVerifier
			return e.Marshal
		},
		"env: an instance as file": func(_ *ImageVSA, _ *SelfVSA, e *EnvironmentVSA) func() ([]byte, error) {
			e.Image[0].Name = "instance:tdx"
			return e.Marshal
		},
	} {
		if b, err := change(imageVSA(), selfVSA(), environmentVSA())(); !errors.Is(err, refusal.ErrMalformed) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAttackSummary has verifiers sign more than they may say: a machine about itself, a summary of one kind as another, of
// another machine or environment, or in a form that readers take for different things.
func TestAttackSummary(t *testing.T) {
	t.Parallel()
	const env = "https://github.com/kettle/attest/environments/"
	key := strings.Repeat("01", 32)
	for _, tc := range []struct{ name, kind, old, with string }{
		{"version of SLSA", "", `"slsaVersion":"1.2"`, `"slsaVersion":"1.1"`},
		{"no version of SLSA", "", `,"slsaVersion":"1.2"`, ``},
		{"unknown field", "", `"slsaVersion"`, `"kettle":1,"slsaVersion"`},
		{"no time", "", `"timeVerified":"2026-11-21T11:00:00Z",`, ``},
		{"no result", "", `"verificationResult":"PASSED",`, ``},
		{"failed", "", `"verificationResult":"PASSED"`, `"verificationResult":"FAILED"`},
		{"null levels", "vsa-image", `"verifiedLevels":["SLSA_BUILD_LEVEL_3","KETTLE_IMAGE_VERIFIED","KETTLE_REVOCATION_CHECKED"]`, `"verifiedLevels":null`},
		{"no verifier", "", `"verifier":{`, `"verifier":null,"x":{`},
		{"unknown field of the verifier", "", `"verifier":{`, `"verifier":{"key":"x",`},
		{"policy without digest", "", strings.Repeat("0d", 32), "0d"},
		{"input without digest", "", strings.Repeat("0e", 32), strings.Repeat("00", 32)},
		{"image of another kind", "vsa-image", PropertyImage, PropertyEnvironment},
		{"self of another kind", "vsa-self", PropertySelf, PropertyImage},
		{"self by somebody", "vsa-self", SelfVerifier, "https://acme.example/verifiers/launcher/v1"},
		{"self that knows revocation", "vsa-self", PropertyRevocationNotChecked, PropertyRevocationChecked},
		{"self that says both", "vsa-self", `"` + PropertyRevocationNotChecked, `"` + PropertyRevocationChecked + `","` + PropertyRevocationNotChecked},
		{"self that grants itself a level", "vsa-self", `"` + PropertySelf, `"SLSA_BUILDENV_LEVEL_3","` + PropertySelf},
		{"self of another environment", "vsa-self", env + key, env + strings.Repeat("02", 32)},
		{"environment of another kind", "vsa-environment", PropertyEnvironment, PropertySelf},
		{"environment of another key", "vsa-environment", env + key, env + strings.Repeat("02", 32)},
		{"environment by itself", "vsa-environment", "https://acme.example/verifiers/launcher/v1", SelfVerifier},
		{"environment's name", "vsa-environment", `"name":"build-environment"`, `"name":"environment"`},
		{"environment with two names", "vsa-environment", `"digest":{"sha256":"` + key, `"digest":{"tpmAk":"01","sha256":"` + key},
		{"environment without SHA-256", "vsa-environment", `"digest":{"sha256":"` + key, `"digest":{"sha512":"` + key},
		{"instance of another platform", "vsa-environment", "instance:snp", "instance:tdx"},
		{"instance of no platform", "vsa-environment", "instance:snp", "instance:"},
		{"no instance", "vsa-environment", "instance:snp", "other:snp"},
		{"another name of the instance", "vsa-environment", KeySNPChipID, KeyTDXPPID},
		{"one name too many", "vsa-environment", `"sevSnpReportId"`, `"tdxPpid":"` + strings.Repeat("ab", 16) + `","sevSnpReportId"`},
		{"stranger's name", "vsa-environment", `"sevSnpReportId"`, `"acme":"ab","sevSnpReportId"`},
		{"short chip", "vsa-environment", strings.Repeat("cd", 64), strings.Repeat("cd", 63)},
		{"launch by another name", "vsa-environment", `"name":"launch"`, `"name":"launched"`},
		{"launch of another length", "vsa-environment", strings.Repeat("aa", 48), strings.Repeat("aa", 47)},
		{"launch in capitals", "vsa-environment", strings.Repeat("aa", 48), strings.Repeat("AA", 48)},
		{"odd digits", "vsa-environment", strings.Repeat("aa", 48), strings.Repeat("aa", 47) + "a"},
	} {
		found := false
		for kind, marshal := range makers() {
			if !strings.HasPrefix(kind, "vsa-") || tc.kind != "" && kind != tc.kind {
				continue
			}
			b, err := marshal()
			if err != nil {
				t.Fatal(err)
			}
			bad := strings.Replace(string(b), tc.old, tc.with, 1)
			if bad == string(b) {
				continue
			}
			found = true
			if s, err := parsers()[kind]([]byte(bad)); !errors.Is(err, refusal.ErrMalformed) || s != nil {
				t.Errorf("%s, %s: %v", kind, tc.name, err)
			}
		}
		if !found {
			t.Errorf("%s: %q is in no payload", tc.name, tc.old)
		}
	}
}

// TestVSAInstances names the machine of every platform exactly.
func TestVSAInstances(t *testing.T) {
	t.Parallel()
	hex := func(bytes int) string { return strings.Repeat("ab", bytes) }
	for _, i := range []Instance{
		{Platform: "snp", ReportID: hex(32), ChipID: hex(64)},
		{Platform: "sim", ReportID: hex(32), ChipID: hex(64)},
		{Platform: "tdx", ChipID: hex(16)},
		{Platform: "sim", ChipID: hex(16)},
		{Platform: "az-snp", ReportID: hex(32), ChipID: hex(64), AttestationKey: hex(32)},
		{Platform: "az-tdx", ChipID: hex(16), AttestationKey: hex(32)},
		{Platform: "vtpm", AttestationKey: hex(32)},
	} {
		v := environmentVSA()
		v.Instance, v.Image = i, nil
		v.Launch = DigestSet{KeyTDXRTMR + "1": hex(48), KeyTPMPCR + "11": hex(32), KeySimMeasurement: hex(48), KeyTDXMRTD: hex(48)}
		b, err := v.Marshal()
		if err != nil {
			t.Fatalf("%+v: %v", i, err)
		}
		again, err := ParseEnvironmentVSA(b)
		if err != nil || again.Instance != i || !maps.Equal(again.Launch, v.Launch) || len(again.Image) != 0 {
			t.Errorf("%+v: read as %+v, %v", i, again, err)
		}
	}
}

// TestVSAOtherReader reads a summary as slsa-verifier does: fields it knows, levels split at the underscore, exact names.
func TestVSAOtherReader(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"vsa-image", "vsa-self", "vsa-environment"} {
		b, err := makers()[kind]()
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Predicate map[string]any `json:"predicate"`
		}
		if err := json.Unmarshal(b, &s); err != nil {
			t.Fatal(err)
		}
		known := map[string]reflect.Kind{
			"verifier": reflect.Map, "timeVerified": reflect.String, "resourceUri": reflect.String, "policy": reflect.Map,
			"inputAttestations": reflect.Slice, "verificationResult": reflect.String, "verifiedLevels": reflect.Slice,
			"dependencyLevels": reflect.Map, "slsaVersion": reflect.String,
		}
		for field, value := range s.Predicate {
			if reflect.TypeOf(value).Kind() != known[field] {
				t.Errorf("%s: field %s is a %T", kind, field, value)
			}
		}
		levels, _ := s.Predicate["verifiedLevels"].([]any)
		for _, l := range levels {
			level, _ := l.(string)
			if parts := strings.Split(level, "_"); parts[0] == "SLSA" && (len(parts) != 4 || parts[2] != "LEVEL") {
				t.Errorf("%s: the level %s", kind, level)
			}
		}
	}
}
