// SPDX-License-Identifier: Apache-2.0

package action

import (
	"context"
	"path"
	"strings"

	"github.com/kettle/attest/runner/door"
)

// inContainer is where the runner puts its work folder into a job's container (ContainerInfo.cs).
const inContainer = "/__w"

// mount is a folder of the sandbox and the name it has in the job's container.
type mount struct{ inside, outside string }

// mounts are what the runner mounts into a job's container, given the job's workspace as the sandbox calls it, which is
// WORK/REPOSITORY/REPOSITORY (ContainerOperationProvider.cs). The longest name comes first.
func mounts(workspace string) []mount {
	work := path.Dir(path.Dir(workspace))
	return []mount{
		{"/github/workflow", work + "/_temp/_github_workflow"}, {"/github/home", work + "/_temp/_github_home"},
		{inContainer, work}, {"/__t", work + "/_tool"},
	}
}

// outside turns the paths of a request that was made in a job's container into those of the sandbox, where kettled looks
// for them. A path that only the container has is an error: another file may have that name outside.
func outside(ctx context.Context, d door.Client, a door.Attest) (door.Attest, error) {
	if a.Workspace != inContainer && !strings.HasPrefix(a.Workspace, inContainer+"/") {
		return a, nil
	}
	s, err := d.Status(ctx)
	if err != nil {
		return a, err
	}
	if !path.IsAbs(s.Workspace) {
		return a, usagef("this environment cannot tell where the files of a job with a container lie")
	}
	table := mounts(s.Workspace)
	paths := make([]string, 0, len(a.Paths))
	for _, p := range a.Paths {
		mapped, err := translate(table, p)
		if err != nil {
			return a, err
		}
		paths = append(paths, mapped)
	}
	a.Paths = paths
	for _, one := range []*string{&a.Workspace, &a.Checksums, &a.ArtifactsList} {
		if *one, err = translate(table, *one); err != nil {
			return a, err
		}
	}
	return a, nil
}

// translate turns one path or pattern; a relative one stays as it is, relative to the workspace.
func translate(table []mount, p string) (string, error) {
	name, excluded := strings.CutPrefix(p, "!")
	if !path.IsAbs(name) {
		return p, nil
	}
	clean := name
	if !strings.ContainsAny(name, "*?[{\\") { // a pattern is not a path that could be cleaned
		clean = path.Clean(name)
	}
	for _, m := range table {
		rest, ok := strings.CutPrefix(clean, m.inside)
		if !ok || rest != "" && rest[0] != '/' || strings.Contains(rest+"/", "/../") {
			continue
		}
		if excluded {
			return "!" + m.outside + rest, nil
		}
		return m.outside + rest, nil
	}
	return "", usagef("%.200q lies in the job's container alone: put what is to be attested below the workspace", p)
}
