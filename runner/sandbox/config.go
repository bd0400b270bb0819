// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Profile is how much of the kernel a job may use.
type Profile string

// The profiles. Strict has no mounts, no namespaces of its own, no ptrace and no kernel keyrings; sudo and apt work.
// Docker has all of them, with every capability inside the sandbox's user namespace and a cgroup that the job may divide,
// so that container engines work, with root and without.
const (
	Strict Profile = "strict"
	Docker Profile = "docker"
)

// Init is the sandbox's first process.
type Init string

// The first processes. Small reaps orphans and does nothing else. Systemd is the image's own, for jobs that call
// systemctl; it takes the docker profile.
const (
	Small   Init = "small"
	Systemd Init = "systemd"
)

// Config says what to run and where. Every field but Authorities and Logger is required.
type Config struct {
	ID          string     // of the job: lower-case letters, digits and dashes, at most 64
	Runtimes    []string   // absolute paths of crun and runc, the better one first
	Image       string     // absolute path of the image's root directory; the file system must support id-mapped mounts
	Runner      string     // the runner program's folder inside the image
	Init        Init       //
	Scratch     string     // absolute path of an existing folder of its own: the job's disk; see [Sandbox.Volumes]
	State       string     // absolute path of an existing folder of its own, in memory and off the job's disk
	Door        string     // absolute path of kettled's directory; the sandbox sees it read-only as /run/kettle
	CgroupRoot  string     // where cgroup v2 is mounted
	Profile     Profile    //
	Limits      Limits     //
	Resolver    netip.Addr // the sandbox's name server
	Authorities []byte     // PEM, added to the certificate authorities that programs inside trust
	Output      io.Writer  // takes what the runner program writes to stdout and stderr; bounded by the caller
	Logger      *slog.Logger
}

var (
	idPattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	pathPattern = regexp.MustCompile(`^/[A-Za-z0-9/._-]*$`) // nothing that mount options could read as their own
)

// Validate names everything that is missing or wrong.
func (c Config) Validate() error {
	errs := []error{c.Profile.validate(), c.Init.validate(c.Profile), c.Limits.validate(), passable("scratch", c.Scratch), passable("state", c.State)}
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(idPattern.MatchString(c.ID), "id %q: want 1 to 64 lower-case letters, digits and dashes", c.ID)
	paths := map[string]string{
		"image": c.Image, "runner": c.Runner, "scratch": c.Scratch, "state": c.State, "door": c.Door, "cgroup root": c.CgroupRoot,
	}
	for i, p := range c.Runtimes {
		paths[fmt.Sprintf("runtime %d", i+1)] = p
	}
	for name, p := range paths {
		check(pathPattern.MatchString(p) && filepath.Clean(p) == p, "%s %q: want an absolute, clean path", name, p)
	}
	check(len(c.Runtimes) > 0, "runtimes: want at least one")
	check(c.State == "" || !strings.HasPrefix(c.State+"/", c.Scratch+"/"), "state %q: want a folder outside of scratch", c.State)
	check(c.Resolver.Is4(), "resolver: want an IPv4 address")
	check(c.Output != nil, "output: want a writer")
	return errors.Join(errs...)
}

func (p Profile) validate() error {
	if p != Strict && p != Docker {
		return fmt.Errorf("profile %q: want %s or %s", string(p), Strict, Docker)
	}
	return nil
}

func (i Init) validate(p Profile) error {
	switch {
	case i == Systemd && p == Strict:
		return fmt.Errorf("init %s: it mounts and makes namespaces, which profile %s denies; use profile %s", i, p, Docker)
	case i != Small && i != Systemd:
		return fmt.Errorf("init %q: want %s or %s", string(i), Small, Systemd)
	}
	return nil
}

// passable demands that every folder above this one can be passed by everybody; see layout.
func passable(name, folder string) error {
	if !filepath.IsAbs(folder) {
		return nil // reported by Validate
	}
	for dir := filepath.Dir(folder); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s: %s has mode %#o; the sandbox must be able to pass through it", name, dir, info.Mode().Perm())
		}
		if dir == "/" {
			return nil
		}
	}
}

func (c Config) name() string { return "job-" + c.ID }

// fixedEnvironment is what the runner program always sees.
var fixedEnvironment = [...]string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=" + Home,
	"USER=runner",
	"LOGNAME=runner",
	"LANG=C.UTF-8",
	"ACTIONS_RUNNER_HOOK_JOB_STARTED=" + HookPath,
	"ACTIONS_RUNNER_ALLOW_ARTIFACTS_FILE=true",
}

// environment adds to the fixed environment and refuses to change it.
func environment(more []string) ([]string, error) {
	seen := map[string]bool{}
	full := append(fixedEnvironment[:], more...)
	for _, v := range full {
		name, value, ok := strings.Cut(v, "=")
		if !ok || !variablePattern.MatchString(name) || strings.ContainsRune(value, 0) {
			return nil, errors.New("making the sandbox's environment: a variable without a proper name or with a NUL byte")
		}
		if seen[name] {
			return nil, fmt.Errorf("making the sandbox's environment: %s twice", name)
		}
		seen[name] = true
	}
	return full, nil
}

// variablePattern matches the names that every first process hands on.
var variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
