// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/internal/fakegithub"
	"github.com/kettle/attest/test/stage"
)

// demo is one run of the demonstration.
type demo struct {
	dir    string // what is kept between runs
	work   string // what a person would have in front of them
	screen *screen
	out    io.Writer

	attacked bool // whether a hostile job runs as well
}

func newDemo(dir string) (*demo, error) {
	if dir == "" {
		cache, err := build.CacheDir(os.Getenv)
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(cache, "demo")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	return &demo{
		dir: dir, work: filepath.Join(dir, "work"), screen: &screen{out: os.Stderr, begin: time.Now()}, out: os.Stdout,
	}, nil
}

// play runs everything and gives the terminal session.
func (d *demo) play(ctx context.Context) (string, error) {
	if err := os.RemoveAll(d.work); err != nil {
		return "", err
	}
	if err := os.MkdirAll(d.work, 0o755); err != nil { //nolint:gosec // public.
		return "", err
	}
	s, err := prepare(ctx, d.dir, d.screen)
	if err != nil {
		return "", err
	}
	w, err := newWorld(s) //nolint:contextcheck // its servers end with shut, not with a request.
	if err != nil {
		return "", err
	}
	defer w.shut()
	var m *image.Manifest
	err = d.screen.step("Baking the image", func() (err error) {
		folder := filepath.Join(d.dir, "settings")
		if err := s.Settings(folder, stage.DemoTimeouts, w.ca); err != nil {
			return err
		}
		m, err = s.bake(ctx, folder)
		return err
	})
	if err != nil {
		return "", err
	}
	if err := d.hand(w, s, m); err != nil {
		return "", err
	}
	if err := d.jobs(ctx, w, s, m); err != nil {
		return "", err
	}
	shown := d.session(s)
	for _, part := range []func(context.Context, *session) error{d.accept, d.tamper, d.refuse} {
		if err := part(ctx, shown); err != nil {
			return "", err
		}
	}
	if d.attacked {
		if err := d.hostile(ctx, w, s, m); err != nil {
			return "", err
		}
	}
	return shown.text.String(), nil
}

// jobs runs one job on the image as it is and, once that job has its runner, another on a machine with an altered initrd.
func (d *demo) jobs(ctx context.Context, w *world, s *scene, m *image.Manifest) error {
	honest := &machine{workflow: "release.yml", initrd: filepath.Join(s.Image, m.Initrd.Name), line: m.CommandLine}
	other := &machine{workflow: "notes.yml", initrd: filepath.Join(d.dir, "altered.cpio"), line: m.CommandLine}
	if err := altered(honest.initrd, other.initrd); err != nil {
		return err
	}
	running := make(chan struct{})
	honest.running = running
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.job(ctx, w, s, honest) })
	group.Go(func() error {
		select {
		case <-running: // its runner is taken: the next job is the other machine's
			return d.job(ctx, w, s, other)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return w.records.complete(2)
}

// hand puts beside the artifact what its verifier has: a policy, the simulator's root, and GitHub's keys.
func (d *demo) hand(w *world, s *scene, m *image.Manifest) error {
	digest := measure.Sim(measure.Manifest(m))
	return errors.Join(
		os.WriteFile(filepath.Join(d.work, "policy.yaml"), consumerPolicy(hex.EncodeToString(digest[:])), 0o644), //nolint:gosec // public.
		os.WriteFile(filepath.Join(d.work, "simulator.pem"), s.Sim.RootsPEM(), 0o644),                            //nolint:gosec // public.
		w.trust(filepath.Join(d.work, "github-keys.json"), time.Now()),
	)
}

// job dispatches the workflow and runs a machine for it, and downloads what it published.
func (d *demo) job(ctx context.Context, w *world, s *scene, m *machine) error {
	run, err := w.github.Dispatch(ctx, fakegithub.Dispatch{Owner: owner, Repo: repo, Workflow: m.workflow, Ref: "main"})
	if err != nil {
		return err
	}
	m.scene, m.world, m.screen, m.console = s, w, d.screen, filepath.Join(d.dir, fmt.Sprintf("console-%d.log", run.ID))
	if err := os.RemoveAll(m.console); err != nil {
		return err
	}
	var outcome string
	err = d.screen.step("Running "+m.workflow+" in a measured machine", func() (err error) {
		outcome, _, err = m.run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if run, err = w.github.Wait(ctx, run); err != nil {
		return fmt.Errorf("the machine ended (%s) and the run did not: %w", outcome, err)
	}
	for _, r := range w.github.Runners() {
		if r.Name == run.Jobs[0].RunnerName {
			return fmt.Errorf("runner %s is still registered; %s", r.Name, outcome)
		}
	}
	if run.Conclusion != "success" {
		log, _ := w.github.JobLog(run.Jobs[0].ID)
		return fmt.Errorf("the job ended with %q; %s\n%s", run.Conclusion, outcome, log)
	}
	return w.download(d.work, run.ID)
}

// session begins the terminal session.
func (d *demo) session(s *scene) *session {
	return &session{
		dir: d.work, env: append(os.Environ(), "NO_COLOR=1"), out: d.out,
		bin: map[string]string{"kettle": filepath.Join(s.Bin, "kettle")},
	}
}

// trust is what the verifier brings: it comes from no bundle.
const trust = " --policy policy.yaml --root simulator.pem --trusted-root github-keys.json"

// accept shows that the artifact verifies.
func (d *demo) accept(ctx context.Context, s *session) error {
	s.comment("built by a workflow with `runs-on: attested-cvm` and `uses: kettle/attest@v1`")
	return s.run(ctx, 0, "kettle verify "+artifact+trust)
}

// tamper flips one bit of the artifact and shows the refusal.
func (d *demo) tamper(ctx context.Context, s *session) error {
	file := filepath.Join(d.work, artifact)
	data, err := os.ReadFile(file) //nolint:gosec // the demo's own file.
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(file, data, 0o644); err != nil { //nolint:gosec // public.
		return err
	}
	s.comment("the same, with one bit of the artifact flipped")
	return s.run(ctx, 3, "kettle verify "+artifact+trust)
}

// refuse shows what the same policy says of a file that a machine with another initrd made.
func (d *demo) refuse(ctx context.Context, s *session) error {
	s.comment("release notes from a machine whose initrd has 512 bytes more: the same policy refuses them")
	return s.run(ctx, 5, "kettle verify notes.txt"+trust)
}
