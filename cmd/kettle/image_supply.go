// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/locks"
)

// supplyFlags say where a build takes Debian's packages from.
type supplyFlags struct {
	cache, lock, packages string
}

func (f *supplyFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.cache, "cache", "", "folder for what can be used again (default KETTLE_CACHE, else the user's cache folder)")
	flags.StringVar(&f.lock, "lock", "", "lock of Debian's packages (default: the profile's published one)")
	flags.StringVar(&f.packages, "packages", "", "locked, or fresh: where the archive no longer has a locked package, take newer ones (default KETTLE_PACKAGES, else locked)")
	_ = cmd.RegisterFlagCompletionFunc("packages", cobra.FixedCompletions([]string{"locked", "fresh"}, cobra.ShellCompDirectiveNoFileComp))
}

// supply reads the flags. profile is the image's.
func (f *supplyFlags) supply(ctx context.Context, cache *string, mirror *build.Mirror, lock **locks.Lock, profile string) (err error) {
	choice := cmp.Or(f.packages, os.Getenv("KETTLE_PACKAGES"), "locked")
	if choice != "locked" && choice != "fresh" {
		return cli.Usagef("--packages %.20q: want locked or fresh", choice)
	}
	if f.lock != "" {
		data, err := readBounded(f.lock, 4<<20)
		if err != nil {
			return &cli.UsageError{Err: err}
		}
		if *lock, err = locks.Parse(data); err != nil {
			return cli.Usagef("--lock: %s: %w", f.lock, err)
		}
		if (*lock).Profile != profile {
			return cli.Usagef("--lock: %s is of the profile %s, the image of %s", f.lock, (*lock).Profile, profile)
		}
	}
	*cache = f.cache
	if *cache == "" {
		if *cache, err = build.CacheDir(os.Getenv); err != nil {
			return cli.Usagef("--cache: %w", err)
		}
	}
	*mirror = build.FindMirror(ctx, os.Getenv)
	mirror.Fresh = choice == "fresh"
	return nil
}

func (a *app) imageFetchCommand() *cobra.Command {
	var f supplyFlags
	var kernel bool
	var profile string
	cmd := &cobra.Command{
		Use:   "fetch [--profile strict|docker] [--kernel]",
		Short: "Fill the cache with what every image needs",
		Long: `fetch puts into the cache what does not depend on a configuration: the kernel, and the Debian base system of a profile, or of
each. A build that follows starts at once. --kernel leaves the base systems out, which take root.`,
		Example: "  kettle image fetch --profile strict\n  kettle image fetch --kernel",
		Args:    cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error {
			return a.imageFetch(cmd.Context(), f, profile, kernel)
		}),
	}
	cmd.Flags().StringVar(&profile, "profile", "", "strict or docker (default: both)")
	cmd.Flags().BoolVar(&kernel, "kernel", false, "only the kernel")
	f.define(cmd)
	return cmd
}

func (a *app) imageFetch(ctx context.Context, f supplyFlags, profile string, kernel bool) error {
	profiles := []build.Profile{build.Strict, build.Docker}
	if profile != "" {
		profiles = []build.Profile{build.Profile(profile)}
	}
	if err := profiles[0].Validate(); err != nil {
		return cli.Usagef("--%w", err)
	}
	if f.lock != "" && profile == "" {
		return cli.Usagef("--lock needs --profile")
	}
	var cache string
	var mirror build.Mirror
	var lock *locks.Lock
	if err := f.supply(ctx, &cache, &mirror, &lock, profile); err != nil {
		return err
	}
	show := newStepLog(a.io)
	defer show.end()
	var systems []build.System
	for _, p := range profiles {
		systems = append(systems, build.System{Profile: p, Lock: lock})
	}
	if kernel {
		_, err := build.FetchKernelOf(ctx, cache, mirror, show.watch(), systems[0])
		return buildFailure(err)
	}
	return buildFailure(build.Prefetch(ctx, cache, mirror, show.watch(), systems...))
}

func (a *app) imageLockCommand() *cobra.Command {
	var profile, output string
	var packages []string
	cmd := &cobra.Command{
		Use:   "lock --profile strict|docker --output FILE [--package NAME]...",
		Short: "Take a lock of Debian's packages",
		Long: `lock asks Debian's archive which packages an image of the profile is made of today, and writes their names, versions, digests
and places into a file, one a line. apt decides, and checks the signatures of the archive against Debian's keys; nothing of this
machine's packages counts. Nothing is installed, and it takes no root.

The file is what a build starts from (kettle image build --lock): keep it under version control and look at what changes. The
archive forgets old versions; Debian's history of it does not, and a build asks there for what the archive no longer has.`,
		Example: "  kettle image lock --profile docker --output docker.lock\n  kettle image lock --profile strict --package build-essential --output strict.lock",
		Args:    cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error {
			return a.imageLock(cmd.Context(), build.System{Profile: build.Profile(profile), Packages: packages}, output)
		}),
	}
	cmd.Flags().StringVar(&profile, "profile", "", "strict or docker (required)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write (required)")
	cmd.Flags().StringSliceVar(&packages, "package", nil, "one more of Debian's packages; again, or with commas, for more")
	return cmd
}

func (a *app) imageLock(ctx context.Context, system build.System, output string) error {
	if err := system.Profile.Validate(); err != nil {
		return cli.Usagef("--%w", err)
	}
	if output == "" {
		return cli.Usagef("--output is required")
	}
	for _, p := range system.Packages {
		if !locks.IsName(p) {
			return cli.Usagef("--package %.80q: it is no name of a package", p)
		}
	}
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return &cli.UsageError{Err: err}
	}
	progress := a.io.Progress()
	progress.Say("Asking Debian's archive")
	lock, err := build.Resolve(ctx, cache, build.FindMirror(ctx, os.Getenv), system, time.Now())
	progress.Done()
	if err != nil {
		return buildFailure(err)
	}
	data, err := lock.Marshal()
	if err != nil {
		return err //nolint:wrapcheck // it says what was written.
	}
	if err := os.WriteFile(output, data, 0o644); err != nil { //nolint:gosec // a lock is public.
		return fmt.Errorf("writing the lock: %w", err)
	}
	digest, err := lock.Digest()
	if err != nil {
		return err //nolint:wrapcheck // likewise.
	}
	_, err = fmt.Fprintf(a.io.Out, "%s  %d packages  %s\n", strings.TrimSpace(output), len(lock.Packages), digest)
	return err //nolint:wrapcheck // of the output stream.
}
