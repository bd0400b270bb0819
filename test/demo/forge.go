// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/test/stage"
)

// forgery is an image that somebody changes after it was signed.
type forgery struct {
	world    *world
	scene    *scene
	manifest *image.Manifest
}

// forge launches two machines from changed images. The first refuses itself; the second had that refusal cut out, and gets no
// credential. Neither registers a runner.
func (d *demo) forge(ctx context.Context, s *session, f forgery) error {
	before := len(f.world.github.Runners())
	changed := filepath.Join(d.dir, "altered.cpio")
	if err := altered(f.scene.File(f.manifest.Files.Initrd), changed); err != nil {
		return err
	}
	s.comment("the same image with 512 bytes more in its initrd: the machine refuses itself and registers nothing")
	if err := d.refused(ctx, s, f, &machine{workflow: "altered image", initrd: changed}, "reference values refused (measurement)"); err != nil {
		return err
	}
	cut, err := f.withoutCheck(ctx)
	if err != nil {
		return err
	}
	s.comment("kettled with that check cut out of it: it goes on, and nobody gives it a credential")
	if err := d.refused(ctx, s, f, &machine{workflow: "kettled without its check", initrd: cut}, "asking to be admitted"); err != nil {
		return err
	}
	if after := len(f.world.github.Runners()); after != before {
		return fmt.Errorf("%d runners are registered, want %d", after, before)
	}
	return nil
}

// refused launches a machine and demands that it ends with a sentence that says why.
func (d *demo) refused(ctx context.Context, s *session, f forgery, m *machine, why string) error {
	m.scene, m.world, m.screen, m.line = f.scene, f.world, d.screen, f.manifest.CommandLine
	m.console = filepath.Join(d.dir, "console-"+strings.ReplaceAll(m.workflow, " ", "-")+".log")
	if err := os.RemoveAll(m.console); err != nil {
		return err
	}
	var outcome string
	err := d.screen.step("Launching the "+m.workflow, func() (err error) {
		outcome, _, err = m.run(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if !strings.Contains(outcome, why) {
		return fmt.Errorf("the %s ended with %q, want %q in it", m.workflow, outcome, why)
	}
	s.print(outcome + "\n\n")
	return nil
}

// withoutCheck gives the initrd of an image whose kettled takes every image for its own. All else is as it was: only what
// outsiders measure tells it from the honest one.
func (f forgery) withoutCheck(ctx context.Context) (initrd string, err error) {
	const check = "if o.image, err = v.VerifyImage(ctx, q, now); err != nil {"
	source := filepath.Join(f.scene.Project, "cmd/kettled/self.go")
	text, err := os.ReadFile(source) //nolint:gosec // this project's own.
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), check) != 1 {
		return "", errors.New("the check that is to be cut out of kettled is not there")
	}
	dir := filepath.Join(f.scene.Dir, "cut")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "self.go")}})
	if err != nil {
		return "", err
	}
	instead := "if o.image = pretended(m); v == nil {"
	text = []byte(strings.Replace(string(text), check, instead, 1) + pretended)
	err = errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "self.go"), text, 0o600), //nolint:gosec // programs to run.
		os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	if err != nil {
		return "", err
	}
	kettled := filepath.Join(dir, "kettled")
	err = stage.Command(ctx, f.scene.Project, []string{"CGO_ENABLED=0"}, "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-trimpath",
		"-ldflags=-s -w", "-o", kettled, "./cmd/kettled")
	if err != nil {
		return "", err
	}
	other := *f.scene.Stage
	other.Image = filepath.Join(dir, "image")
	settings := filepath.Join(f.scene.Dir, "settings")
	m, err := (&scene{Stage: &other, widget: f.scene.widget}).bakeWith(ctx, settings, kettled)
	if err != nil {
		return "", err
	}
	return other.File(m.Files.Initrd), nil
}

// pretended is what a kettled without its check says about itself.
const pretended = `
func pretended(m *measured) runner.Image {
	return runner.Image{
		Files:      []statement.Subject{{Name: "initrd.cpio", Digest: statement.SHA256(m.config.Digest())}},
		Provenance: m.config.Digest(), References: m.policy.Digest(), Policy: m.policy.Digest(), Levels: []string{statement.BuildLevel(3)},
	}
}
`
