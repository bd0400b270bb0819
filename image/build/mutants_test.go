// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package build

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts out what stands between an image and what does not belong into it, and demands that the attacks succeed.
func TestMutants(t *testing.T) {
	t.Parallel()
	const login, fetch, runner, root, lock = "image/build/login.go", "image/build/fetch.go", "image/build/runner.go", "image/build/root.go", "image/build/supply.go"
	for _, row := range []struct {
		attack string
		mutant.Mutant
	}{
		{"TestAttackOtherPackage", mutant.Mutant{
			Check: "a package has the locked digest", File: fetch,
			Old: "counted != d.Size || got != d.SHA256 {", New: "counted != d.Size || got != d.SHA256 && false {",
		}},
		{"TestAttackOtherPackage", mutant.Mutant{
			Check: "a package has the locked size", File: fetch,
			Old: "counted != d.Size || got != d.SHA256 {", New: "(counted != d.Size || got != d.SHA256) && counted == d.Size {",
		}},
		{"TestAttackReachNetwork", mutant.Mutant{
			Check: "a build has no network", File: "image/build/run.go",
			Old: "unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC", New: "unix.CLONE_NEWPID | unix.CLONE_NEWIPC",
		}},
		{"TestAttackChangedLockInCache", mutant.Mutant{
			Check: "a lock is of the packages that are wanted", File: lock,
			Old: "if !slices.Contains(l.Wanted, p) {", New: "if !slices.Contains(l.Wanted, p) && false {",
		}},
		{"TestAttackArchiveLeavesFolder", mutant.Mutant{
			Check: "a runner is files, folders and links", File: runner,
			Old: `return fmt.Errorf("neither folder, file nor symbolic link, but %q", header.Typeflag)`, New: "return nil",
		}},
		{"TestAttackArchiveLeavesFolder", mutant.Mutant{
			Check: "a runner replaces nothing of its own", File: runner,
			Old: "os.O_WRONLY|os.O_CREATE|os.O_EXCL", New: "os.O_WRONLY|os.O_CREATE",
		}},
		{"TestAttackArchiveLeavesFolder", mutant.Mutant{
			Check: "a runner has its listener", File: runner,
			Old: "_, err := root.Stat(listener)\n\t\t\treturn err", New: "return nil",
		}},
		{"TestAttackWayIn", mutant.Mutant{
			Check: "no program for logging in, no agent", File: login,
			Old: "case matches(agents, base) && isProgram(name, entry):", New: "case false:",
		}},
		{"TestAttackWayIn", mutant.Mutant{
			Check: "no unit for logging in", File: login,
			Old: "case isUnit(rel) && matches(units, base):", New: "case false:",
		}},
		{"TestAttackWayIn", mutant.Mutant{
			Check: "no keys that open", File: login,
			Old: `base == "authorized_keys" || `, New: "",
		}},
		{"TestAttackWayIn", mutant.Mutant{
			Check: "no file of a way in", File: login,
			Old: "!errors.Is(err, fs.ErrNotExist) {\n\t\t\tfaults", New: "false {\n\t\t\tfaults",
		}},
		{"TestAttackWayIn", mutant.Mutant{
			Check: "no password that opens", File: login,
			Old: "fields[1] != also && !slices.Contains(locked, fields[1])", New: "fields[1] != also && !slices.Contains(locked, fields[1]) && false",
		}},
		{"TestAttackRaiseRights", mutant.Mutant{
			Check: "no other program with setuid", File: root,
			Old: "info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 &&", New: "info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 && false &&",
		}},
		{"TestAttackRaiseRights", mutant.Mutant{
			Check: "no capabilities on files", File: root,
			Old: `return fmt.Errorf("%s: has capabilities", path)`, New: "return nil",
		}},
	} {
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, row.Mutant, "image/build", "^"+row.attack+"$")
		})
	}
}
