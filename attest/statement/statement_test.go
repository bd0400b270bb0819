// SPDX-License-Identifier: Apache-2.0

package statement

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	provenance "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
)

var when = time.Date(2026, 11, 21, 12, 0, 0, 999, time.FixedZone("CET", 3600))

func digest(n byte) (d binding.Digest) {
	for i := range d {
		d[i] = n
	}
	return d
}

func instance() Instance {
	return Instance{Platform: "snp", ReportID: strings.Repeat("ab", 32), ChipID: strings.Repeat("cd", 64)}
}

func jobFacts() Facts {
	f := Facts{
		Server: "https://github.com", Repository: "acme/widget", RepositoryID: "1296269", RepositoryOwnerID: "583231",
		RunID: "1", RunAttempt: "2", JobID: "3", Job: "build", WorkflowPath: ".github/workflows/release.yml",
		Ref: "refs/tags/v1.2.3", SHA: strings.Repeat("a1", 20), Event: "push", RunnerID: "77", RunnerName: "kettle-77",
		IdentitySource: IdentityJobsAPI, JobMessage: digest(9), Origins: map[string]Origin{},
	}
	for _, n := range factNames {
		f.Origins[n] = FromGitHub
	}
	return f
}

var factNames = []string{
	"server", "repository", "repositoryId", "repositoryOwnerId", "runId", "runAttempt", "jobId", "job", "workflowPath", "ref", "sha",
	"event", "runnerId", "runnerName",
}

func boot() *Boot {
	return &Boot{EnvironmentKey: digest(1), Conditions: BootConditions{
		Instance: instance(), Configuration: digest(2), Software: map[string]string{"kettled": "1.0.0"}, BootedOn: when,
	}}
}

func dispatch() *Dispatch {
	f := jobFacts()
	return &Dispatch{EnvironmentKey: digest(1), BuildID: f.BuildID(), BootEvidence: digest(3), Conditions: DispatchConditions{
		Instance: instance(), Facts: f, Policy: digest(4), DispatchedOn: when,
	}}
}

func response() *Response {
	return &Response{
		Subjects: []Subject{{"widget <1>.tar.gz", SHA256(digest(5))}}, Provenance: digest(6), Evidence: digest(7),
		BuildID: jobFacts().BuildID(), Sequence: 1,
	}
}

func final() *Final {
	return &Final{EnvironmentKey: digest(1), BuildID: jobFacts().BuildID(), Conditions: FinalConditions{
		Outcome: "finished", ConclusionOrigin: FromJob, Responses: 1, Egress: []Flow{{Host: "github.com", Port: 443, Protocol: "tls", Connections: 2, Sent: 40, Received: 2}},
		Killed: &Processes{Count: 1, Names: []string{"sleep"}}, Disk: &Disk{Created: 3, Changed: 1, Complete: true, List: digest(3)}, FinishedOn: when,
	}}
}

func slsa() *Provenance {
	f := jobFacts()
	return &Provenance{
		Subjects: []Subject{{"widget <1>.tar.gz", SHA256(digest(5))}}, BuilderID: BuilderID("snp", "default"),
		BuilderVersion:      map[string]string{"kettled": "1.0.0"},
		BuilderDependencies: []ResourceDescriptor{{Name: "image", Digest: SHA256(digest(8))}},
		External: ExternalParameters{
			Workflow: Workflow{Ref: f.Ref, Repository: "https://github.com/acme/widget", Path: f.WorkflowPath}, Job: "build", Event: "push",
			Inputs: map[string]any{"channel": "stable"}, Vars: map[string]string{"MASCOT": "mona"}, SecretsOf: []string{"GITHUB_TOKEN"},
			RunsOn: []string{"attested-cvm"}, Payload: &EventPayload{SHA256(digest(9))}, Matrix: map[string]any{"goarch": "amd64"},
		},
		Internal: InternalParameters{
			GitHub: GitHubParameters{
				EventName: "push", RepositoryID: "1296269", RepositoryOwnerID: "583231", RunnerEnvironment: "self-hosted",
				RunID: "1", RunAttempt: "2", JobID: "3", RunnerName: "kettle-77",
			},
			Kettle: KettleParameters{
				Platform: "snp", Profile: "default", Sandbox: "crun 1.21", IdentitySource: IdentityJobsAPI, EnvironmentKey: digest(1),
				Configuration: digest(2), Policy: digest(4), Dispatch: digest(6), Egress: Egress{Mode: EgressNone},
				FrozenMillis: 12, Origins: map[string]Origin{"ref": FromGitHub}, Steps: []Step{{Name: "make", Run: "make a && b"}},
			},
		},
		Dependencies: []ResourceDescriptor{{URI: "git+https://github.com/acme/widget@refs/tags/v1.2.3", Digest: DigestSet{"gitCommit": f.SHA}}},
		InvocationID: f.BuildID(), StartedOn: when, FinishedOn: when.Add(time.Minute),
		Byproducts: []ResourceDescriptor{{Name: "dispatch", Digest: SHA256(digest(6)), Annotations: map[string]string{"a": "b"}}},
	}
}

