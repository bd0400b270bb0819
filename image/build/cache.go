// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// CacheDir gives the folder in which builds keep what they can use again: KETTLE_CACHE, else "kettle" in the user's
// cache folder.
func CacheDir(getenv func(string) string) (string, error) {
	if dir := getenv("KETTLE_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder: %w", err)
	}
	return filepath.Join(dir, "kettle"), nil
}

// lock takes the cache for this process, makes it when it is not there, and removes what a killed build has left.
// The lock ends with the process, whatever happens to it.
func lock(ctx context.Context, cache string) (unlock func() error, err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // nothing in the cache is secret.
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(cache, "lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // in our cache.
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			if err := removeLeftovers(cache); err != nil {
				return nil, errors.Join(err, file.Close())
			}
			return file.Close, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("locking the cache: %w", err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// removeLeftovers removes working folders. The lock is held: nobody works in them.
func removeLeftovers(cache string) error {
	folders, err := filepath.Glob(filepath.Join(cache, "*-work-*"))
	for _, folder := range folders {
		err = errors.Join(err, os.RemoveAll(folder))
	}
	if err != nil {
		return fmt.Errorf("cleaning the cache: %w", err)
	}
	return nil
}

// unused is how long the cache keeps packages, and what was unpacked from them, after their last use.
const unused = 60 * 24 * time.Hour

// touch notes that something of the cache was used.
func touch(path string) error {
	now := time.Now()
	return os.Chtimes(path, now, now)
}

// pruneUnused removes what nobody has used for long. What is there tells nothing about an image.
func pruneUnused(cache string, now time.Time) error {
	for _, pattern := range []string{filepath.Join(packagesDir, "*"), "unpacked-*", "runner-*"} {
		paths, err := filepath.Glob(filepath.Join(cache, pattern))
		if err != nil {
			return fmt.Errorf("pruning the cache: %w", err)
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err == nil && now.Sub(info.ModTime()) > unused {
				err = os.RemoveAll(path)
			}
			if err != nil {
				return fmt.Errorf("pruning the cache: %w", err)
			}
		}
	}
	return nil
}
