// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// Runner is the runner program that goes into an image.
type Runner struct {
	Folder  string // with bin/Runner.Listener
	Release string // file that names the version and the day of its release, for kettled
	Version string
	// Archive is the digest of the release's archive, by which the runner is known. It is zero where Folder comes from no
	// archive: then the digest of its content takes its place.
	Archive image.SHA256
}

// listener is the program that every runner has.
const listener = "bin/Runner.Listener"

// digest is what the manifest says of the runner.
func (r Runner) digest(ctx context.Context) (image.SHA256, error) {
	if r.Archive != (image.SHA256{}) {
		return r.Archive, nil
	}
	return Tree{Source: r.Folder, Target: image.ToolsDir + "/runner"}.digest(ctx)
}

// Bounds of a runner's archive, about ten times those of the releases so far.
const (
	maxRunnerFiles = 200_000
	maxRunnerBytes = 8 << 30
)

// FetchRunner fetches a release of the runner program into the cache and unpacks it, unless it is there. moving, if not
// nil, hears how many bytes are there.
func FetchRunner(ctx context.Context, cache string, r *locks.Runner, moving func(done, all int64)) (out Runner, err error) {
	if err := r.Validate(); err != nil {
		return Runner{}, fmt.Errorf("fetching the runner: %w", err)
	}
	unlock, err := lock(ctx, cache)
	if err != nil {
		return Runner{}, fmt.Errorf("fetching the runner: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	folder := filepath.Join(cache, "runner-"+r.SHA256.String()[:16])
	err = touch(folder)
	if errors.Is(err, os.ErrNotExist) {
		err = fetchRunner(ctx, cache, r, folder, moving)
	}
	if err != nil {
		return Runner{}, fmt.Errorf("fetching the runner: %w", err)
	}
	release, err := r.Release()
	if err != nil {
		return Runner{}, fmt.Errorf("fetching the runner: %w", err)
	}
	out = Runner{Folder: filepath.Join(folder, "runner"), Release: filepath.Join(folder, "runner.json"), Version: r.Version, Archive: r.SHA256}
	if err := writeWhole(out.Release, release); err != nil {
		return Runner{}, fmt.Errorf("fetching the runner: %w", err)
	}
	return out, nil
}

func fetchRunner(ctx context.Context, cache string, r *locks.Runner, folder string, moving func(done, all int64)) (err error) {
	f, err := newFetcher(ctx, filepath.Join(cache, packagesDir), moving)
	if err != nil {
		return err
	}
	download := Download{What: "the runner " + r.Version, Addresses: []string{r.URL}, SHA256: r.SHA256, Size: r.Size}
	if err := f.fetch(ctx, []Download{download}); err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, "runner-work-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	target := filepath.Join(work, "release", "runner")
	if err := os.MkdirAll(target, 0o755); err != nil { //nolint:gosec // a public program.
		return err
	}
	if err := unpackRunner(ctx, f.path(r.SHA256), target); err != nil {
		return err
	}
	return os.Rename(filepath.Dir(target), folder)
}

// unpackRunner unpacks an archive of files, folders and symbolic links, which cannot lead out of the folder.
func unpackRunner(ctx context.Context, archive, folder string) (err error) {
	in, err := os.Open(archive) //nolint:gosec // a file of the cache.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	unzipped, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("unpacking the runner: %w", err)
	}
	files := tar.NewReader(io.LimitReader(unzipped, maxRunnerBytes))
	for range maxRunnerFiles {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			_, err := root.Stat(listener)
			return err
		}
		if err := errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("unpacking the runner: %w", err)
		}
		if err := unpackOne(root, header, files); err != nil {
			return fmt.Errorf("unpacking the runner: %q: %w", header.Name, err)
		}
	}
	return fmt.Errorf("unpacking the runner: more than %d files", maxRunnerFiles)
}

func unpackOne(root *os.Root, header *tar.Header, content io.Reader) error {
	name := path.Clean(strings.TrimPrefix(header.Name, "./"))
	if dir := path.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
		file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644|os.FileMode(header.Mode&0o111))
		if err != nil {
			return err
		}
		_, err = io.Copy(file, content)
		return errors.Join(err, file.Close())
	case tar.TypeSymlink:
		return root.Symlink(header.Linkname, name)
	}
	return fmt.Errorf("neither folder, file nor symbolic link, but %q", header.Typeflag)
}
