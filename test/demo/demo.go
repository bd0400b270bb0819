// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
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
		outside := stage.Outside{
			Timeouts: stage.DemoTimeouts, CA: w.ca, Sigstore: w.sigstore, DispatchCA: w.dispatcher.ca, Operator: w.dispatcher.operator,
		}
		if err := s.Settings(folder, outside); err != nil {
			return err
		}
		m, err = s.bake(ctx, folder)
		return err
	})
	if err != nil {
		return "", err
	}
	if err := d.publish(ctx, w, s); err != nil {
		return "", err
	}
	honest := &machine{workflow: "release.yml", initrd: s.File(m.Files.Initrd), line: m.CommandLine}
	if err := d.job(ctx, w, s, honest); err != nil {
		return "", err
	}
	if err := w.records.complete(1); err != nil {
		return "", err
	}
	shown := d.session(s)
	for _, part := range []func(context.Context, *session) error{d.image, d.accept, d.tamper} {
		if err := part(ctx, shown); err != nil {
			return "", err
		}
	}
	if err := d.forge(ctx, shown, forgery{w, s, m}); err != nil {
		return "", err
	}
	if d.attacked {
		if err := d.hostile(ctx, w, s, m); err != nil {
			return "", err
		}
	}
	return shown.text.String(), nil
}

// publish signs the image as its workflow would, starts who admits machines of it, and puts beside the artifact what its
// verifier has: a policy, the image's bundle, the simulator's root, GitHub's keys, and the roots of who signs images.
func (d *demo) publish(ctx context.Context, w *world, s *scene) error {
	err := d.screen.step("Signing the image's provenance and reference values", func() error { return s.Attest(ctx, w.sigstore) })
	if err != nil {
		return err
	}
	if err := w.dispatcher.start(s, w, filepath.Join(d.dir, "settings")); err != nil {
		return err
	}
	signed, err := os.ReadFile(s.Bundle())
	if err != nil {
		return err
	}
	errs := []error{os.Symlink(s.Image, filepath.Join(d.work, "image")), w.trust(filepath.Join(d.work, "github-keys.json"), time.Now())}
	for name, data := range map[string][]byte{
		"policy.yaml": consumerPolicy(w.sigstore.Signer(), w.dispatcher.operator), "image.intoto.jsonl": signed,
		"simulator.pem": s.Sim.RootsPEM(), "sigstore.json": w.sigstore.TrustedRoot(),
	} {
		errs = append(errs, os.WriteFile(filepath.Join(d.work, name), data, 0o644)) //nolint:gosec // public.
	}
	return errors.Join(errs...)
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
const trust = " --image-bundle image.intoto.jsonl --policy policy.yaml --root simulator.pem --trusted-root github-keys.json --trusted-root sigstore.json"

// image shows what stands behind the image before anything is launched from it.
func (d *demo) image(ctx context.Context, s *session) error {
	s.comment("the image that the machine runs, before it is launched")
	return s.run(ctx, 0, "kettle image verify image --policy policy.yaml --trusted-root sigstore.json")
}

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