// makers make one payload of each kind; parsers read it and write it again.
func makers() map[string]func() ([]byte, error) {
	return map[string]func() ([]byte, error){
		"boot": boot().Marshal, "dispatch": dispatch().Marshal, "response": response().Marshal, "final": final().Marshal,
		"provenance": slsa().Marshal, "vsa-image": imageVSA().Marshal, "vsa-self": selfVSA().Marshal,
		"vsa-environment": environmentVSA().Marshal, "image-provenance": imageProvenance().Marshal,
		"reference-values": referenceValues().Marshal,
	}
}

type marshaler interface{ Marshal() ([]byte, error) }

func parser[T marshaler](parse func([]byte) (T, error)) func([]byte) (marshaler, error) {
	return func(b []byte) (marshaler, error) {
		s, err := parse(b)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

func parsers() map[string]func([]byte) (marshaler, error) {
	return map[string]func([]byte) (marshaler, error){
		"boot": parser(ParseBoot), "dispatch": parser(ParseDispatch), "response": parser(ParseResponse), "final": parser(ParseFinal),
		"provenance": parser(ParseProvenance), "vsa-image": parser(ParseImageVSA), "vsa-self": parser(ParseSelfVSA),
		"vsa-environment": parser(ParseEnvironmentVSA), "image-provenance": parser(ParseImageProvenance),
		"reference-values": parser(ParseReferenceValues),
	}
}

// TestGolden holds the bytes of version 1, one file a kind. They may never change: a change is a new predicate or build
// type. UPDATE_GOLDEN=1 writes a file that is not there yet, never one that is.
func TestGolden(t *testing.T) {
	t.Parallel()
	for kind, marshal := range makers() {
		got, err := marshal()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", kind+".json")
		want, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
			want = got
		} else if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", kind, got, want)
		}
		s, err := parsers()[kind](want)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if again, err := s.Marshal(); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s: written again\n%s\n%v", kind, again, err)
		}
	}
}

// TestConductGolden: what a job did, in the fields that are absent when it did nothing of the kind.
func TestConductGolden(t *testing.T) {
	t.Parallel()
	p := slsa()
	p.Internal.Kettle.Outputs = OutputsSnapshot
	p.Internal.Kettle.Egress = Egress{
		Mode: EgressAllow, Left: 2, Refused: 3,
		Flows: []Flow{{Host: "modules.example.com", Port: 443, Protocol: "tls", Connections: 4, Sent: 500, Received: 6000}},
	}
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const want = `"egress":{"mode":"allow","flows":[{"host":"modules.example.com","port":443,"protocol":"tls","connections":4,` +
		`"sent":500,"received":6000}],"left":2,"refused":3},"outputs":"snapshot","frozenMillis":12`
	if !bytes.Contains(b, []byte(want)) {
		t.Errorf("%s\nlacks\n%s", b, want)
	}
	again, err := ParseProvenance(b)
	if err != nil {
		t.Fatal(err)
	}
	if b2, err := again.Marshal(); err != nil || !bytes.Equal(b2, b) {
		t.Errorf("written again\n%s\n%v", b2, err)
	}
}

// TestOtherReader validates every statement with the bindings of the in-toto project.
func TestOtherReader(t *testing.T) {
	t.Parallel()
	for kind, marshal := range makers() {
		b, err := marshal()
		if err != nil {
			t.Fatal(err)
		}
		var s intoto.Statement
		if err := protojson.Unmarshal(b, &s); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if kind != "provenance" && kind != "image-provenance" {
			continue
		}
		predicate, err := protojson.Marshal(s.GetPredicate())
		if err != nil {
			t.Fatal(err)
		}
		var p provenance.Provenance
		if err := protojson.Unmarshal(predicate, &p); err != nil {
			t.Fatal(err)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("provenance: %v", err)
		}
	}
}

