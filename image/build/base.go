// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image"
)

// packageList is where the base system keeps the list of its packages.
const packageList = "usr/share/kettle-packages"

// base is Debian with what a job needs, before anything of Kettle's or the caller's is added.
type base struct {
	tree   string       // folder, owned by the cache: never written to
	recipe image.SHA256 // everything that determines it, but for the state of the archive
}

// recipe identifies a base system.
func recipe() (image.SHA256, error) {
	text, err := json.Marshal(map[string]any{
		"version": 1, "suite": suite, "packages": packages, "dpkg": dpkgOptions, "customize": customize, "epoch": sourceDateEpoch,
	})
	if err != nil {
		return image.SHA256{}, fmt.Errorf("writing the recipe: %w", err)
	}
	return sha256sum(text), nil
}

// Prefetch puts into the cache what every build needs and what does not depend on the caller: kernel and base system.
func Prefetch(ctx context.Context, cache string, mirror Mirror) (err error) {
	unlock, err := lock(ctx, cache)
	if err != nil {
		return fmt.Errorf("filling the cache: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, _, err := prefetch(ctx, cache, mirror, newReporter(nil)); err != nil {
		return fmt.Errorf("filling the cache: %w", err)
	}
	return nil
}

// prefetch makes kernel and base system at the same time: one waits for the network while the other computes.
func prefetch(ctx context.Context, cache string, mirror Mirror, progress *reporter) (kernel *Kernel, b base, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		begin := time.Now()
		_, missing := CachedKernel(cache)
		kernel, err = fetchKernel(ctx, cache, mirror)
		return progress.done(Step{Name: "kernel", Took: time.Since(begin), Cached: missing == nil}, err)
	})
	group.Go(func() (err error) {
		begin := time.Now()
		var cached bool
		b, cached, err = makeBase(ctx, cache, mirror)
		return progress.done(Step{Name: "base", Took: time.Since(begin), Cached: cached}, err)
	})
	err = group.Wait()
	return kernel, b, err
}

// makeBase runs mmdebstrap, unless the cache holds this recipe's system. cached tells which.
func makeBase(ctx context.Context, cache string, mirror Mirror) (b base, cached bool, err error) {
	if b.recipe, err = recipe(); err != nil {
		return b, false, err
	}
	b.tree = filepath.Join(cache, "base-"+b.recipe.String()[:16])
	if _, err := os.Stat(filepath.Join(b.tree, packageList)); err == nil {
		return b, true, nil
	}
	if os.Geteuid() != 0 {
		return b, false, errors.New("making the base system: it takes root to own a system's files; run this as root")
	}
	work, err := os.MkdirTemp(cache, "base-work-")
	if err != nil {
		return b, false, fmt.Errorf("making the base system: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree := filepath.Join(work, "tree")
	if err := debootstrap(ctx, work, tree, mirror); err != nil {
		return b, false, fmt.Errorf("making the base system: %w", err)
	}
	return b, false, keepBase(cache, tree, b.tree)
}

// keepBase gives a new base system its name and forgets those of other recipes.
func keepBase(cache, tree, name string) error {
	old, err := filepath.Glob(filepath.Join(cache, "base-*"))
	if err != nil {
		return fmt.Errorf("keeping the base system: %w", err)
	}
	for _, path := range old {
		if !strings.HasPrefix(tree, path+string(filepath.Separator)) {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	if err = errors.Join(err, os.Rename(tree, name)); err != nil {
		return fmt.Errorf("keeping the base system: %w", err)
	}
	return nil
}

// debootstrap runs mmdebstrap in namespaces of its own: its mounts and processes end with it, however it ends.
func debootstrap(ctx context.Context, work, tree string, mirror Mirror) error {
	hook := filepath.Join(work, "customize")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\nset -eu\nchroot \"$1\" /bin/sh <<'KETTLE'\n"+customize+"KETTLE\n"), 0o700); err != nil { //nolint:gosec // a script that runs.
		return err
	}
	args := []string{
		"--mode=root", "--variant=minbase", "--format=directory", "--architectures=amd64", "--quiet",
		"--include=" + strings.Join(packages, ","),
		"--aptopt=Acquire::Languages \"none\"", "--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Retries \"3\"",
		"--customize-hook=" + hook,
	}
	for _, option := range dpkgOptions {
		args = append(args, "--dpkgopt="+option)
	}
	args = append(args, suite, tree)
	args = append(args, mirror.sources()...)
	env := append(os.Environ(), "SOURCE_DATE_EPOCH="+sourceDateEpoch, "LC_ALL=C.UTF-8", "TMPDIR="+work)
	_, err := run(ctx, tool{name: "mmdebstrap", args: args, env: env, contained: true})
	return err
}
