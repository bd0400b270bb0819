// SPDX-License-Identifier: Apache-2.0

package stubrunner_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/runner/job"
)

const contained = `
on: {workflow_dispatch: {inputs: {os: {default: debian}}}}
jobs:
  build:
    runs-on: tee
    container:
      image: ${{ inputs.os }}:12
      options: --cpus 1
      env: {TOKEN: "${{ secrets.DEPLOY_KEY }}", LEVEL: 3}
      volumes: ["/run/kettle:/run/kettle"]
      credentials: {username: robot, password: "${{ secrets.DEPLOY_KEY }}"}
    services:
      db: {image: "postgres:17", ports: [5432, "80:81"]}
      mq: {image: rabbit}
    steps:
      - run: echo never
      - if: false
        uses: actions/cache@v4
        with: {path: x, key: "deps-${{ hashFiles('go.sum') }}", restore-keys: deps-}
`

// TestReadContainers reads what kettled reads of a job with containers out of the runner's own log: the started hook comes
// before they start.
func TestReadContainers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{".github/workflows/build.yml": contained})
	err := w.github.AddRepository(fakegithub.Repository{
		Owner: "actions", Name: "cache", ID: 5, OwnerID: 6, Refs: []string{"refs/tags/v4"},
		FS: fstest.MapFS{"action.yml": {Data: []byte("runs: {using: composite, steps: []}")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.hook("STARTED", "echo hook-started\n")
	done, _ := w.run(nil)
	log := w.log(done)
	wants(t, "log", log, "hook-started", "runs no containers")
	lacks(t, "log", log, "\x1b[36;1mecho never")
	m, err := job.ReadMessage(strings.NewReader(w.read("_diag/Worker_*-utc.log")), job.MaxLog)
	if err != nil {
		t.Fatal(err)
	}
	container := &statement.Container{
		Image: "${{ format('{0}:12', inputs.os) }}", Options: "--cpus 1", Env: []string{"LEVEL", "TOKEN"}, Volumes: []string{"/run/kettle:/run/kettle"},
	}
	services := map[string]statement.Container{"db": {Image: "postgres:17", Ports: []string{"5432", "80:81"}}, "mq": {Image: "rabbit"}}
	if d := cmp.Diff(container, m.Container) + cmp.Diff(services, m.Services); d != "" {
		t.Error(d)
	}
	if c := m.Steps[1].Cache; c == nil || c.Key != "${{ format('deps-{0}', hashFiles('go.sum')) }}" || c.Restore != "deps-" {
		t.Errorf("cache %+v", c)
	}
}