// TestKind shows that no statement reads as another.
func TestKind(t *testing.T) {
	t.Parallel()
	for made, marshal := range makers() {
		b, err := marshal()
		if err != nil {
			t.Fatal(err)
		}
		for read, parse := range parsers() {
			s, err := parse(b)
			if made == read && err != nil || made != read && !errors.Is(err, refusal.ErrMalformed) || (s == nil) == (err == nil) {
				t.Errorf("%s read as %s: %v", made, read, err)
			}
		}
		kind, attribute := Kind(b)
		want := map[string][2]string{
			"boot": {SCAIType, AttributeEnvironmentKey}, "dispatch": {SCAIType, AttributeBuildIDBound}, "response": {SCAIType, AttributeTEEBound},
			"final": {SCAIType, AttributeJobFinished}, "provenance": {ProvenanceType, ""}, "vsa-image": {VSAType, ""}, "vsa-self": {VSAType, ""}, "vsa-environment": {VSAType, ""},
			"image-provenance": {ProvenanceType, ""}, "reference-values": {SCAIType, AttributeReferenceValue},
		}[made]
		if kind != want[0] || attribute != want[1] {
			t.Errorf("%s: kind %q %q", made, kind, attribute)
		}
	}
	if kind, attribute := Kind([]byte("x")); kind != "" || attribute != "" {
		t.Errorf("kind of nothing: %q %q", kind, attribute)
	}
}

// TestMarshalRefuses blanks what a verifier relies on.
func TestMarshalRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]func() ([]byte, error){
		"no fact origin": func() ([]byte, error) { d := dispatch(); delete(d.Conditions.Facts.Origins, "sha"); return d.Marshal() },
		"bad origin":     func() ([]byte, error) { d := dispatch(); d.Conditions.Facts.Origins["sha"] = "x"; return d.Marshal() },
		"no job message": func() ([]byte, error) {
			d := dispatch()
			d.Conditions.Facts.JobMessage = binding.Digest{}
			return d.Marshal()
		},
		"identity source": func() ([]byte, error) { d := dispatch(); d.Conditions.Facts.IdentitySource = "job"; return d.Marshal() },
		"no subject":      func() ([]byte, error) { r := response(); r.Subjects = nil; return r.Marshal() },
		"nameless":        func() ([]byte, error) { r := response(); r.Subjects[0].Name = ""; return r.Marshal() },
		"name twice": func() ([]byte, error) {
			r := response()
			r.Subjects = append(r.Subjects, r.Subjects[0])
			return r.Marshal()
		},
		"short digest": func() ([]byte, error) {
			r := response()
			r.Subjects[0].Digest = DigestSet{"sha256": "00"}
			return r.Marshal()
		},
		"sha1 only": func() ([]byte, error) {
			r := response()
			r.Subjects[0].Digest = DigestSet{"sha1": "00"}
			return r.Marshal()
		},
	}
	for name, change := range map[string]func(*Provenance){
		"builder":         func(p *Provenance) { p.BuilderID = "" },
		"other builder":   func(p *Provenance) { p.BuilderID = BuilderID("tdx", "default") },
		"invocation":      func(p *Provenance) { p.InvocationID = "" },
		"workflow ref":    func(p *Provenance) { p.External.Workflow.Ref = "" },
		"workflow path":   func(p *Provenance) { p.External.Workflow.Path = "" },
		"workflow repo":   func(p *Provenance) { p.External.Workflow.Repository = "" },
		"job":             func(p *Provenance) { p.External.Job = "" },
		"event":           func(p *Provenance) { p.External.Event = "" },
		"event name":      func(p *Provenance) { p.Internal.GitHub.EventName = "" },
		"repository ID":   func(p *Provenance) { p.Internal.GitHub.RepositoryID = "" },
		"owner ID":        func(p *Provenance) { p.Internal.GitHub.RepositoryOwnerID = "" },
		"hosted":          func(p *Provenance) { p.Internal.GitHub.RunnerEnvironment = "github-hosted" },
		"run":             func(p *Provenance) { p.Internal.GitHub.RunID = "" },
		"attempt":         func(p *Provenance) { p.Internal.GitHub.RunAttempt = "" },
		"job ID":          func(p *Provenance) { p.Internal.GitHub.JobID = "" },
		"runner":          func(p *Provenance) { p.Internal.GitHub.RunnerName = "" },
		"platform":        func(p *Provenance) { p.Internal.Kettle.Platform = "" },
		"profile":         func(p *Provenance) { p.Internal.Kettle.Profile = "" },
		"sandbox":         func(p *Provenance) { p.Internal.Kettle.Sandbox = "" },
		"source":          func(p *Provenance) { p.Internal.Kettle.IdentitySource = "" },
		"environment key": func(p *Provenance) { p.Internal.Kettle.EnvironmentKey = binding.Digest{} },
		"configuration":   func(p *Provenance) { p.Internal.Kettle.Configuration = binding.Digest{} },
		"policy":          func(p *Provenance) { p.Internal.Kettle.Policy = binding.Digest{} },
		"dispatch":        func(p *Provenance) { p.Internal.Kettle.Dispatch = binding.Digest{} },
		"outputs":         func(p *Provenance) { p.Internal.Kettle.Outputs = "frozen" },
		"egress":          func(p *Provenance) { p.Internal.Kettle.Egress.Mode = "" },
		"hostless flow":   func(p *Provenance) { p.Internal.Kettle.Egress.Flows = []Flow{{Port: 443}} },
		"refused flow":    func(p *Provenance) { p.Internal.Kettle.Egress.Flows = []Flow{{Host: "a.example", Refused: "x"}} },
		"no dependency":   func(p *Provenance) { p.Dependencies = nil },
		"no commit":       func(p *Provenance) { p.Dependencies[0].Digest = nil },
		"no origin":       func(p *Provenance) { p.Internal.Kettle.Origins = nil },
		"bad origin":      func(p *Provenance) { p.Internal.Kettle.Origins = map[string]Origin{"ref": "x"} },
		"too many":        func(p *Provenance) { p.Subjects = subjects(MaxSubjects + 1) },
	} {
		p := slsa()
		change(p)
		tests["provenance: "+name] = p.Marshal
	}
	for name, marshal := range tests {
		if b, err := marshal(); !errors.Is(err, refusal.ErrMalformed) || b != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range factNames {
		d := dispatch()
		payload, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		i := bytes.Index(payload, []byte(`"`+name+`":"`)) + len(name) + 4
		j := i + bytes.IndexByte(payload[i:], '"')
		blank := append(append(bytes.Clone(payload[:i]), payload[j:]...), ' ')
		if s, err := ParseDispatch(blank); !errors.Is(err, refusal.ErrMalformed) || s != nil && err == nil {
			t.Errorf("a blank fact %s: %v", name, err)
		}
	}
	p := slsa()
	p.Subjects = subjects(MaxSubjects)
	if _, err := p.Marshal(); err != nil {
		t.Errorf("%d subjects: %v", MaxSubjects, err)
	}
}

