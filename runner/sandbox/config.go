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
// Docker, in which container engines run, is a word that the configuration knows and this version refuses.
const (
	Strict Profile = "strict"
	Docker Profile = "docker"
)

// Limits bounds what the sandbox may use. A zero field is refused.
type Limits struct {
	Memory    int64 // bytes, files in memory included
	Processes int64 // processes and threads
	Files     uint64
}

// Config says what to run and where. Every field but Logger is required.
type Config struct {
	ID          string     // of the job: lower-case letters, digits and dashes, at most 64
	Runtime     string     // absolute path of crun
	Image       string     // absolute path of the image's root directory; the file system must support id-mapped mounts
	Runner      string     // the runner program's folder inside the image
	Init        []string   // inside the image: a reaping PID 1 and its arguments, which executes what follows
	Scratch     string     // absolute path of an existing, empty folder in memory that the sandbox owns
	Door        string     // absolute path of kettled's directory; the sandbox sees it read-only as /run/kettle
	CgroupRoot  string     // where cgroup v2 is mounted
	Profile     Profile    // Strict
	Limits      Limits     //
	Gateway     netip.Addr // where the sandbox's /etc/hosts sends Hosts
	Hosts       []string   // the only names that the sandbox can resolve
	Authorities []byte     // PEM, added to the certificate authorities that programs inside trust; may be empty
	Output      io.Writer  // takes what the sandbox writes to stdout and stderr; bounded by the caller
	Logger      *slog.Logger
}

var (
	idPattern   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	pathPattern = regexp.MustCompile(`^/[A-Za-z0-9/._-]*$`) // nothing that mount options could read as their own
	hostPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
)

// Validate names everything that is missing or wrong.
func (c Config) Validate() error {
	errs := []error{c.Profile.validate(), c.Limits.validate(), c.ancestors()}
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(idPattern.MatchString(c.ID), "id %q: want 1 to 64 lower-case letters, digits and dashes", c.ID)
	for name, p := range map[string]string{
		"runtime": c.Runtime, "image": c.Image, "runner": c.Runner, "scratch": c.Scratch, "door": c.Door, "cgroup root": c.CgroupRoot,
	} {
		check(pathPattern.MatchString(p) && filepath.Clean(p) == p, "%s %q: want an absolute, clean path", name, p)
	}
	check(len(c.Init) > 0 && filepath.IsAbs(c.Init[0]), "init %q: want an absolute path", c.Init)
	check(c.Gateway.Is4(), "gateway: want an IPv4 address")
	check(len(c.Hosts) > 0, "hosts: want at least one")
	for _, h := range c.Hosts {
		check(hostPattern.MatchString(h) && len(h) <= 253, "host %q: want a lower-case DNS name", h)
	}
	check(c.Output != nil, "output: want a writer")
	return errors.Join(errs...)
}

func (p Profile) validate() error {
	switch p {
	case Strict:
		return nil
	case Docker:
		return errors.New("profile docker: not available in this version; use strict")
	}
	return fmt.Errorf("profile %q: want strict", string(p))
}

func (l Limits) validate() error {
	const leastMemory, leastProcesses, leastFiles = 64 << 20, 16, 256
	if l.Memory < leastMemory || l.Processes < leastProcesses || l.Files < leastFiles {
		return fmt.Errorf("limits: want at least %d bytes of memory, %d processes and %d files, got %d, %d and %d",
			leastMemory, leastProcesses, leastFiles, l.Memory, l.Processes, l.Files)
	}
	return nil
}

// ancestors demands that every folder above the scratch folder can be passed by everybody; see layout.
func (c Config) ancestors() error {
	if !filepath.IsAbs(c.Scratch) {
		return nil // reported by Validate
	}
	for dir := filepath.Dir(c.Scratch); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("scratch: %w", err)
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("scratch: %s has mode %#o; the sandbox must be able to pass through it", dir, info.Mode().Perm())
		}
		if dir == "/" {
			return nil
		}
	}
}

func (c Config) name() string       { return "job-" + c.ID }
func (c Config) cgroupPath() string { return "/kettle/" + c.name() }

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
		if !ok || name == "" || strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("making the sandbox's environment: a variable without a name or with a NUL byte")
		}
		if seen[name] {
			return nil, fmt.Errorf("making the sandbox's environment: %s twice", name)
		}
		seen[name] = true
	}
	return full, nil
}
