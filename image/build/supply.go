// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// everything is the uses of an image's packages.
var everything = []locks.Use{locks.Install, locks.Unpack, locks.Kernel, locks.Stub, locks.Tool}

// supply is a lock with its packages at hand.
type supply struct {
	lock   *locks.Lock
	digest image.SHA256 // of the lock
	recipe image.SHA256 // of the base system that is made of it
	files  *fetcher     // the packages; nil if the cache holds everything that they are for
	note   string       // what people should know about the choice of the lock, or ""
}

// supply chooses the lock and fetches packages. Where the archive no longer has what the published lock names, and the
// mirror allows it, a new lock takes its place, in this cache alone.
func (s System) supply(ctx context.Context, from source, uses ...locks.Use) (*supply, error) {
	chosen, err := s.chooseLock(ctx, from.cache, from.mirror)
	if err != nil {
		return nil, err
	}
	err = chosen.fetch(ctx, from, s, uses...)
	var gone *GoneError
	if !errors.As(err, &gone) {
		return chosen, err
	}
	if !from.mirror.Fresh || s.Lock != nil {
		return nil, fmt.Errorf("%w\nThe archive keeps the newest versions only. For an image that is to be published take a new lock with "+
			"kettle image lock, look at what has changed, and build from it; for development KETTLE_PACKAGES=fresh takes one into the cache", err)
	}
	fresh, err := s.freshLock(ctx, from.cache, from.mirror, s.lockPath(from.cache, chosen.digest))
	if err != nil {
		return nil, err
	}
	fresh.note = fmt.Sprintf("%s is gone from the archive; this image is of packages newer than the published lock's", gone.What)
	return fresh, fresh.fetch(ctx, from, s, uses...)
}

// chooseLock takes the lock that the caller brought, else the published one, else one that the cache keeps for this
// system, else a new one.
func (s System) chooseLock(ctx context.Context, cache string, mirror Mirror) (*supply, error) {
	var published image.SHA256 // none
	if s.Lock != nil || len(s.Packages) == 0 {
		chosen := s.Lock
		if chosen == nil {
			var err error
			if chosen, err = locks.OfProfile(string(s.Profile)); err != nil {
				return nil, err
			}
		}
		own, err := s.newSupply(chosen)
		if err != nil || s.Lock != nil || !mirror.Fresh {
			return own, err
		}
		kept, err := s.keptLock(s.lockPath(cache, own.digest))
		if errors.Is(err, os.ErrNotExist) {
			return own, nil
		}
		return kept, err
	}
	path := s.lockPath(cache, published)
	kept, err := s.keptLock(path)
	if errors.Is(err, os.ErrNotExist) {
		return s.freshLock(ctx, cache, mirror, path)
	}
	return kept, err
}

// newSupply checks that a lock is for this system.
func (s System) newSupply(l *locks.Lock) (*supply, error) {
	digest, err := l.Digest()
	if err != nil {
		return nil, err
	}
	if l.Profile != string(s.Profile) || l.Suite != suite {
		return nil, fmt.Errorf("the lock is of profile %s on %s, the image of %s on %s", l.Profile, l.Suite, s.Profile, suite)
	}
	for _, p := range s.packages() {
		if !slices.Contains(l.Wanted, p) {
			return nil, fmt.Errorf("the lock was taken without the package %s: take it again", p)
		}
	}
	recipe, err := s.recipe(digest)
	return &supply{lock: l, digest: digest, recipe: recipe}, err
}

// keptLock reads a lock that was taken into the cache.
func (s System) keptLock(path string) (*supply, error) {
	data, err := os.ReadFile(path) //nolint:gosec // in our cache.
	if err != nil {
		return nil, err
	}
	l, err := locks.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	kept, err := s.newSupply(l)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	kept.note = "from the lock that was taken into the cache at " + l.Taken.Format(time.RFC3339)
	return kept, nil
}

// freshLock takes a lock into the cache.
func (s System) freshLock(ctx context.Context, cache string, mirror Mirror, path string) (*supply, error) {
	l, err := resolve(ctx, cache, mirror, s, time.Now())
	if err != nil {
		return nil, err
	}
	data, err := l.Marshal()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), writeWhole(path, data)); err != nil { //nolint:gosec // nothing in the cache is secret.
		return nil, fmt.Errorf("keeping the lock: %w", err)
	}
	fresh, err := s.newSupply(l)
	if err == nil {
		fresh.note = "a lock was taken into the cache"
	}
	return fresh, err
}

// fetch gets the packages of these uses, unless the cache holds all that is made of them.
func (s *supply) fetch(ctx context.Context, from source, system System, uses ...locks.Use) (err error) {
	var packages []locks.Package
	for _, use := range uses {
		for _, p := range s.lock.Of(use) {
			made := unpackedPath(from.cache, p)
			if use == locks.Install || use == locks.Unpack {
				made = filepath.Join(system.basePath(from.cache, s.recipe), packageList)
			}
			if _, err := os.Stat(made); errors.Is(err, os.ErrNotExist) {
				packages = append(packages, p)
			} else if err != nil {
				return err
			}
		}
	}
	if len(packages) == 0 {
		return nil
	}
	s.files, err = from.packages(ctx, s.lock, packages)
	return err
}

// unpacked gives the folder with the files of the one package of a use.
func (s *supply) unpacked(ctx context.Context, cache string, use locks.Use) (string, error) {
	p, err := s.lock.Only(use)
	if err != nil {
		return "", err
	}
	return unpack(ctx, cache, s.files, p)
}
