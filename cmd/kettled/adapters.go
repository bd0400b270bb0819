// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/collect"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job"
	"github.com/kettle/attest/runner/job/pinned"
	"github.com/kettle/attest/runner/sandbox"
	"github.com/kettle/attest/runner/scaleset"
)

var (
	_ runner.Device = device{}
	_ runner.Policy = jobPolicy{}
)

// device fits the evidence device to its port.
type device struct{ *collect.Device }

// Quote implements [runner.Device].
func (d device) Quote(ctx context.Context, reportData [64]byte) (runner.Quote, error) {
	q, err := d.Device.Quote(ctx, reportData)
	if err != nil {
		return runner.Quote{}, err
	}
	e, err := q.Evidence()
	return runner.Quote{Evidence: e}, err
}

// Extend implements [runner.Device]: a platform without a register does nothing. Its evidence says so.
func (d device) Extend(ctx context.Context, digest binding.Digest) error {
	if err := d.Device.Extend(ctx, digest); !errors.Is(err, collect.ErrUnsupported) {
		return err
	}
	return nil
}

// jobPolicy judges jobs by the policy file's section for them.
type jobPolicy struct{ *policy.Policy }

// Allow implements [runner.Policy].
func (p jobPolicy) Allow(f statement.Facts, at time.Time) error { return p.Jobs().Allow(f, at) }

// newIdentifier makes the identifier over GitHub's API and the runner's log.
func newIdentifier(m *measured, client *github.Client, sets *scaleset.Registrar, home string) (runner.Identifier, error) {
	c := m.config.GitHub
	hosts := pinned.Hosts(c.Hosts)
	http, err := pinned.Client(pinned.Config{Hosts: hosts, Roots: m.githubCA})
	if err != nil {
		return nil, err
	}
	tokens, err := job.NewIssuer(c.Issuer, hosts, http)
	if err != nil {
		return nil, err
	}
	var announced func() (job.Announcement, bool)
	if sets != nil {
		announced = sets.Announced
	}
	return job.New(job.Config{
		Server: c.URL, Target: c.Target, Owners: c.Owners, Announced: announced, Issuer: c.Issuer, API: client, Tokens: tokens, Now: time.Now,
		Containers: sandbox.Profile(m.config.Sandbox.Profile) == sandbox.Docker,
		OpenLog:    func(context.Context) (io.ReadCloser, error) { return openWorkerLog(home) },
	})
}

// openWorkerLog opens the one Worker log of this fresh runner, from outside the sandbox. Links do not lead out of its
// home, and a second log means that something other than the runner's first job wrote there.
func openWorkerLog(home string) (io.ReadCloser, error) {
	r, err := os.OpenRoot(home)
	if err != nil {
		return nil, fmt.Errorf("opening the runner's home: %w", err)
	}
	defer r.Close() //nolint:errcheck // only read.
	diag := path.Join(strings.TrimPrefix(sandbox.RunnerRoot, sandbox.Home+"/"), "_diag")
	dir, err := r.Open(diag)
	if err != nil {
		return nil, fmt.Errorf("opening the runner's logs: %w", err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, fmt.Errorf("listing the runner's logs: %w", err)
	}
	var found []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), "Worker_") && strings.HasSuffix(e.Name(), ".log") {
			found = append(found, e.Name())
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("opening the runner's log: found %d logs of a worker, want 1", len(found))
	}
	return r.Open(path.Join(diag, found[0]))
}
