// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/test/stage"
)

// scene is the stage with the repository of the demonstration.
type scene struct {
	*stage.Stage
	widget string // the repository of the demonstration, with its vendored source
}

// prepare builds the programs, vendors the source, warms its build cache and makes the base of the image.
func prepare(ctx context.Context, dir string, screen *screen) (*scene, error) {
	set, err := stage.Open(ctx, dir, "demo")
	if err != nil {
		return nil, err
	}
	s := &scene{Stage: set, widget: filepath.Join(dir, "widget")}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return screen.step("Building kettled, kettle and the stand-ins", func() error {
			return s.Programs(ctx, stage.Program{Package: "./cmd/kettle", File: "kettle"}, stage.Program{Package: "./cmd/kettle-dispatch", File: "kettle-dispatch"})
		})
	})
	group.Go(func() error {
		return screen.step("Vendoring age and warming its build cache", func() error { return s.vendor(ctx) })
	})
	group.Go(func() error {
		return screen.step("Fetching the kernel, making the base system", func() error { return s.Base(ctx) })
	})
	group.Go(s.Authority)
	return s, group.Wait()
}

// vendor copies the repository of the demonstration, vendors its dependency through the module proxy, and builds it
// once, so that the job finds a warm build cache.
func (s *scene) vendor(ctx context.Context) error {
	source := os.DirFS(filepath.Join(s.Project, "test/demo/widget"))
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
		return stage.Replace(filepath.Join(s.widget, name), data, 0o644)
	})
	if err != nil {
		return err
	}
	// Vendoring again would give the same files new times, by which the build cache knows them.
	if _, err := os.Stat(filepath.Join(s.widget, "vendor/modules.txt")); err != nil {
		if err := stage.Command(ctx, s.widget, nil, "go", "mod", "vendor"); err != nil {
			return err
		}
	}
	return s.warm(ctx)
}

// warm fills the build cache that goes into the image, once for each toolchain and dependency: a second build would
// give its entries new times, and so the image another digest.
func (s *scene) warm(ctx context.Context) error {
	version, err := stage.Output(ctx, s.widget, "go", "env", "GOVERSION")
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
	err = stage.Command(ctx, s.widget, []string{"CGO_ENABLED=0", "GOFLAGS=-mod=vendor -trimpath", "GOCACHE=" + s.cache()},
		"go", "build", "-o", os.DevNull, "filippo.io/age/cmd/age")
	if err != nil {
		return err
	}
	return stage.Replace(mark, key, 0o644)
}

func (s *scene) cache() string { return filepath.Join(s.Dir, "go-build") }

// bake makes the image with this configuration, the Go toolchain and the warm build cache.
func (s *scene) bake(ctx context.Context, settings string) (*image.Manifest, error) {
	return s.bakeWith(ctx, settings, filepath.Join(s.Bin, "kettled"))
}

// bakeWith is bake with another kettled.
func (s *scene) bakeWith(ctx context.Context, settings, kettled string) (*image.Manifest, error) {
	goroot, err := stage.Output(ctx, s.Project, "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	return s.Bake(ctx, stage.Parts{Settings: settings, Kettled: kettled, GoRoot: goroot}, build.Tree{
		Source: s.cache(), Target: "/var/cache/go-build", Owner: 1001, Skip: func(path string, _ fs.DirEntry) bool {
			return path == "trim.txt" || path == "testexpire.txt"
		},
	})
}