func subjects(n int) []Subject {
	out := make([]Subject, n)
	for i := range out {
		out[i] = Subject{fmt.Sprint(i), SHA256(digest(1))}
	}
	return out
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	payloads := map[string]string{}
	for kind, marshal := range makers() {
		b, err := marshal()
		if err != nil {
			t.Fatal(err)
		}
		payloads[kind] = string(b)
	}
	tests := []struct{ name, kind, old, with string }{
		{"statement type", "", `Statement/v1`, `Statement/v0.1`},
		{"predicate type", "", `"predicateType":"https://`, `"predicateType":"http://`},
		{"unknown key", "", `{"_type"`, `{"x":1,"_type"`},
		{"repeated key", "", `"predicateType"`, `"subject":[],"predicateType"`},
		{"key in another case", "", `"predicateType"`, `"SUBJECT":[],"predicateType"`},
		{"key with a long s", "", `"predicateType"`, "\"\u017fubject\":[],\"predicateType\""},
		{"key with an escape", "", `"predicateType"`, `"\u0073ubject":[],"predicateType"`},
		{"no subjects", "", `"subject":[`, `"subject":[],"s":[`},
		{"digest in capitals", "", strings.Repeat("01", 32), strings.Repeat("AB", 32)},
		{"invalid UTF-8", "", `"_type"`, "\"_type\xff\""},
		{"trailing", "", "", "{}"},
		{"deep", "", `{"_type"`, `{"x":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `,"_type"`},
		{"build type", "provenance", "github-actions-job/v1", "github-actions-job/v2"},
		{"unknown external parameter", "provenance", `"externalParameters":{`, `"externalParameters":{"x":1,`},
		{"unknown internal parameter", "provenance", `"kettle":{`, `"kettle":{"x":1,`},
		{"unknown detail", "provenance", `"runDetails":{`, `"runDetails":{"x":1,`},
		{"repeated deep key", "provenance", `"kettle":{`, `"kettle":{"platform":"tdx",`},
		{"null parameters", "provenance", `"job":"build"`, `"job":null`},
		{"attribute", "boot", AttributeEnvironmentKey, "OTHER"},
		{"second attribute", "boot", `"attributes":[`, `"attributes":[{"attribute":"X"},`},
		{"subject name", "boot", "build-environment", "environment"},
		{"target", "boot", `"name":"environment-key","digest":{"sha256":"01`, `"name":"environment-key","digest":{"sha256":"02`},
		{"configuration", "boot", strings.Repeat("02", 32), strings.Repeat("00", 32)},
		{"report ID", "boot", strings.Repeat("ab", 32), "ab"},
		{"chip ID", "boot", strings.Repeat("cd", 64), "cd"},
		{"platform", "boot", `"platform":"snp"`, `"platform":""`},
		{"no conditions", "boot", `"conditions":{`, `"conditions":null,"x":{`},
		{"other build", "dispatch", `/job/3"`, `/job/4"`},
		{"boot evidence", "dispatch", strings.Repeat("03", 32), "03"},
		{"policy", "dispatch", strings.Repeat("04", 32), strings.Repeat("00", 32)},
		{"token without source", "dispatch", `"policy"`, `"token":"a.b.c","policy"`},
		{"source without token", "dispatch", `"identitySource":"jobs-api"`, `"identitySource":"token"`},
		{"identity source", "dispatch", `"identitySource":"jobs-api"`, `"identitySource":"any"`},
		{"provenance", "response", strings.Repeat("06", 32), "06"},
		{"evidence", "response", strings.Repeat("07", 32), "07"},
		{"sequence", "response", `"sequence":1`, `"sequence":0`},
		{"negative sequence", "response", `"sequence":1`, `"sequence":-1`},
		{"outcome", "final", `"outcome":"finished"`, `"outcome":""`},
	}
	for _, tc := range tests {
		for kind, payload := range payloads {
			if tc.kind != "" && tc.kind != kind {
				continue
			}
			bad := payload + tc.with
			if tc.old != "" {
				if bad = strings.Replace(payload, tc.old, tc.with, 1); bad == payload {
					if tc.kind != "" {
						t.Fatalf("%s: %q is not in the payload", tc.name, tc.old)
					}
					continue
				}
			}
			if s, err := parsers()[kind]([]byte(bad)); !errors.Is(err, refusal.ErrMalformed) || s != nil {
				t.Errorf("%s, %s: %v, %v", kind, tc.name, s, err)
			}
		}
	}
	if _, err := ParseBoot(make([]byte, MaxPayload+1)); !errors.Is(err, refusal.ErrMalformed) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, marshal := range makers() {
		b, err := marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	all := parsers()
	f.Fuzz(func(t *testing.T, b []byte) {
		Kind(b)
		read := 0
		for _, kind := range slices.Sorted(maps.Keys(all)) { // in order: coverage has to repeat
			s, err := all[kind](b)
			if (s == nil) == (err == nil) {
				t.Fatalf("%s: a statement and an error, or neither", kind)
			}
			if err != nil {
				continue
			}
			read++
			if _, err := s.Marshal(); err != nil {
				t.Fatalf("%s: read %q, which cannot be written: %v", kind, b, err)
			}
		}
		if read > 1 {
			t.Fatalf("%q reads as %d kinds", b, read)
		}
	})
}

func TestInstance(t *testing.T) {
	t.Parallel()
	hex := func(bytes int) string { return strings.Repeat("ab", bytes) }
	good := map[string]Instance{
		"snp":    {ReportID: hex(32), ChipID: hex(64)},
		"sim":    {ReportID: hex(32), ChipID: hex(64)},
		"tdx":    {ChipID: hex(16)},
		"az-snp": {ReportID: hex(32), ChipID: hex(64), AttestationKey: hex(32)},
		"az-tdx": {ChipID: hex(16), AttestationKey: hex(32)},
		"vtpm":   {AttestationKey: hex(32)},
	}
	for platform, i := range good {
		i.Platform = platform
		if err := i.validate(); err != nil {
			t.Errorf("%s: %v", platform, err)
		}
		for name, field := range map[string]func(*Instance) *string{
			"platform": func(i *Instance) *string { return &i.Platform },
			"report":   func(i *Instance) *string { return &i.ReportID },
			"chip":     func(i *Instance) *string { return &i.ChipID },
			"key":      func(i *Instance) *string { return &i.AttestationKey },
		} {
			for _, value := range []string{"", hex(1), strings.ToUpper(hex(32)), "x" + hex(32)[1:]} {
				changed := i
				f := field(&changed)
				if *f == value {
					continue
				}
				*f = value
				if err := changed.validate(); !errors.Is(err, refusal.ErrMalformed) {
					t.Errorf("%s with %s %q: %v", platform, name, value, err)
				}
			}
		}
	}
}
