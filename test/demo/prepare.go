// SPDX-License-Identifier: Apache-2.0

package main

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

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
)

// The version that the stand-in for GitHub's runner program claims, and the day of its release. GitHub lets a version be
// used for a month: kettled raises an alarm in the demonstration.
const (
	runnerVersion  = "2.336.0"
	runnerReleased = "2026-08-17"
)

// stage is everything that is made once and used again while nothing of it changes.
type stage struct {
	dir     string // of this machine's demos
	project string // the module's root
	bin     string // programs
	widget  string // the repository of the demonstration, with its vendored source
	image   string // the build image
	sim     *sim.Authority
}

// prepare builds the programs, vendors the source, warms its build cache and makes the base of the image.
func prepare(ctx context.Context, dir string, screen *screen) (*stage, error) {
	project, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}", "github.com/kettle/attest")
	if err != nil {
		return nil, err
	}
	s := &stage{
		dir: dir, project: project, bin: filepath.Join(dir, "bin"), widget: filepath.Join(dir, "widget"),
		image: filepath.Join(dir, "image"),
	}
	if err := os.MkdirAll(s.bin, 0o755); err != nil { //nolint:gosec // programs to run.
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return screen.step("Building kettled, kettle and the stand-ins", func() error { return s.programs(ctx) })
	})
	group.Go(func() error {
		return screen.step("Vendoring age and warming its build cache", func() error { return s.vendor(ctx) })
	})
	group.Go(func() error {
		return screen.step("Fetching the kernel, making the base system", func() error { return s.base(ctx) })
	})
	group.Go(func() error { return s.authority() })
	return s, group.Wait()
}

// programs builds what goes into the image and what judges it.
func (s *stage) programs(ctx context.Context) error {
	for pkg, program := range map[string]struct {
		path string
		vcs  string // a commit alone must not make a new root image
	}{
		"./cmd/kettled":                        {"kettled", "-buildvcs=auto"},
		"./cmd/kettle":                         {"kettle", "-buildvcs=auto"},
		"./cmd/kettle-action":                  {"kettle-action", "-buildvcs=false"},
		"./internal/stubrunner/cmd/stubrunner": {"runner/bin/Runner.Listener", "-buildvcs=false"},
	} {
		err := command(ctx, s.project, []string{"CGO_ENABLED=0"},
			"go", "build", "-trimpath", program.vcs, "-ldflags=-s -w", "-o", filepath.Join(s.bin, program.path), pkg)
		if err != nil {
			return err
		}
	}
	listener, err := os.ReadFile(filepath.Join(s.bin, "runner/bin/Runner.Listener"))
	if err != nil {
		return err
	}
	if err := replace(filepath.Join(s.bin, "runner/bin/Runner.Worker"), listener, 0o755); err != nil {
		return err
	}
	return replace(filepath.Join(s.bin, "runner.json"), []byte(`{"version":"`+runnerVersion+`","released":"`+runnerReleased+`"}`+"\n"), 0o644)
}

// vendor copies the repository of the demonstration, vendors its dependency through the module proxy, and builds it
// once, so that the job finds a warm build cache.
func (s *stage) vendor(ctx context.Context) error {
	source := os.DirFS(filepath.Join(s.project, "test/demo/widget"))
	err := fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(s.widget, name), 0o755) //nolint:gosec // public.
		}
		data, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		return replace(filepath.Join(s.widget, name), data, 0o644)
	})
	if err != nil {
		return err
	}
	// Vendoring again would give the same files new times, by which the build cache knows them.
	if _, err := os.Stat(filepath.Join(s.widget, "vendor/modules.txt")); err != nil {
		if err := command(ctx, s.widget, nil, "go", "mod", "vendor"); err != nil {
			return err
		}
	}
	return s.warm(ctx)
}

// warm fills the build cache that goes into the image, once for each toolchain and dependency: a second build would
// give its entries new times, and so the image another digest.
func (s *stage) warm(ctx context.Context) error {
	version, err := output(ctx, s.widget, "go", "env", "GOVERSION")
	if err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(s.widget, "go.sum"))
	if err != nil {
		return err
	}
	key, mark := append([]byte(version+"\n"), sums...), s.cache()+".key"
	if have, err := os.ReadFile(mark); err == nil && bytes.Equal(have, key) { //nolint:gosec // the demo's own file.
		return nil
	}
	err = command(ctx, s.widget, []string{"CGO_ENABLED=0", "GOFLAGS=-mod=vendor -trimpath", "GOCACHE=" + s.cache()},
		"go", "build", "-o", os.DevNull, "filippo.io/age/cmd/age")
	if err != nil {
		return err
	}
	return replace(mark, key, 0o644)
}

func (s *stage) cache() string { return filepath.Join(s.dir, "go-build") }

// base fills the image builder's cache with what does not depend on this project.
func (s *stage) base(ctx context.Context) error {
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return err
	}
	return build.Prefetch(ctx, cache, build.FindMirror(ctx, os.Getenv), build.Strict)
}

// authority makes the simulator's root, or takes the one of an earlier demo.
func (s *stage) authority() (err error) {
	dir := filepath.Join(s.dir, "simulator")
	if s.sim, err = sim.LoadAuthority(dir); err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.sim, err = sim.NewAuthority(time.Now()); err != nil {
		return err
	}
	return s.sim.Save(dir)
}

// bake makes the image with this configuration.
func (s *stage) bake(ctx context.Context, settings string) (*image.Manifest, error) {
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	firmware, err := launch.FindFirmware()
	if err != nil {
		return nil, err
	}
	goroot, err := output(ctx, s.project, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	return build.Build(ctx, build.Config{Profile: build.Strict,
		Output: s.image, Cache: cache, Kettled: filepath.Join(s.bin, "kettled"), Settings: settings, Firmware: firmware,
		GoRoot: goroot, Action: filepath.Join(s.bin, "kettle-action"), Hook: filepath.Join(s.project, "action/started.sh"),
		Runner: filepath.Join(s.bin, "runner"), Mirror: build.FindMirror(ctx, os.Getenv),
		Extra: []build.Tree{
			{Source: filepath.Join(s.bin, "runner.json"), Target: image.ToolsDir + "/runner.json"},
			{Source: s.cache(), Target: "/var/cache/go-build", Owner: 1001, Skip: func(path string, _ fs.DirEntry) bool {
				return path == "trim.txt" || path == "testexpire.txt"
			}},
		},
	})
}

// command runs a program quietly and shows what it said when it fails.
func command(ctx context.Context, dir string, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the demo's own commands.
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return nil
}

func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // the demo's own commands.
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// replace writes a file only when its content differs.
func replace(path string, data []byte, mode os.FileMode) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, data) { //nolint:gosec // the demo's own file.
		return nil
	}
	return os.WriteFile(path, data, mode) //nolint:gosec // the demo's own file.
}
