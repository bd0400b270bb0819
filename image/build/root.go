// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// erofsOptions choose lz4, which a guest inflates about as fast as it reads, in clusters of 64 KiB: a smaller image has
// fewer blocks to read and to check. quickOptions spend a fifth of the time and a fifth more bytes.
var (
	erofsOptions = []string{"--quiet", "-x-1", "-zlz4hc", "-C65536", "-T" + sourceDateEpoch, "-U" + rootUUID}
	quickOptions = []string{"--quiet", "-x-1", "-zlz4", "-C65536", "-T" + sourceDateEpoch, "-U" + rootUUID}
)

// RootConfig says what a root image holds that is used once. Every field without "optional" is required.
type RootConfig struct {
	Cache  string // see [CacheDir]
	Mirror Mirror // asked only for a base system that is not in the cache
	System System
	Trees  []Tree // optional: what lies on the base system; see [GoTree]
	Output string // file
}

// Root makes a root image of a base system and trees, which takes root. It is packed quickly and not kept in the cache;
// for the image that is launched again and again there is [Build].
func Root(ctx context.Context, c RootConfig) (err error) {
	unlock, err := lock(ctx, c.Cache)
	if err != nil {
		return fmt.Errorf("making the root image: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	b, _, err := makeBase(ctx, c.Cache, c.Mirror, c.System)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(c.Cache, "root-work-")
	if err != nil {
		return fmt.Errorf("making the root image: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree := filepath.Join(work, "tree")
	if err := layTrees(ctx, tree, b, c.Trees); err != nil {
		return fmt.Errorf("making the root image: %w", err)
	}
	if err := b.pack(ctx, c.Cache, tree, c.Output, quickOptions); err != nil {
		return fmt.Errorf("making the root image: %w", err)
	}
	return nil
}

// makeRoot puts the trees onto the base system and packs it, unless the cache holds this very image.
func makeRoot(ctx context.Context, cache string, b base, trees []Tree) (path string, cached bool, err error) {
	key, err := rootKey(ctx, b, trees)
	if err != nil {
		return "", false, fmt.Errorf("making the root image: %w", err)
	}
	path = filepath.Join(cache, "root-"+key.String()[:16]+".erofs")
	if _, err := os.Stat(path); err == nil {
		return path, true, nil
	}
	work, err := os.MkdirTemp(cache, "root-work-")
	if err != nil {
		return "", false, fmt.Errorf("making the root image: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree, packed := filepath.Join(work, "tree"), filepath.Join(work, "root.erofs")
	if err := layTrees(ctx, tree, b, trees); err != nil {
		return "", false, fmt.Errorf("making the root image: %w", err)
	}
	if err := b.pack(ctx, cache, tree, packed, erofsOptions); err != nil {
		return "", false, fmt.Errorf("making the root image: %w", err)
	}
	if err := os.Rename(packed, path); err != nil {
		return "", false, fmt.Errorf("making the root image: %w", err)
	}
	return path, false, pruneRoots(cache)
}

// keptRoots is how many root images the cache keeps.
const keptRoots = 4

// pruneRoots removes all but the newest root images.
func pruneRoots(cache string) error {
	paths, err := filepath.Glob(filepath.Join(cache, "root-*.erofs"))
	if err != nil {
		return fmt.Errorf("pruning the cache: %w", err)
	}
	age := func(path string) time.Time {
		info, err := os.Stat(path)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(paths, func(a, b string) int { return age(b).Compare(age(a)) })
	for _, path := range paths[min(keptRoots, len(paths)):] {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("pruning the cache: %w", err)
		}
	}
	return nil
}

func rootKey(ctx context.Context, b base, trees []Tree) (image.SHA256, error) {
	list, err := os.ReadFile(filepath.Join(b.tree, packageList))
	if err != nil {
		return image.SHA256{}, err
	}
	h := sha256.New()
	record(h, b.recipe.String(), string(list))
	record(h, append(slices.Clone(erofsOptions), "verity", "no devices")...)
	for _, t := range trees {
		digest, err := t.digest(ctx)
		if err != nil {
			return image.SHA256{}, err
		}
		record(h, digest.String())
	}
	return image.SHA256(h.Sum(nil)), nil
}

// layTrees makes tree of hard links to the base system: new names appear beside its files, none of which is written to.
func layTrees(ctx context.Context, tree string, b base, trees []Tree) error {
	if _, err := run(ctx, tool{name: "cp", args: []string{"-al", b.tree, tree}}); err != nil {
		return err
	}
	if err := emptyFolder(filepath.Join(tree, "dev")); err != nil {
		return err
	}
	for _, t := range trees {
		if err := t.copyTo(ctx, tree); err != nil {
			return err
		}
	}
	return errors.Join(refuseRaisers(tree, b.profile.raisers()), refuseLogins(tree))
}

// emptyFolder removes what is in a folder. mmdebstrap puts device nodes into /dev where the machine lets it, and the kernel has
// its own.
func emptyFolder(folder string) error {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(folder, e.Name())))
	}
	return err
}

// pack makes the file system and appends its hash tree. The program that makes it is the lock's, with the libraries of the
// base system: another machine's version of it writes other bytes.
func (b base) pack(ctx context.Context, cache, tree, output string, options []string) error {
	folder, err := b.supply.unpacked(ctx, cache, locks.Tool)
	if err != nil {
		return err
	}
	args := append([]string{
		"--inhibit-cache", "--library-path", filepath.Join(b.tree, "usr/lib/x86_64-linux-gnu"), filepath.Join(folder, "usr/bin/mkfs.erofs"),
	}, options...)
	if _, err := run(ctx, tool{name: filepath.Join(b.tree, "usr/lib64/ld-linux-x86-64.so.2"), args: append(args, output, tree), env: toolEnv("/tmp")}); err != nil {
		return err
	}
	_, err = SealRoot(ctx, output)
	return err
}

// refuseRaisers makes sure that no program but those raises rights, neither by its mode nor by capabilities.
func refuseRaisers(tree string, allowed []string) error {
	return filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 && !slices.Contains(allowed, strings.TrimPrefix(path, tree)) {
			return fmt.Errorf("%s: raises rights", path)
		}
		switch _, err := unix.Lgetxattr(path, "security.capability", nil); {
		case err == nil:
			return fmt.Errorf("%s: has capabilities", path)
		case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP):
			return fmt.Errorf("%s: asking for its capabilities: %w", path, err)
		}
		return nil
	})
}
