// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/kettle/attest/image/locks"
)

// kernelPackage always depends on the newest build of this kernel line. Older lines of the same release lack the
// guest drivers of the hardware (SEV_GUEST, TDX_GUEST_DRIVER, TSM_REPORTS).
const kernelPackage = "linux-image-6.12-cloud-amd64"

// kernelName matches the package that holds a kernel, signed, and captures its version.
var kernelName = regexp.MustCompile(`^\s*Depends: linux-image-(6\.12\.[0-9]+\+deb[0-9]+(?:\.[0-9]+)?-cloud-amd64)$`)

// Kernel is an unpacked Debian kernel.
type Kernel struct {
	Version string // as in /lib/modules
	Image   string // file, a bzImage
	Modules string // folder with the modules of this version
}

// CachedKernel gives the kernel that [FetchKernel], or a build, has put into the cache last, or an error that matches
// [os.ErrNotExist].
func CachedKernel(cache string) (*Kernel, error) {
	folder, err := filepath.EvalSymlinks(filepath.Join(cache, "kernel"))
	if err != nil {
		return nil, fmt.Errorf("looking for a kernel in the cache: %w", err)
	}
	return kernelIn(folder)
}

func kernelIn(folder string) (*Kernel, error) {
	images, err := filepath.Glob(filepath.Join(folder, "boot", "vmlinuz-*"))
	if err != nil {
		return nil, fmt.Errorf("looking for a kernel in the cache: %w", err)
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("looking for a kernel in the cache %s: %w", folder, os.ErrNotExist)
	}
	version := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	k := &Kernel{Version: version, Image: images[0], Modules: filepath.Join(folder, "lib", "modules", version)}
	if _, err := os.Stat(k.Modules); err != nil {
		return nil, fmt.Errorf("looking for a kernel in the cache: %w", err)
	}
	return k, nil
}

// FetchKernel fetches and unpacks the kernel of the published lock, unless the cache has it.
func FetchKernel(ctx context.Context, cache string, mirror Mirror) (kernel *Kernel, err error) {
	return FetchKernelOf(ctx, cache, mirror, Watch{}, System{Profile: Strict})
}

// FetchKernelOf is [FetchKernel] for the lock of a system, of which it makes nothing else.
func FetchKernelOf(ctx context.Context, cache string, mirror Mirror, watch Watch, system System) (kernel *Kernel, err error) {
	unlock, err := lock(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("fetching the kernel: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	progress, begin := newReporter(watch), time.Now()
	b, err := system.plan(ctx, cache, mirror, progress, locks.Kernel)
	if err != nil {
		return nil, fmt.Errorf("fetching the kernel: %w", err)
	}
	kernel, cached, err := unpackKernel(ctx, cache, b.supply)
	return kernel, progress.done(Step{Name: "kernel", Took: time.Since(begin), Cached: cached}, err)
}

// unpackKernel unpacks the kernel of a lock and makes it the one that [CachedKernel] gives.
func unpackKernel(ctx context.Context, cache string, s *supply) (kernel *Kernel, cached bool, err error) {
	p, err := s.lock.Only(locks.Kernel)
	if err != nil {
		return nil, false, fmt.Errorf("unpacking the kernel: %w", err)
	}
	_, missing := os.Stat(unpackedPath(cache, p))
	folder, err := unpack(ctx, cache, s.files, p)
	if err != nil {
		return nil, false, err
	}
	if kernel, err = kernelIn(folder); err != nil {
		return nil, false, err
	}
	return kernel, missing == nil, pointTo(filepath.Join(cache, "kernel"), filepath.Base(folder))
}

// pointTo makes name a link to a folder beside it, in one step.
func pointTo(name, folder string) error {
	if have, err := os.Readlink(name); err == nil && have == folder {
		return nil
	}
	if info, err := os.Lstat(name); err == nil && info.IsDir() { // what an earlier version of this program left
		if err := os.RemoveAll(name); err != nil {
			return fmt.Errorf("keeping the kernel: %w", err)
		}
	}
	next := name + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keeping the kernel: %w", err)
	}
	if err := errors.Join(os.Symlink(folder, next), os.Rename(next, name)); err != nil {
		return fmt.Errorf("keeping the kernel: %w", err)
	}
	return nil
}
