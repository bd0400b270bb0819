// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package sandbox_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// Texts of the source that hold more than one check.
const (
	spec  = "runner/sandbox/spec.go"
	limit = "runner/sandbox/limits.go"
	calls = "runner/sandbox/seccomp.go"

	ids = `	idBase = 1 << 20
	idSize = 1 << 18
)

func mappings() []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: idBase, Size: idSize}}
}

func namespaces() []specs.LinuxNamespace {
	var all []specs.LinuxNamespace
	for _, t := range []specs.LinuxNamespaceType{
		specs.UserNamespace, specs.PIDNamespace,`
	between = ` specs.MountNamespace, specs.NetworkNamespace, specs.IPCNamespace,
		specs.UTSNamespace, specs.CgroupNamespace,
	} {
		all = append(all, specs.LinuxNamespace{Type: t})
	}
	return all
}

// devices of the docker profile, besides the six that every sandbox has.
var devices = [...]struct {
	path         string
	major, minor int64
}{
	{"/dev/fuse", 10, 229},
	{"/dev/net/tun", 10, 200},
}

func (p Profile) deviceRules() []specs.LinuxDeviceCgroup {
	rules := []specs.LinuxDeviceCgroup{{Allow: `
	rule = `false, Access: "rwm"}}`
)

// machineIDs are the ids of the machine, without a namespace of their own.
var machineIDs = strings.NewReplacer("1 << 20", "0", "[]specs.LinuxIDMapping{{ContainerID: 0, HostID: idBase, Size: idSize}}", "nil", "specs.UserNamespace, ", "").Replace(ids)

// Each row cuts out one check; the named attack must then reach what the words say. Two locks on one door are cut out
// together, and the row before shows that one of them holds alone.
var rows = []struct {
	mutant.Mutant
	attack, reached string
}{
	{mutant.Mutant{Check: "filter of open_by_handle_at", File: calls, Old: `"open_by_handle_at", `}, "Calls/docker-root", "reached: call open_by_handle_at"},
	{mutant.Mutant{Check: "filter of unshare in strict", File: calls, Old: `"umount2", "unshare",`, New: `"umount2",`}, "Calls/strict-root", "reached: call unshare"},
	{mutant.Mutant{Check: "filter of socket families", File: calls, Old: `unix.AF_XDP, `}, "Network/docker-root", "reached: socket AF_XDP"},
	{mutant.Mutant{Check: "ids of nobody outside", File: spec, Old: "idBase = 1 << 20", New: "idBase = 0"}, "Kernel/docker-root", "reached: write /proc/sys/kernel/core_pattern"},
	{mutant.Mutant{Check: "user namespace", File: spec, Old: ids, New: machineIDs}, "Mounts/docker-root", "reached: mount debugfs"},
	{mutant.Mutant{Check: "device rules and user namespace", File: spec, Old: ids + between + rule, New: machineIDs + between + `true, Access: "rwm"}}`}, "Devices/docker-root", "reached: make and open /dev/node-kmsg"},
	{mutant.Mutant{Check: "a proc of its own", File: spec, Old: `mount("proc", "/proc", "nosuid", "noexec", "nodev"),`, New: `{Type: "bind", Source: "/proc", Destination: "/proc", Options: []string{"rbind"}},`}, "Supervisor/docker-root", "reached: see kettled in /proc"},
	{mutant.Mutant{Check: "cgroup namespace", File: spec, Old: ", specs.CgroupNamespace"}, "OwnGroup/docker-root", "reached: see groups above"},
	{mutant.Mutant{Check: "devices of its own", File: spec, Old: `"strictatime", "mode=755", "size=64k"),`, New: `"strictatime", "mode=755", "size=64k"), bind("/dev/vda", "/dev/vda", "ro"),`}, "Devices/docker-root", "reached: see /dev/vda"},
	{mutant.Mutant{Check: "masked paths in strict", File: spec, Old: `"/proc/kallsyms", `}, "Kernel/strict-root", "reached: read /proc/kallsyms"},
	{mutant.Mutant{Check: "session keyring", File: "runner/sandbox/runtime.go", Old: `"create", "--bundle"`, New: `"create", "--no-new-keyring", "--bundle"`}, "Keys/docker-root", "reached: read kettled's key"},
	{mutant.Mutant{Check: "limit of processes", File: limit, Old: `{"pids.max", strconv.FormatInt(l.Processes, 10)},`}, "Processes", `no "end of processes: "`},
	{mutant.Mutant{Check: "limit of memory", File: limit, Old: `{"memory.max", strconv.FormatInt(l.Memory, 10)},`}, "Memory", "it had as much as it liked"},
	{mutant.Mutant{Check: "out of memory as a whole", File: limit, Old: `{"memory.oom.group", "1"},`}, "Memory", "out of memory: false"},
	{mutant.Mutant{Check: "limit of CPU", File: limit, Old: `{"cpu.max", fmt.Sprintf("%d %d", l.CPUs*period/1000, period)},`, New: `{"cpu.max", fmt.Sprintf("max %d", period)},`}, "CPU", "a quarter of a CPU used"},
	{mutant.Mutant{Check: "limit of traffic", File: limit, Old: `rbps=%d wbps=%d", `, New: `rbps=%d riops=%d", `}, "Traffic", "six MiB at two in a second"},
	{mutant.Mutant{Check: "kill of the group", File: "runner/sandbox/end.go", Old: "err := s.cgroup.kill(ctx); err != nil", New: "err := error(nil); err != nil"}, "Outlive", "waiting for the sandbox's first process"},
}

// TestMutants builds a test program without each check and runs them all in one VM.
func TestMutants(t *testing.T) {
	tree := smallTree(t)
	orders := make([]string, len(rows))
	for i, row := range rows {
		attack, variant, _ := strings.Cut(row.attack, "/")
		pattern := "^TestAttack" + attack + "$"
		if variant != "" {
			pattern += "/^" + variant + "$"
		}
		name := fmt.Sprintf("m%02d", i)
		orders[i] = "mutant " + name + " " + pattern
		install(t, mutant.Build(t, row.Mutant, "runner/sandbox"), filepath.Join(tree, mutantsDir, name), 0o755)
	}
	program := filepath.Join(t.TempDir(), "program")
	command(t, "go", "test", "-c", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	m := &machine{name: "mutants", memory: small.memory, time: small.time}
	console := m.boot(t, pack(t, tree), program, orders)
	for i, row := range rows {
		t.Run(row.Check, func(t *testing.T) {
			_, said, _ := strings.Cut(console, fmt.Sprintf("=== MUTANT m%02d", i))
			said, _, ended := strings.Cut(said, "=== MUTANT END")
			if !ended {
				t.Fatalf("it did not run:\n%s", lastLines(console, 40))
			}
			if err := mutant.Killed([]byte(said)); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said, row.reached) {
				t.Errorf("it failed, but not with %q:\n%s", row.reached, said)
			}
		})
	}
	if keep := os.Getenv("KETTLE_TEST_CONSOLES"); keep == "" && t.Failed() {
		t.Log(console)
	}
}
