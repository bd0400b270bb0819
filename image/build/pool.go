// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/image/locks"
)

// packagesDir is the folder of the cache that holds packages under the names of their digests.
const packagesDir = "packages"

// source is where packages come from, and where they are kept.
type source struct {
	cache  string
	mirror Mirror
	told   func(done, all int64) // how many bytes are there, or nil
}

// packages gets packages of a lock into the cache.
func (s source) packages(ctx context.Context, l *locks.Lock, packages []locks.Package) (*fetcher, error) {
	f, err := newFetcher(ctx, filepath.Join(s.cache, packagesDir), s.told)
	if err != nil {
		return nil, fmt.Errorf("fetching packages: %w", err)
	}
	var downloads []Download
	for _, p := range packages {
		downloads = append(downloads, Download{What: p.String(), Addresses: s.mirror.addresses(l.Taken, p), SHA256: p.SHA256, Size: p.Size})
	}
	if err := errors.Join(f.fetch(ctx, downloads), pruneUnused(s.cache, time.Now())); err != nil {
		return nil, fmt.Errorf("fetching packages: %w", err)
	}
	return f, nil
}

// addresses are where a package may be: the archive, which forgets old versions, and its history, which does not. The
// history answers with the state before a time; a day after the lock was taken it has certainly seen what the lock names.
func (m Mirror) addresses(taken time.Time, p locks.Package) []string {
	base := m.Archive
	if p.Archive == locks.Security {
		base = m.Security
	}
	all := []string{base + "/" + p.Path}
	if m.Snapshot != "" {
		at := taken.Add(24 * time.Hour).UTC().Format("20060102T150405Z")
		all = append(all, m.Snapshot+"/"+string(p.Archive)+"/"+at+"/"+p.Path)
	}
	return all
}

// layOut makes a package archive out of fetched packages, in the layout of Debian's own: mmdebstrap asks for packages by
// the name of the suite. It carries no signature, since each package in it was checked against the lock.
func layOut(ctx context.Context, folder string, f *fetcher, packages []locks.Package) error {
	lists := filepath.Join(folder, "dists", suite, "main", "binary-amd64")
	if err := errors.Join(os.MkdirAll(lists, 0o755), os.MkdirAll(filepath.Join(folder, "pool"), 0o755)); err != nil { //nolint:gosec // apt reads them.
		return fmt.Errorf("laying out packages: %w", err)
	}
	stanzas := make([][]byte, len(packages))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connections)
	for i, p := range packages {
		group.Go(func() (err error) {
			name := path.Join("pool", p.Name+"_"+p.Architecture+".deb")
			if err := os.Link(f.path(p.SHA256), filepath.Join(folder, name)); err != nil {
				return fmt.Errorf("laying out packages: %w", err)
			}
			fields, err := run(ctx, tool{name: "dpkg-deb", args: []string{"--field", filepath.Join(folder, name)}})
			stanzas[i] = fmt.Appendf(fields, "Filename: %s\nSize: %d\nSHA256: %s\n\n", name, p.Size, p.SHA256)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	index := bytes.Join(stanzas, nil)
	release := fmt.Sprintf("Origin: Debian\nLabel: Debian\nSuite: %s\nCodename: %s\nArchitectures: amd64\nComponents: main\n"+
		"Date: Wed, 01 Jan 2025 00:00:00 UTC\nSHA256:\n %x %d main/binary-amd64/Packages\n", suite, suite, sha256.Sum256(index), len(index))
	err := errors.Join(
		os.WriteFile(filepath.Join(lists, "Packages"), index, 0o644),                           //nolint:gosec // apt reads it.
		os.WriteFile(filepath.Join(folder, "dists", suite, "Release"), []byte(release), 0o644)) //nolint:gosec // apt reads it.
	if err != nil {
		return fmt.Errorf("laying out packages: %w", err)
	}
	return nil
}

// unpack gives a folder of the cache that holds the files of one package.
func unpack(ctx context.Context, cache string, f *fetcher, p locks.Package) (folder string, err error) {
	folder = unpackedPath(cache, p)
	if err := touch(folder); err == nil || !errors.Is(err, os.ErrNotExist) {
		return folder, err
	}
	work, err := os.MkdirTemp(cache, "unpack-work-")
	if err != nil {
		return "", fmt.Errorf("unpacking %s: %w", p, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	tree := filepath.Join(work, "tree")
	if _, err := run(ctx, tool{name: "dpkg-deb", args: []string{"--extract", f.path(p.SHA256), tree}}); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", p, err)
	}
	if err := errors.Join(touch(tree), os.Rename(tree, folder)); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", p, err)
	}
	return folder, nil
}

// unpackedPath is where [unpack] puts a package's files.
func unpackedPath(cache string, p locks.Package) string {
	return filepath.Join(cache, "unpacked-"+p.Name+"-"+p.SHA256.String()[:16])
}
