// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/statement"
)

// otherBuild makes the second build: the same image on another machine, for another repository's job. It differs from
// the default in every value that a build can choose.
func otherBuild() attesttest.Options {
	f := attesttest.Facts()
	f.Repository, f.RepositoryID, f.RepositoryOwnerID = "mallory/gadget", "31337", "666"
	f.RunID, f.RunAttempt, f.JobID, f.Job = "2000000001", "3", "9999999999", "publish"
	f.WorkflowPath, f.Ref, f.SHA, f.Event = ".github/workflows/publish.yml", "refs/heads/main", strings.Repeat("d", 40), "workflow_dispatch"
	f.HeadRepositoryID, f.RunnerID, f.RunnerName, f.ActorID = "31337", "78", "kettle-78", "43"
	f.JobWorkflowRef, f.JobWorkflowSHA = "mallory/ci/.github/workflows/build.yml@refs/heads/main", strings.Repeat("e", 40)
	f.JobMessage = binding.Sum([]byte("other message"))
	configuration, file := binding.Sum([]byte("other configuration")), binding.Sum([]byte("other policy"))
	return attesttest.Options{Facts: &f, Configuration: configuration, Nonce: binding.Sum([]byte("other nonce")), Hooks: attesttest.Hooks{
		Boot: func(b *statement.Boot) {
			b.Conditions.Software["kettled"] = "1.0.1"
			b.Conditions.BootedOn = b.Conditions.BootedOn.Add(-time.Hour)
		},
		Dispatch: func(d *statement.Dispatch) {
			d.Conditions.Policy, d.Conditions.DispatchedOn = file, d.Conditions.DispatchedOn.Add(time.Minute)
		},
		Provenance: func(p *statement.Provenance) {
			k := &p.Internal.Kettle
			k.Configuration, k.Policy = configuration, file
			conduct(p)
		},
		Claims: func(c map[string]any) {
			c["jti"], c["job_workflow_ref"], c["job_workflow_sha"] = "2", f.JobWorkflowRef, f.JobWorkflowSHA
			for _, name := range []string{"iat", "nbf", "exp"} {
				c[name] = attesttest.Now().Unix() + map[string]int64{"iat": 30, "nbf": -570, "exp": 330}[name]
			}
		},
	}}
}

// conduct fills in what provenance alone says of a job.
func conduct(p *statement.Provenance) {
	digest := statement.SHA256(binding.Sum([]byte("something")))
	k, e := &p.Internal.Kettle, &p.External
	k.Sandbox, k.FrozenMillis, k.Outputs = "runc 1.3", 13, statement.OutputsEnded
	k.Egress = statement.Egress{Mode: statement.EgressAudit, Left: 1, Refused: 7, Flows: []statement.Flow{{
		Host: "example.com", Port: 443, Protocol: "tls", Connections: 1, Sent: 2, Received: 3,
	}}}
	k.Steps = []statement.Step{{Name: "build", Uses: "acme/build@v1", Run: "make", Script: digest}}
	c := statement.Container{
		Image: "debian:12", Options: "--init", Env: []string{"LANG"}, Ports: []string{"80"}, Volumes: []string{"/a:/b"}, Entrypoint: "sh", Command: "-c true",
	}
	e.Container, e.Services = &c, map[string]statement.Container{"db": c}
	e.Inputs, e.Vars, e.Matrix = map[string]any{"channel": "beta"}, map[string]string{"MASCOT": "mona"}, map[string]any{"goarch": "amd64"}
	e.RunsOn, e.Payload, e.SecretsOf, e.Debug = []string{"attested-cvm"}, &statement.EventPayload{Digest: digest}, []string{"KEY"}, true
	p.BuilderVersion["kettled"] = "1.0.1"
	hint := statement.ResourceDescriptor{
		Name: "hint", URI: "https://example.com/hint", Digest: digest, MediaType: "text/plain", Annotations: map[string]string{"size": "1"},
	}
	p.BuilderDependencies, p.Byproducts = []statement.ResourceDescriptor{hint}, []statement.ResourceDescriptor{hint}
	p.Dependencies[0].Name, p.Dependencies[0].MediaType, p.Dependencies[0].Annotations = hint.Name, hint.MediaType, hint.Annotations
	p.StartedOn, p.FinishedOn = p.StartedOn.Add(time.Hour), p.FinishedOn.Add(time.Hour)
}

// TestOtherBuildIsWhole demands that the second build has a value in every field of its statements: a field without one
// has no row.
func TestOtherBuildIsWhole(t *testing.T) {
	t.Parallel()
	l := whole(t, otherBuild(), "gadget")
	p, err := statement.ParseProvenance(payloadOf(t, l.Provenance))
	fatal(t, err)
	d, err := statement.ParseDispatch(payloadOf(t, l.Dispatch))
	fatal(t, err)
	b, err := statement.ParseBoot(payloadOf(t, l.Boot))
	fatal(t, err)
	for name, v := range map[string]any{"provenance": *p, "dispatch": *d, "boot": *b} {
		for _, path := range blank(reflect.ValueOf(v), name) {
			switch {
			case path == "provenance.Internal.Kettle.Egress.Flows[0].Refused": // what was refused did not pass
			case strings.HasSuffix(path, ".Instance.AttestationKey"): // no TPM speaks on this platform
			default:
				t.Errorf("otherBuild leaves %s empty", path)
			}
		}
	}
}

// blank names the fields of a value that are zero, in all that it holds.
func blank(v reflect.Value, path string) []string {
	var out []string
	switch {
	case v.IsZero():
		return []string{path}
	case v.Kind() == reflect.Pointer:
		return blank(v.Elem(), path)
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			out = append(out, blank(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	case v.Kind() == reflect.Slice && v.Len() > 0:
		return blank(v.Index(0), path+"[0]")
	case v.Kind() == reflect.Map && v.Len() > 0:
		return blank(v.MapIndex(v.MapKeys()[0]), path+"[…]")
	}
	return out
}
