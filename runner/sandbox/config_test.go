// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden specification anew; look at every changed line")

func valid(t *testing.T) Config {
	t.Helper()
	return Config{
		ID: "1", Runtime: "/usr/bin/crun", Image: "/", Runner: "/usr/lib/kettle/runner", Init: []string{"/usr/bin/catatonit", "--"},
		Scratch: "/scratch", Door: "/run/kettle", CgroupRoot: "/sys/fs/cgroup", Profile: Strict,
		Limits:  Limits{Memory: 1 << 30, Processes: 4096, Files: 65536},
		Gateway: netip.MustParseAddr("100.96.0.1"), Hosts: []string{"github.demo.test", "api.github.demo.test"}, Output: io.Discard,
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := valid(t).Validate(); err != nil {
		t.Fatal(err)
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no id":                {func(c *Config) { c.ID = "" }, "id"},
		"id that climbs":       {func(c *Config) { c.ID = "../x" }, "id"},
		"long id":              {func(c *Config) { c.ID = strings.Repeat("a", 65) }, "id"},
		"no runtime":           {func(c *Config) { c.Runtime = "" }, "runtime"},
		"relative image":       {func(c *Config) { c.Image = "image" }, "image"},
		"unclean runner":       {func(c *Config) { c.Runner = "/usr/../runner" }, "runner"},
		"no init":              {func(c *Config) { c.Init = nil }, "init"},
		"relative init":        {func(c *Config) { c.Init = []string{"init"} }, "init"},
		"option in scratch":    {func(c *Config) { c.Scratch = "/scratch,upperdir=/etc" }, "scratch"},
		"no scratch":           {func(c *Config) { c.Scratch = "" }, "scratch"},
		"closed scratch":       {func(c *Config) { c.Scratch = filepath.Join(closed, "s") }, "pass through"},
		"no door":              {func(c *Config) { c.Door = "" }, "door"},
		"no cgroup root":       {func(c *Config) { c.CgroupRoot = "" }, "cgroup root"},
		"no profile":           {func(c *Config) { c.Profile = "" }, "profile"},
		"unknown profile":      {func(c *Config) { c.Profile = "loose" }, "profile"},
		"docker":               {func(c *Config) { c.Profile = Docker }, "not available"},
		"no memory limit":      {func(c *Config) { c.Limits.Memory = 0 }, "limits"},
		"no process limit":     {func(c *Config) { c.Limits.Processes = 0 }, "limits"},
		"unlimited processes":  {func(c *Config) { c.Limits.Processes = -1 }, "limits"},
		"no file limit":        {func(c *Config) { c.Limits.Files = 0 }, "limits"},
		"no gateway":           {func(c *Config) { c.Gateway = netip.Addr{} }, "gateway"},
		"gateway of version 6": {func(c *Config) { c.Gateway = netip.IPv6Loopback() }, "gateway"},
		"no hosts":             {func(c *Config) { c.Hosts = nil }, "hosts"},
		"line in a host":       {func(c *Config) { c.Hosts = []string{"a.test\n1.2.3.4 b.test"} }, "host"},
		"wildcard host":        {func(c *Config) { c.Hosts = []string{"*.test"} }, "host"},
		"no output":            {func(c *Config) { c.Output = nil }, "output"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := valid(t)
			tc.change(&c)
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want it to say %q", err, tc.says)
			}
			if s, err := Create(t.Context(), c); err == nil || s != nil {
				t.Error("created a sandbox from it")
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	got, err := environment([]string{"JIT=x=y"})
	if err != nil || got[len(got)-1] != "JIT=x=y" || !slices.Contains(got, "HOME=/home/runner") {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"PATH=/evil", "ACTIONS_RUNNER_HOOK_JOB_STARTED=/bin/true", "NOVALUE", "=x", "A=b\x00c"} {
		if _, err := environment([]string{bad}); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

// The specification is what the sandbox's promises rest on: a change here is a change of the threat model.
func TestSpecGolden(t *testing.T) {
	t.Parallel()
	got, err := json.MarshalIndent(valid(t).spec([]string{"bin/Runner.Listener", "run"}, []string{"A=b"}), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	const golden = "testdata/strict.json"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	g := cgroup{path: "/kettle/job-1"}
	for listing, want := range map[string]bool{
		"0::/kettle/job-1\n":                       true,
		"0::/kettle/job-1/sub/deeper\n":            true,
		"5:pids:/kettle/job-1\n0::/kettle/job-1\n": true,
		"0::/kettle/job-10\n":                      false,
		"0::/kettle\n":                             false,
		"0::/\n":                                   false,
		"5:pids:/kettle/job-1\n0::/elsewhere\n":    false,
		"0::/elsewhere/0::/kettle/job-1\n":         false,
		"":                                         false,
	} {
		if got := g.within(listing); got != want {
			t.Errorf("%q: got %v", listing, got)
		}
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if in, err := g.contains(pid); in || err == nil {
			t.Errorf("process %d: got %v, %v", pid, in, err)
		}
	}
}

func TestHostsFile(t *testing.T) {
	t.Parallel()
	const want = "127.0.0.1 localhost runner\n::1 localhost ip6-localhost\n100.96.0.1 github.demo.test\n"
	if got := hostsFile("100.96.0.1", []string{"github.demo.test"}); got != want {
		t.Errorf("got %q", got)
	}
}
