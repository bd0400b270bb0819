// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner/program"
)

// Files of the measured root that say what it is made of.
const (
	packagesFile  = "/usr/share/kettle-packages"    // "name version architecture" a line
	goVersionFile = "/usr/local/go/VERSION"         // first line; of the toolchain that jobs find, if any
	runnerFile    = image.ToolsDir + "/runner.json" // {"version":"2.336.0","released":"2026-08-17"}
)

// software tells what this builder is made of.
type software struct {
	versions map[string]string
	packages binding.Digest // of the list of packages
	runner   program.Release
}

// readSoftware reads the versions out of the measured root, and asks the kernel for its own.
func readSoftware() (*software, error) {
	list, err := os.ReadFile(packagesFile)
	if err != nil {
		return nil, fmt.Errorf("reading the image's packages: %w", err)
	}
	s := &software{packages: binding.Sum(list), versions: map[string]string{"kettled": revision()}}
	if s.versions["crun"], err = packageVersion(list, "crun"); err != nil {
		return nil, err
	}
	if s.runner, err = runnerRelease(); err != nil {
		return nil, err
	}
	s.versions["actions-runner"] = s.runner.Version
	toolchain, err := os.ReadFile(goVersionFile)
	if err == nil {
		s.versions["go"], _, _ = strings.Cut(string(toolchain), "\n")
	} else if !errors.Is(err, os.ErrNotExist) { // an image has one for jobs, or none
		return nil, fmt.Errorf("reading the toolchain's version: %w", err)
	}
	var kernel unix.Utsname
	if err := unix.Uname(&kernel); err != nil {
		return nil, fmt.Errorf("asking the kernel's version: %w", err)
	}
	s.versions["linux"] = string(bytes.TrimRight(kernel.Release[:], "\x00"))
	return s, nil
}

func packageVersion(list []byte, name string) (string, error) {
	lines := bufio.NewScanner(bytes.NewReader(list))
	for lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == name {
			return f[1], nil
		}
	}
	return "", errors.New("the image's packages do not include " + name)
}

func runnerRelease() (program.Release, error) {
	text, err := os.ReadFile(runnerFile)
	if err != nil {
		return program.Release{}, fmt.Errorf("reading the runner program's version: %w", err)
	}
	return program.ParseRelease(text)
}

// revision is the commit that kettled was built from, as the Go toolchain recorded it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
