// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// What an image takes beside the packages of its root file system.
var beside = []struct {
	name string
	use  locks.Use
}{
	{"xfsprogs", locks.Unpack}, {"systemd-boot-efi", locks.Stub}, {"erofs-utils", locks.Tool},
}

// minimal is what apt calls the packages of Debian's minimal system, of which mmdebstrap's variant of that name is made.
var minimal = []string{"?essential", "?priority(required)", "apt"}

// Resolve asks the archive for a lock of a system: apt decides which packages and versions, and checks the signatures of
// the lists in which their digests stand. Nothing of this machine's packages counts.
func Resolve(ctx context.Context, cache string, mirror Mirror, system System, now time.Time) (l *locks.Lock, err error) {
	if err := system.Profile.Validate(); err != nil {
		return nil, fmt.Errorf("taking a lock: %w", err)
	}
	if mirror.Archive == "" || mirror.Security == "" {
		return nil, errors.New("taking a lock: no Debian archive is known here")
	}
	unlock, err := lock(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("taking a lock: %w", err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return resolve(ctx, cache, mirror, system, now)
}

// resolve is [Resolve] for those who hold the cache.
func resolve(ctx context.Context, cache string, mirror Mirror, system System, now time.Time) (l *locks.Lock, err error) {
	for _, p := range system.packages() {
		if !locks.IsName(p) {
			return nil, fmt.Errorf("taking a lock: %.80q is no name of a package", p)
		}
	}
	work, err := os.MkdirTemp(cache, "apt-work-")
	if err != nil {
		return nil, fmt.Errorf("taking a lock: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	env, err := privateApt(ctx, work, mirror)
	if err != nil {
		return nil, fmt.Errorf("taking a lock: %w", err)
	}
	if _, err := run(ctx, tool{name: "apt-get", args: []string{"-q", "--error-on=any", "update"}, env: env}); err != nil {
		return nil, &RemoteError{fmt.Errorf("taking a lock: %w", err)}
	}
	l = &locks.Lock{Profile: string(system.Profile), Suite: suite, Taken: now.UTC().Truncate(time.Second), Wanted: system.packages()}
	if err := ask(ctx, env, mirror, l); err != nil {
		return nil, fmt.Errorf("taking a lock: %w", err)
	}
	l.Sort()
	return l, l.Validate()
}

// ask has apt name the packages of every use.
func ask(ctx context.Context, env []string, mirror Mirror, l *locks.Lock) error {
	query := func(use locks.Use, args ...string) error {
		args = append([]string{"-q", "--print-uris", "--no-install-recommends", "-o", "Acquire::ForceHash=SHA256", "-y"}, args...)
		said, err := run(ctx, tool{name: "apt-get", args: args, env: env})
		if err != nil {
			return err
		}
		found, err := printedPackages(string(said), mirror, use)
		l.Packages = append(l.Packages, found...)
		return err
	}
	if err := query(locks.Install, append(append([]string{"install"}, minimal...), l.Wanted...)...); err != nil {
		return err
	}
	for _, b := range beside {
		if err := query(b.use, "download", b.name); err != nil {
			return err
		}
	}
	kernel, err := newestKernel(ctx, env)
	if err != nil {
		return err
	}
	return query(locks.Kernel, "download", kernel)
}

// printed matches what apt-get --print-uris says of one package: its address, its file name and its digest.
var printed = regexp.MustCompile(`^'([^']+)' ([^_ ]+)_([^_ ]+)_([^_ ]+)\.deb ([0-9]+) SHA256:([0-9a-f]{64})$`)

// printedPackages reads the lines about packages; apt says other things between them.
func printedPackages(said string, mirror Mirror, use locks.Use) ([]locks.Package, error) {
	var packages []locks.Package
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "'") {
			continue
		}
		m := printed.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("apt says of a package what this builder cannot read: %q", line)
		}
		p := locks.Package{Name: m[2], Architecture: m[4], Use: use}
		if err := p.SHA256.UnmarshalText([]byte(m[6])); err != nil {
			return nil, err
		}
		var err error
		if p.Version, err = url.PathUnescape(m[3]); err != nil {
			return nil, fmt.Errorf("the version of %s: %w", p.Name, err)
		}
		if p.Size, err = strconv.ParseInt(m[5], 10, 64); err != nil {
			return nil, fmt.Errorf("the size of %s: %w", p.Name, err)
		}
		if p.Archive, p.Path, err = mirror.locate(m[1]); err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	return packages, nil
}

// locate says which archive an address is of, and where in it.
func (m Mirror) locate(address string) (locks.Archive, string, error) {
	archive, path := locks.Main, ""
	if rest, ok := strings.CutPrefix(address, m.Security+"/"); ok { // first: its address may begin with the other's
		archive, path = locks.Security, rest
	} else if path, ok = strings.CutPrefix(address, m.Archive+"/"); !ok {
		return "", "", fmt.Errorf("apt takes a package from elsewhere: %q", address)
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return "", "", fmt.Errorf("the address of a package: %w", err)
	}
	return archive, path, nil
}

// newestKernel gives the name of the package that holds the newest kernel of the line.
func newestKernel(ctx context.Context, env []string) (string, error) {
	depends, err := run(ctx, tool{name: "apt-cache", args: []string{"depends", kernelPackage}, env: env})
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(depends)) {
		if m := kernelName.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil {
			return "linux-image-" + m[1], nil
		}
	}
	return "", fmt.Errorf("%s depends on no kernel that this builder knows", kernelPackage)
}

// lockPath is where the cache keeps a lock that was taken because nobody brought one, for a system and the lock that it
// replaces, if any.
func (s System) lockPath(cache string, replaced image.SHA256) string {
	key := sha256sum([]byte(strings.Join(s.packages(), " ") + "\n" + replaced.String()))
	return filepath.Join(cache, "locks", string(s.Profile)+"-"+key.String()[:16]+".lock")
}
