// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"encoding/hex"
	"slices"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/statement"
)

// provenance says how the outputs were made. No field of it comes from inside the sandbox but the names of the
// subjects; every field's origin is in it.
func (a *Agent) provenance(c capture) *statement.Provenance {
	e, job := a.env, a.env.job
	return &statement.Provenance{
		Subjects: c.subjects, BuilderID: statement.BuilderID(e.self.Instance.Platform, a.config.Profile), BuilderVersion: a.config.Software,
		BuilderDependencies: a.builderDependencies(), External: job.External, Dependencies: job.Dependencies,
		InvocationID: e.buildID, StartedOn: e.began, FinishedOn: c.at,
		Internal: statement.InternalParameters{
			GitHub: job.GitHub,
			Kettle: statement.KettleParameters{
				Platform: e.self.Instance.Platform, Profile: a.config.Profile, Sandbox: a.ports.Sandbox.Runtime(),
				IdentitySource: job.Facts.IdentitySource, EnvironmentKey: e.keyID, Configuration: a.config.Configuration,
				Policy: a.ports.Policy.Digest(), Dispatch: binding.Sum(e.dispatch.payload),
				Egress: a.egress(), Outputs: c.how, FrozenMillis: c.frozen.Milliseconds(),
				Origins: job.Origins, Steps: job.Steps,
			},
		},
	}
}

// maxFlows bounds the flows that stand in one provenance. FINAL has all of them.
const maxFlows = 64

// egress sums up what the gate did so far: the flows beyond the pinned hosts, and how often it refused.
func (a *Agent) egress() statement.Egress {
	e := statement.Egress{Mode: a.config.Egress}
	for _, f := range a.ports.Gate.Flows() {
		switch {
		case f.Refused != "":
			e.Refused += f.Connections
		case slices.Contains(a.config.Pinned, f.Host):
		case len(e.Flows) < maxFlows:
			e.Flows = append(e.Flows, f)
		default:
			e.Left++
		}
	}
	return e
}

// builderDependencies names what the builder itself was made of.
func (a *Agent) builderDependencies() []statement.ResourceDescriptor {
	deps := []statement.ResourceDescriptor{
		{Name: "launch-measurement", Digest: statement.DigestSet{"sevSnpMeasurement": hex.EncodeToString(a.env.self.Measurement[:])}},
	}
	if !a.config.Image.IsZero() {
		deps = append(deps, statement.ResourceDescriptor{
			Name: "root-image", Digest: statement.DigestSet{"kettleRoot": a.config.Image.String()},
		})
	}
	if !a.config.Packages.IsZero() {
		deps = append(deps, statement.ResourceDescriptor{Name: "image-packages", Digest: statement.SHA256(a.config.Packages)})
	}
	return deps
}
