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
	"time"

	"github.com/kettle/attest/image"
)

// erofsOptions choose lz4, which a guest inflates about as fast as it reads, in clusters of 64 KiB: a smaller image is
// copied and hashed sooner at every boot.
var erofsOptions = []string{"--quiet", "-zlz4hc", "-C65536", "-T" + sourceDateEpoch, "-U" + rootUUID}

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
	if err := packRoot(ctx, work, b, trees); err != nil {
		return "", false, fmt.Errorf("making the root image: %w", err)
	}
	if err := os.Rename(filepath.Join(work, "root.erofs"), path); err != nil {
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
	record(h, erofsOptions...)
	for _, t := range trees {
		digest, err := t.digest(ctx)
		if err != nil {
			return image.SHA256{}, err
		}
		record(h, digest.String())
	}
	return image.SHA256(h.Sum(nil)), nil
}

// packRoot works on hard links to the base system: new names appear beside its files, none of which is written to.
func packRoot(ctx context.Context, work string, b base, trees []Tree) error {
	tree := filepath.Join(work, "tree")
	if _, err := run(ctx, tool{name: "cp", args: []string{"-al", b.tree, tree}}); err != nil {
		return err
	}
	for _, t := range trees {
		if err := t.copyTo(ctx, tree); err != nil {
			return err
		}
	}
	if err := refuseSetuid(tree); err != nil {
		return err
	}
	args := append(append([]string{}, erofsOptions...), filepath.Join(work, "root.erofs"), tree)
	_, err := run(ctx, tool{name: "mkfs.erofs", args: args})
	return err
}

// refuseSetuid makes sure that sudo is the only program that raises rights.
func refuseSetuid(tree string) error {
	return filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 && path != filepath.Join(tree, "usr/bin/sudo") {
			return fmt.Errorf("%s: raises rights", path)
		}
		return nil
	})
}
