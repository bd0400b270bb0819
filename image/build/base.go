// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// packageList is where the base system keeps the list of its packages.
const packageList = "usr/share/kettle-packages"

// System says which base system is wanted: Debian with what a job needs, before anything of Kettle's or the caller's is
// added.
type System struct {
	Profile  Profile
	Packages []string    // optional: more of Debian's packages
	Lock     *locks.Lock // optional: what it is made of; without it, the published lock of the profile, or one that is taken now
}

// base is a base system in the cache.
type base struct {
	tree    string       // folder, owned by the cache: never written to
	profile Profile      //
	recipe  image.SHA256 // everything that determines it
	supply  *supply      // the packages of its lock
}

func (s System) packages() []string {
	all := append(s.Profile.packages(), s.Packages...)
	slices.Sort(all)
	return slices.Compact(all)
}

// recipe identifies a base system that is made of the packages of a lock.
func (s System) recipe(lock image.SHA256) (image.SHA256, error) {
	text, err := json.Marshal(map[string]any{
		"version": 3, "lock": lock, "dpkg": dpkgOptions, "customize": s.Profile.customize(), "epoch": sourceDateEpoch,
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

// Prefetch puts into the cache what every build needs and what does not depend on the caller: kernels, and these base
// systems.
func Prefetch(ctx context.Context, cache string, mirror Mirror, watch Watch, systems ...System) (err error) {
	unlock, err := lock(ctx, cache)
	if err != nil {
		return fmt.Errorf("filling the cache: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, _, err := prefetch(ctx, cache, mirror, newReporter(watch), systems...); err != nil {
		return fmt.Errorf("filling the cache: %w", err)
	}
	return nil
}

// prefetch makes kernel and base systems at the same time: one computes while the other writes files.
func prefetch(ctx context.Context, cache string, mirror Mirror, progress *reporter, systems ...System) (kernel *Kernel, bases []base, err error) {
	for _, system := range systems {
		b, err := system.plan(ctx, cache, mirror, progress, everything...)
		if err != nil {
			return nil, nil, err
		}
		bases = append(bases, b)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for _, b := range bases {
			begin := time.Now()
			k, cached, err := unpackKernel(ctx, cache, b.supply)
			if err := progress.done(Step{Name: "kernel", Took: time.Since(begin), Cached: cached}, err); err != nil {
				return err
			}
			kernel = k
		}
		return nil
	})
	group.Go(func() error {
		for _, b := range bases {
			begin := time.Now()
			cached, err := b.make(ctx, cache)
			if err := progress.done(Step{Name: "base", Took: time.Since(begin), Cached: cached}, err); err != nil {
				return err
			}
		}
		return nil
	})
	err = group.Wait()
	return kernel, bases, err
}

// plan settles what a base system is made of and where it is kept, and fetches the packages of these uses unless the
// cache holds what they are for.
func (s System) plan(ctx context.Context, cache string, mirror Mirror, progress *reporter, uses ...locks.Use) (b base, err error) {
	if err := s.Profile.Validate(); err != nil {
		return b, fmt.Errorf("making the base system: %w", err)
	}
	begin := time.Now()
	told := func(done, all int64) { progress.bytes("packages", done, all) }
	supply, err := s.supply(ctx, source{cache, mirror, told}, uses...)
	if err != nil {
		return b, err
	}
	b.profile, b.supply, b.recipe = s.Profile, supply, supply.recipe
	b.tree = s.basePath(cache, b.recipe)
	return b, progress.done(Step{Name: "packages", Took: time.Since(begin), Cached: supply.files == nil, Note: supply.note}, nil)
}

func (s System) basePath(cache string, recipe image.SHA256) string {
	return filepath.Join(cache, s.kind()+recipe.String()[:16])
}

// holdsBase tells whether the cache has a base system.
func holdsBase(tree string) bool {
	_, err := os.Stat(filepath.Join(tree, packageList))
	return err == nil
}

// makeBase plans a base system and makes it.
func makeBase(ctx context.Context, cache string, mirror Mirror, system System) (b base, cached bool, err error) {
	if b, err = system.plan(ctx, cache, mirror, newReporter(Watch{}), locks.Install, locks.Unpack, locks.Tool); err != nil {
		return b, false, err
	}
	cached, err = b.make(ctx, cache)
	return b, cached, err
}

// make runs mmdebstrap, unless the cache holds this recipe's system. cached tells which.
func (b base) make(ctx context.Context, cache string) (cached bool, err error) {
	if holdsBase(b.tree) {
		return true, nil
	}
	if os.Geteuid() != 0 {
		return false, errors.New("making the base system: it takes root to own a system's files; run this as root")
	}
	work, err := os.MkdirTemp(cache, "base-work-")
	if err != nil {
		return false, fmt.Errorf("making the base system: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree := filepath.Join(work, "tree")
	if err := b.debootstrap(ctx, work, tree); err != nil {
		return false, fmt.Errorf("making the base system: %w", err)
	}
	return false, keepBase(tree, b.tree)
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

// debootstrap runs mmdebstrap in namespaces of its own: it has no network, and its mounts and processes end with it,
// however it ends. What it installs is what the lock names, no more and no less.
func (b base) debootstrap(ctx context.Context, work, tree string) error {
	lock := b.supply.lock
	install, archive := lock.Of(locks.Install), filepath.Join(work, "archive")
	if err := layOut(ctx, archive, b.supply.files, append(slices.Clone(install), lock.Of(locks.Unpack)...)); err != nil {
		return err
	}
	hook := filepath.Join(work, "customize")
	if err := os.WriteFile(hook, []byte(b.profile.customize()), 0o600); err != nil {
		return err
	}
	if err := os.Chmod(hook, 0o700); err != nil { //nolint:gosec // a script that runs.
		return err
	}
	names := make([]string, 0, len(install))
	for _, p := range install {
		names = append(names, p.Name)
	}
	args := []string{
		"--mode=root", "--variant=minbase", "--format=directory", "--architectures=amd64", "--quiet",
		"--include=" + strings.Join(names, ","),
		"--aptopt=Acquire::Languages \"none\"", "--aptopt=APT::Install-Recommends \"false\"", "--aptopt=APT::Sandbox::User \"root\"",
		"--customize-hook=" + hook,
	}
	for _, option := range dpkgOptions {
		args = append(args, "--dpkgopt="+option)
	}
	args = append(args, suite, tree, "deb [trusted=yes] copy:"+(&url.URL{Path: archive}).EscapedPath()+" "+suite+" main")
	if _, err := run(ctx, tool{name: "mmdebstrap", args: args, env: toolEnv(work), contained: true}); err != nil {
		return err
	}
	return installedAsLocked(tree, lock)
}

// installedAsLocked compares the list of a new system's packages with the lock.
func installedAsLocked(tree string, lock *locks.Lock) error {
	got, err := os.ReadFile(filepath.Join(tree, packageList)) //nolint:gosec // a file of the new system.
	if err != nil {
		return err
	}
	if want := installed(lock); !bytes.Equal(got, want) {
		return fmt.Errorf("its packages are not those of the lock: %s", firstDifference(want, got))
	}
	return nil
}

// installed is the list of packages that a lock gives: "name version architecture", sorted by bytes.
func installed(lock *locks.Lock) []byte {
	var lines []string
	for _, p := range append(lock.Of(locks.Install), lock.Of(locks.Unpack)...) {
		lines = append(lines, p.Name+" "+p.Version+" "+p.Architecture+"\n")
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// firstDifference names the first line in which two lists differ.
func firstDifference(want, got []byte) string {
	a, b := slices.Collect(bytes.Lines(want)), slices.Collect(bytes.Lines(got))
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("line %d is %q, and the lock has no more", i+1, b[i])
		case i >= len(b):
			return fmt.Sprintf("line %d of the lock, %q, is missing", i+1, a[i])
		case !bytes.Equal(a[i], b[i]):
			return fmt.Sprintf("line %d: want %q, got %q", i+1, a[i], b[i])
		}
	}
	return "no line differs"
}
