// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The runtimes that are known.
const (
	crunKind = "crun"
	runcKind = "runc"
)

// requirement is the oldest version of a runtime that makes the sandbox as it is specified, and what it must be built
// with to filter system calls and devices.
type requirement struct {
	major, minor int
	features     []string // words of what it says about itself
}

func requirements(kind string) requirement {
	if kind == crunKind {
		return requirement{1, 8, []string{"+SECCOMP", "+CAP", "+EBPF"}}
	}
	return requirement{1, 1, []string{"libseccomp:"}} // it filters devices in any case
}

// probeTime is how long a runtime may take to say its version.
const probeTime = 20 * time.Second

// probe asks the configured runtimes what they are and keeps those that can make the sandbox, in their order.
// [Sandbox.Load] takes the first one that makes it in fact.
func probe(ctx context.Context, c Config, log *slog.Logger) ([]ociRuntime, error) {
	var able []ociRuntime
	var errs []error
	for _, program := range c.Runtimes {
		r, err := ask(ctx, program)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", program, err))
			log.WarnContext(ctx, "runtime passed over", slog.String("program", program), slog.Any("why", err))
			continue
		}
		r.root, r.id = c.state(fmt.Sprintf("%s-%d", r.kind, len(able))), c.name()
		able = append(able, r)
	}
	if len(able) == 0 {
		return nil, fmt.Errorf("looking for a container runtime: %w", errors.Join(errs...))
	}
	return able, nil
}

func ask(ctx context.Context, program string) (ociRuntime, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ociRuntime{}, fmt.Errorf("asking for its version: %w", err)
	}
	r, err := parseVersion(string(out))
	r.program = program
	return r, err
}

// versionLine is what both runtimes begin with.
var versionLine = regexp.MustCompile(`^(crun|runc) version (([0-9]{1,4})\.([0-9]{1,4})[0-9A-Za-z.+~-]{0,64})\n`)

func parseVersion(text string) (ociRuntime, error) {
	m := versionLine.FindStringSubmatch(text)
	if m == nil {
		return ociRuntime{}, fmt.Errorf("it is neither %s nor %s: it says %.60q", crunKind, runcKind, text)
	}
	r := ociRuntime{kind: m[1], version: m[2]}
	need := requirements(r.kind)
	major, majorErr := strconv.Atoi(m[3])
	minor, minorErr := strconv.Atoi(m[4])
	if err := errors.Join(majorErr, minorErr); err != nil {
		return ociRuntime{}, err
	}
	if major < need.major || major == need.major && minor < need.minor {
		return ociRuntime{}, fmt.Errorf("it is %s, too old: want %d.%d", r, need.major, need.minor)
	}
	words := strings.Fields(text)
	for _, f := range need.features {
		if !slices.Contains(words, f) {
			return ociRuntime{}, fmt.Errorf("it is %s, built without %s", r, f)
		}
	}
	return r, nil
}
