// SPDX-License-Identifier: Apache-2.0

// Package stage makes what a measured machine on this host alone needs: the programs, an image with the stand-in for
// GitHub's runner program, the root of a simulated secure processor, and the measured configuration that names stand-ins
// for GitHub and for the store of records. The demonstration and the soak of machines stand on it.
//
// It guarantees that what did not change is not made again. It trusts this host, and nothing that it makes is meant for
// anybody else: the simulated processor's key lies in a folder.
package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
)

// The version that the stand-in for GitHub's runner program claims, and the day of its release. GitHub lets a version be
// used for a month: kettled raises an alarm on this stage.
const (
	runnerVersion  = "2.336.0"
	runnerReleased = "2026-08-17"
)

// Stage is everything that is made once and used again while nothing of it changes.
type Stage struct {
	Dir     string // of this stage
	Project string // the module's root
	Bin     string // programs; runner in it is the runner program's folder
	Image   string // the image
	Sim     *sim.Authority
}

// Open makes the folders of a stage. An empty dir is the named one below the user's cache.
func Open(ctx context.Context, dir, name string) (*Stage, error) {
	if dir == "" {
		cache, err := build.CacheDir(os.Getenv)
		if err != nil {
			return nil, err
		}
		dir = filepath.Join(cache, name)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	project, err := Output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kettle/attest")
	if err != nil {
		return nil, err
	}
	s := &Stage{Dir: dir, Project: project, Bin: filepath.Join(dir, "bin"), Image: filepath.Join(dir, "image")}
	return s, os.MkdirAll(s.Bin, 0o755) //nolint:gosec // programs to run.
}

// Simulator is the folder of the simulated processor's root.
func (s *Stage) Simulator() string { return filepath.Join(s.Dir, "simulator") }

// Program says which package becomes which file below [Stage.Bin].
type Program struct{ Package, File string }

// Programs builds what goes into the image, and more.
func (s *Stage) Programs(ctx context.Context, more ...Program) error {
	for _, p := range append([]Program{
		{"./cmd/kettled", "kettled"},
		{"./cmd/kettle-action", "kettle-action"},
		{"./internal/stubrunner/cmd/stubrunner", "runner/bin/Runner.Listener"},
	}, more...) {
		vcs := "-buildvcs=auto"
		if p.File != "kettled" && filepath.Dir(p.Package) != "./cmd" || p.File == "kettle-action" {
			vcs = "-buildvcs=false" // a commit alone must not make a new root image
		}
		err := Command(ctx, s.Project, []string{"CGO_ENABLED=0"},
			"go", "build", "-trimpath", vcs, "-ldflags=-s -w", "-o", filepath.Join(s.Bin, p.File), p.Package)
		if err != nil {
			return err
		}
	}
	listener, err := os.ReadFile(filepath.Join(s.Bin, "runner/bin/Runner.Listener"))
	if err != nil {
		return err
	}
	if err := Replace(filepath.Join(s.Bin, "runner/bin/Runner.Worker"), listener, 0o755); err != nil {
		return err
	}
	return Replace(filepath.Join(s.Bin, "runner.json"), []byte(`{"version":"`+runnerVersion+`","released":"`+runnerReleased+`"}`+"\n"), 0o644)
}

// Base fills the image builder's cache with what does not depend on this project.
func (s *Stage) Base(ctx context.Context) error {
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return err
	}
	return build.Prefetch(ctx, cache, build.FindMirror(ctx, os.Getenv), build.Watch{}, build.System{Profile: build.Strict})
}

// Authority makes the simulator's root, or takes an earlier one.
func (s *Stage) Authority() (err error) {
	if s.Sim, err = sim.LoadAuthority(s.Simulator()); err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.Sim, err = sim.NewAuthority(time.Now()); err != nil {
		return err
	}
	return s.Sim.Save(s.Simulator())
}

// Parts are what images of one stage differ in.
type Parts struct {
	Settings string // folder of the configuration
	GoRoot   string // folder of the Go toolchain that jobs find
	Kettled  string // file; the stage's own when empty
}

// Bake makes the image of these parts, and puts more files into it.
func (s *Stage) Bake(ctx context.Context, p Parts, more ...build.Tree) (*image.Manifest, error) {
	if p.Kettled == "" {
		p.Kettled = filepath.Join(s.Bin, "kettled")
	}
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	firmware, err := launch.FindFirmware()
	if err != nil {
		return nil, err
	}
	return build.Build(ctx, build.Config{
		Profile: build.Strict, Output: s.Image, Cache: cache, Kettled: p.Kettled, Settings: p.Settings,
		Policy: "policy.yaml", Firmware: firmware, GoRoot: p.GoRoot, Formats: []build.Format{build.Raw}, Action: filepath.Join(s.Bin, "kettle-action"),
		Hook: filepath.Join(s.Project, "action/started.sh"), Mirror: build.FindMirror(ctx, os.Getenv), Extra: more,
		Runner: build.Runner{Folder: filepath.Join(s.Bin, "runner"), Release: filepath.Join(s.Bin, "runner.json"), Version: runnerVersion},
	})
}

// Command runs a program quietly and shows what it said when it fails.
func Command(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // this project's own commands.
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return nil
}

// Output runs a program and gives what it prints, without space around it.
func Output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // this project's own commands.
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Replace writes a file only when its content differs: a new time would make a new image.
func Replace(path string, data []byte, mode os.FileMode) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) { //nolint:gosec // the stage's own file.
		return nil
	}
	return os.WriteFile(path, data, mode) //nolint:gosec // the stage's own file.
}
