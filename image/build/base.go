// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image"
)

// packageList is where the base system keeps the list of its packages.
const packageList = "usr/share/kettle-packages"

// System says which base system is wanted: Debian with what a job needs, before anything of Kettle's or the caller's is
// added.
type System struct {
	Profile  Profile
	Packages []string // optional: more of Debian's packages
}

// base is a base system in the cache.
type base struct {
	tree    string       // folder, owned by the cache: never written to
	profile Profile      //
	recipe  image.SHA256 // everything that determines it, but for the state of the archive
}

func (s System) packages() []string {
	all := append(s.Profile.packages(), s.Packages...)
	slices.Sort(all)
	return slices.Compact(all)
}

// recipe identifies a base system.
func (s System) recipe() (image.SHA256, error) {
	text, err := json.Marshal(map[string]any{
		"version": 2, "suite": suite, "packages": s.packages(), "dpkg": dpkgOptions, "customize": s.Profile.customize(), "epoch": sourceDateEpoch,
	})
	if err != nil {
		return image.SHA256{}, fmt.Errorf("writing the recipe: %w", err)
	}
	return sha256sum(text), nil
}

// kind is what the cache keeps one of: a profile's own system, and one with more packages.
func (s System) kind() string {
	if len(s.Packages) > 0 {
		return "base-" + string(s.Profile) + "-more-"
	}
	return "base-" + string(s.Profile) + "-"
}

// Base gives the folder of a base system in the cache and makes it first when it is not there, which takes root. The
// files in it have their final owners and must not be written to; hard links and copies of them may be made. It stays
// until another recipe takes its place: another state of this package, or another list of more packages.
func Base(ctx context.Context, cache string, mirror Mirror, system System) (tree string, err error) {
	unlock, err := lock(ctx, cache)
	if err != nil {
		return "", fmt.Errorf("making the base system: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	b, _, err := makeBase(ctx, cache, mirror, system)
	return b.tree, err
}

// Prefetch puts into the cache what every build needs and what does not depend on the caller: the kernel, and the base
// systems of these profiles.
func Prefetch(ctx context.Context, cache string, mirror Mirror, profiles ...Profile) (err error) {
	unlock, err := lock(ctx, cache)
	if err != nil {
		return fmt.Errorf("filling the cache: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, _, err := prefetch(ctx, cache, mirror, newReporter(nil), profiles...); err != nil {
		return fmt.Errorf("filling the cache: %w", err)
	}
	return nil
}

// prefetch makes kernel and base systems at the same time: one waits for the network while the other computes.
func prefetch(ctx context.Context, cache string, mirror Mirror, progress *reporter, profiles ...Profile) (kernel *Kernel, bases []base, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		begin := time.Now()
		_, missing := CachedKernel(cache)
		kernel, err = fetchKernel(ctx, cache, mirror)
		return progress.done(Step{Name: "kernel", Took: time.Since(begin), Cached: missing == nil}, err)
	})
	group.Go(func() error {
		for _, profile := range profiles {
			begin := time.Now()
			b, cached, err := makeBase(ctx, cache, mirror, System{Profile: profile})
			if err := progress.done(Step{Name: "base", Took: time.Since(begin), Cached: cached}, err); err != nil {
				return err
			}
			bases = append(bases, b)
		}
		return nil
	})
	err = group.Wait()
	return kernel, bases, err
}

// makeBase runs mmdebstrap, unless the cache holds this recipe's system. cached tells which.
func makeBase(ctx context.Context, cache string, mirror Mirror, system System) (b base, cached bool, err error) {
	if err := system.Profile.Validate(); err != nil {
		return b, false, fmt.Errorf("making the base system: %w", err)
	}
	b.profile = system.Profile
	if b.recipe, err = system.recipe(); err != nil {
		return b, false, err
	}
	b.tree = filepath.Join(cache, system.kind()+b.recipe.String()[:16])
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
	if err := debootstrap(ctx, work, tree, mirror, system); err != nil {
		return b, false, fmt.Errorf("making the base system: %w", err)
	}
	return b, false, keepBase(tree, b.tree)
}

// keepBase gives a new base system its name, which ends in sixteen digits, and forgets those of the same kind.
func keepBase(tree, name string) error {
	const digits = "????????????????"
	old, err := filepath.Glob(name[:len(name)-len(digits)] + digits)
	if err != nil {
		return fmt.Errorf("keeping the base system: %w", err)
	}
	for _, path := range old {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err = errors.Join(err, os.Rename(tree, name)); err != nil {
		return fmt.Errorf("keeping the base system: %w", err)
	}
	return nil
}

// debootstrap runs mmdebstrap in namespaces of its own: its mounts and processes end with it, however it ends.
func debootstrap(ctx context.Context, work, tree string, mirror Mirror, system System) error {
	hook := filepath.Join(work, "customize")
	if err := os.WriteFile(hook, []byte(system.Profile.customize()), 0o700); err != nil { //nolint:gosec // a script that runs.
		return err
	}
	args := []string{
		"--mode=root", "--variant=minbase", "--format=directory", "--architectures=amd64", "--quiet",
		"--include=" + strings.Join(system.packages(), ","),
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
