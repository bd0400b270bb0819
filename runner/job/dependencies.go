// SPDX-License-Identifier: Apache-2.0

package job

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/statement"
)

// dependencies lists what went into the job as far as it is known at dispatch, the source first.
func (s *sources) dependencies(f statement.Facts) []statement.ResourceDescriptor {
	deps := []statement.ResourceDescriptor{{
		URI: "git+" + f.Server + "/" + f.Repository + "@" + f.Ref, Digest: statement.DigestSet{"gitCommit": f.SHA},
		Annotations: annotations("source", f.Origins["sha"]),
	}}
	for _, w := range s.run.Referenced {
		name, _, _ := strings.Cut(w.Path, "/.github/")
		if !isCommit(w.SHA) || !ValidRepository(name) {
			continue
		}
		deps = append(deps, statement.ResourceDescriptor{
			Name: w.Path, URI: "git+" + f.Server + "/" + name + "@" + w.Ref, Digest: statement.DigestSet{"gitCommit": w.SHA},
			Annotations: annotations("reusable-workflow", statement.FromGitHub),
		})
	}
	for _, a := range slices.Concat(s.actions, s.images()) {
		uri, what := "git+"+f.Server+"/"+a.repository+"@"+a.ref, "action"
		if a.image != "" {
			uri, what = "docker://"+(&url.URL{Path: a.image}).EscapedPath(), "image" // an expression may stand in it
		}
		deps = append(deps, statement.ResourceDescriptor{URI: uri, Digest: a.digest, Annotations: annotations(what, a.origin)})
	}
	deps = append(deps, s.caches(f)...)
	deps = append(deps, statement.ResourceDescriptor{
		Name: "job-message", Digest: statement.SHA256(f.JobMessage), MediaType: "application/json",
		Annotations: annotations("job-message", statement.FromMeasured),
	})
	if s.message.Needs != nil {
		deps = append(deps, statement.ResourceDescriptor{
			Name: "needs", Digest: statement.SHA256(binding.Sum(s.message.Needs)), MediaType: "application/json",
			Annotations: annotations("needs", statement.FromMeasured),
		})
	}
	return deps
}

// images are those of the job's container and services, each once, in the order of their names.
func (s *sources) images() []resolved {
	var references []string
	if s.message.Container != nil {
		references = append(references, s.message.Container.Image)
	}
	for _, name := range slices.Sorted(maps.Keys(s.message.Services)) {
		references = append(references, s.message.Services[name].Image)
	}
	var out []resolved
	for i, r := range references {
		if !slices.Contains(references[:i], r) {
			out = append(out, image(r))
		}
	}
	return out
}

// caches are those that steps restore, each once. Where their content comes from, nobody says but the job: any job that
// may write the repository's caches can have made it.
func (s *sources) caches(f statement.Facts) []statement.ResourceDescriptor {
	var out []statement.ResourceDescriptor
	seen := map[Cache]bool{}
	for _, step := range s.message.Steps {
		if step.Cache == nil || seen[*step.Cache] {
			continue
		}
		seen[*step.Cache] = true
		d := statement.ResourceDescriptor{
			Name: step.Cache.Key, URI: f.Server + "/" + f.Repository + "/actions/caches", Annotations: annotations("cache", statement.FromJob),
		}
		if step.Cache.Restore != "" {
			d.Annotations["kettle_restore_keys"] = step.Cache.Restore
		}
		out = append(out, d)
	}
	return out
}

func annotations(what string, origin statement.Origin) map[string]string {
	return map[string]string{"kettle_kind": what, "kettle_origin": string(origin)}
}
