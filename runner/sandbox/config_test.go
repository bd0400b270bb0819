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
		ID: "1", Runtimes: []string{"/usr/bin/crun"}, Image: "/", Runner: "/usr/lib/kettle/runner", Init: Small,
		Scratch: "/scratch", State: "/state", Door: "/run/kettle", CgroupRoot: "/sys/fs/cgroup", Profile: Strict,
		Limits: Limits{
			Memory: 1 << 30, Processes: 4096, Files: 65536, CPUs: 1500, IO: IO{Device: "/dev/ram0", Read: 1 << 30, Write: 1 << 29},
		},
		Resolver: netip.MustParseAddr("100.96.0.1"), Output: io.Discard,
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := valid(t)
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	good.Profile, good.Init = Docker, Systemd
	if err := good.Validate(); err != nil {
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
		"no id":               {func(c *Config) { c.ID = "" }, "id"},
		"id that climbs":      {func(c *Config) { c.ID = "../x" }, "id"},
		"long id":             {func(c *Config) { c.ID = strings.Repeat("a", 65) }, "id"},
		"no runtimes":         {func(c *Config) { c.Runtimes = nil }, "runtimes"},
		"relative runtime":    {func(c *Config) { c.Runtimes = []string{"/usr/bin/crun", "runc"} }, "runtime 2"},
		"relative image":      {func(c *Config) { c.Image = "image" }, "image"},
		"unclean runner":      {func(c *Config) { c.Runner = "/usr/../runner" }, "runner"},
		"no init":             {func(c *Config) { c.Init = "" }, "init"},
		"unknown init":        {func(c *Config) { c.Init = "/sbin/init" }, "init"},
		"systemd in strict":   {func(c *Config) { c.Init = Systemd }, "init systemd"},
		"option in scratch":   {func(c *Config) { c.Scratch = "/scratch,upperdir=/etc" }, "scratch"},
		"layer in scratch":    {func(c *Config) { c.Scratch = "/scratch:/etc" }, "scratch"},
		"no scratch":          {func(c *Config) { c.Scratch = "" }, "scratch"},
		"closed scratch":      {func(c *Config) { c.Scratch = filepath.Join(closed, "s") }, "pass through"},
		"no state":            {func(c *Config) { c.State = "" }, "state"},
		"closed state":        {func(c *Config) { c.State = filepath.Join(closed, "s") }, "pass through"},
		"state in scratch":    {func(c *Config) { c.State = "/scratch/state" }, "outside of scratch"},
		"state is scratch":    {func(c *Config) { c.State = "/scratch" }, "outside of scratch"},
		"no door":             {func(c *Config) { c.Door = "" }, "door"},
		"no cgroup root":      {func(c *Config) { c.CgroupRoot = "" }, "cgroup root"},
		"no profile":          {func(c *Config) { c.Profile = "" }, "profile"},
		"unknown profile":     {func(c *Config) { c.Profile = "loose" }, "profile"},
		"no memory limit":     {func(c *Config) { c.Limits.Memory = 0 }, "memory"},
		"no process limit":    {func(c *Config) { c.Limits.Processes = 0 }, "processes"},
		"unlimited processes": {func(c *Config) { c.Limits.Processes = -1 }, "processes"},
		"no file limit":       {func(c *Config) { c.Limits.Files = 0 }, "files"},
		"no CPU limit":        {func(c *Config) { c.Limits.CPUs = 0 }, "CPU"},
		"no device":           {func(c *Config) { c.Limits.IO.Device = "" }, "device"},
		"no limit of reads":   {func(c *Config) { c.Limits.IO.Read = 0 }, "read"},
		"no limit of writes":  {func(c *Config) { c.Limits.IO.Write = 0 }, "written"},
		"no resolver":         {func(c *Config) { c.Resolver = netip.Addr{} }, "resolver"},
		"resolver of IPv6":    {func(c *Config) { c.Resolver = netip.IPv6Loopback() }, "resolver"},
		"no output":           {func(c *Config) { c.Output = nil }, "output"},
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
	for _, bad := range []string{"PATH=/evil", "ACTIONS_RUNNER_HOOK_JOB_STARTED=/bin/true", "NOVALUE", "=x", "A=b\x00c", "A B=c", "A\nB=c"} {
		if _, err := environment([]string{bad}); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

// The specification is what the sandbox's promises rest on: a change here is a change of the threat model.
func TestSpecGolden(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"strict":  func(*Config) {},
		"docker":  func(c *Config) { c.Profile = Docker },
		"systemd": func(c *Config) { c.Profile, c.Init = Docker, Systemd },
	} {
		c := valid(t)
		change(&c)
		got, err := json.MarshalIndent(c.spec([]string{"A=b"}, []uint32{27}), "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, '\n')
		golden := "testdata/" + name + ".json"
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
			t.Error(name, diff)
		}
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

func TestInit(t *testing.T) {
	t.Parallel()
	c := valid(t)
	if got := c.script([]string{"bin/it's", "$(run)"}); got != "'bin/it'\\''s' '$(run)' \necho $? >/run/kettle-init/end\nkill -STOP $$\n" {
		t.Errorf("got %q", got)
	}
	c.Profile, c.Init = Docker, Systemd
	if got := c.script([]string{"run"}); !strings.HasPrefix(got, "exec >/run/kettle-init/output 2>&1\n'run' \n") {
		t.Errorf("got %q", got)
	}
	got := c.unit([]string{"JIT=credential", "PATH=/bin"})
	if !strings.Contains(got, "\nPassEnvironment=JIT PATH\n") || strings.Contains(got, "credential") {
		t.Errorf("got %s", got)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "group")
	text := "root:x:0:\nsudo:x:27:other,runner\nbad:x:seven:runner\nhigh:x:262144:runner\ntorn:x\nrunners:x:5:runners\ndocker:x:998:runner\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := groups(file); err != nil || !slices.Equal(got, []uint32{27, 998}) {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := groups(file + ".none"); err != nil || got != nil {
		t.Errorf("got %v, %v", got, err)
	}
}
