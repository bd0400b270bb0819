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

// CachedKernel gives the kernel that [FetchKernel] has put into the cache before, or an error that matches
// [os.ErrNotExist].
func CachedKernel(cache string) (*Kernel, error) {
	folder := filepath.Join(cache, "kernel")
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

// FetchKernel downloads and unpacks the newest kernel, unless the cache has one.
func FetchKernel(ctx context.Context, cache string, mirror Mirror) (kernel *Kernel, err error) {
	unlock, err := lock(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("fetching the kernel: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return fetchKernel(ctx, cache, mirror)
}

func fetchKernel(ctx context.Context, cache string, mirror Mirror) (kernel *Kernel, err error) {
	kernel, err = CachedKernel(cache)
	if !errors.Is(err, os.ErrNotExist) {
		return kernel, err
	}
	work, err := os.MkdirTemp(cache, "kernel-work-")
	if err != nil {
		return nil, fmt.Errorf("fetching the kernel: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := downloadKernel(ctx, work, mirror); err != nil {
		return nil, fmt.Errorf("fetching the kernel: %w", err)
	}
	if err := os.Rename(filepath.Join(work, "tree"), filepath.Join(cache, "kernel")); err != nil {
		return nil, fmt.Errorf("fetching the kernel: %w", err)
	}
	return CachedKernel(cache)
}

func downloadKernel(ctx context.Context, work string, mirror Mirror) error {
	env, err := privateApt(ctx, filepath.Join(work, "apt"), mirror)
	if err != nil {
		return err
	}
	if _, err := run(ctx, tool{name: "apt-get", args: []string{"-q", "update"}, env: env}); err != nil {
		return err
	}
	depends, err := run(ctx, tool{name: "apt-cache", args: []string{"depends", kernelPackage}, env: env})
	if err != nil {
		return err
	}
	version := ""
	for line := range strings.Lines(string(depends)) {
		if m := kernelName.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			version = m[1]
		}
	}
	if version == "" {
		return fmt.Errorf("%s depends on no kernel that this builder knows", kernelPackage)
	}
	if _, err := run(ctx, tool{name: "apt-get", args: []string{"-q", "download", "linux-image-" + version}, dir: work, env: env}); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(work, "linux-image-*.deb"))
	if err != nil || len(packages) != 1 {
		return errors.Join(fmt.Errorf("want one downloaded kernel package, got %d", len(packages)), err)
	}
	_, err = run(ctx, tool{name: "dpkg-deb", args: []string{"-x", packages[0], filepath.Join(work, "tree")}})
	return err
}
