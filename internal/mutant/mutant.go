// SPDX-License-Identifier: Apache-2.0

// Package mutant shows that a check is needed: it cuts the check out of the program and demands that an attack succeeds.
//
// A test named TestAttack… passes when the attack fails. That says little as long as nobody knows which line stopped it.
// A [Mutant] is the program without one line: [Run] builds the package's tests with that one change (an overlay of the go
// command: the tree is never touched), runs the named attack alone and passes only if the attack test now fails. A
// mutant that does not compile, an attack that does not run, is skipped or crashes is a fault of the row and no answer.
//
// A package keeps its rows in mutants_test.go behind the build tag mutants, because each costs a build:
//
//	func TestMutants(t *testing.T) {
//		for _, row := range rows {
//			t.Run(row.Check, func(t *testing.T) {
//				t.Parallel()
//				mutant.Run(t, row.Mutant, "runner/door", row.attack)
//			})
//		}
//	}
//
// Parallel subtests are bounded by the number of CPUs, as go test bounds them. Where the attack needs a machine of its
// own, [Build] gives the mutant's test program, static, and [Killed] reads what it printed there with -test.v.
//
// It guarantees nothing about checks that no row names. It trusts the go command, and that the same attack passes
// without the change: the ordinary run of the tests shows that. It is for tests only.
package mutant

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Errors of [Try] and [Killed]. Only nil means that the attack needed the check.
var (
	ErrSurvived = errors.New("the attack fails without the check too")
	ErrRow      = errors.New("the row does not fit the source") // old text not there or more than once, or no build
	ErrNotRun   = errors.New("the attack did not run to an end")
)

// Mutant is the program with one check cut out.
type Mutant struct {
	Check string // the check in words
	File  string // below the module's root, with slashes; never a test
	Old   string // the text of the check; stands exactly once in File
	New   string // what stands there instead

	// World is a further change, which makes the world in which the check matters, for example a platform that lacks
	// something. Its check is not what is tested: the attack has to pass in that world, which [Build] lets one try.
	World *Mutant
}

// timeout bounds one attack; each takes seconds at most.
const timeout = 5 * time.Minute

// Run demands that the attack succeeds without the check: that the tests of the package in dir (below the module's root)
// still compile and that a test which the pattern names fails. The pattern is one for -test.run and begins with TestAttack.
// What the attack then said is logged: whether it succeeded, or was stopped elsewhere than it says.
func Run(t *testing.T, m Mutant, dir, attack string) {
	t.Helper()
	out, err := try(t, m, dir, attack)
	if err != nil {
		t.Fatalf("%s: %v", m.Check, err)
	}
	t.Logf("without the check:\n%s", bytes.Join(said.FindAll(out, mostSaid), []byte("\n")))
}

// Try is [Run] with the answer as an error. It serves rows that are expected to survive: [ErrSurvived].
func Try(t testing.TB, m Mutant, dir, attack string) error {
	t.Helper()
	_, err := try(t, m, dir, attack)
	return err
}

func try(t testing.TB, m Mutant, dir, attack string) ([]byte, error) {
	t.Helper()
	if !strings.HasPrefix(strings.TrimPrefix(attack, "^"), "TestAttack") {
		return nil, fmt.Errorf("%w: the pattern %q does not begin with TestAttack", ErrRow, attack)
	}
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	program := filepath.Join(t.TempDir(), "mutant.test")
	if err := build(t, m, dir, program); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.v", "-test.run="+attack, "-test.timeout="+timeout.String()) //nolint:gosec // the program that was just built.
	cmd.Dir = filepath.Join(root, filepath.FromSlash(dir))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return nil, fmt.Errorf("running the attack: %w", err)
	}
	return out, Killed(out)
}

// Build gives the path of the mutant's test program: static, without the race detector, to be run anywhere.
func Build(t testing.TB, m Mutant, dir string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "mutant.test")
	if err := build(t, m, dir, program); err != nil {
		t.Fatalf("%s: %v", m.Check, err)
	}
	return program
}

// said finds what a test reported, one line for each report, of which mostSaid are worth reading.
var said = regexp.MustCompile(`(?m)^ +\w+\.go:\d+: .{0,400}`)

const mostSaid = 3

var (
	ended   = regexp.MustCompile(`(?m)^--- (FAIL|PASS|SKIP): (\S+)`)
	crashed = regexp.MustCompile(`(?m)^(panic: |fatal error: |SIG[A-Z]+: |unexpected fault address|goroutine \d+ \[)`)
)

// Killed reads what a test program printed with -test.v: nil if a test named TestAttack… failed in good order.
// The output may hold other lines around it, as a console does.
func Killed(output []byte) error {
	output = bytes.ReplaceAll(output, []byte("\r\n"), []byte("\n"))
	if found := crashed.Find(output); found != nil {
		return fmt.Errorf("%w: it crashed:\n%s", ErrNotRun, tail(output))
	}
	verdicts := map[string]int{}
	for _, m := range ended.FindAllSubmatch(output, -1) {
		if bytes.HasPrefix(m[2], []byte("TestAttack")) {
			verdicts[string(m[1])]++
		}
	}
	switch {
	case verdicts["FAIL"] > 0:
		return nil
	case verdicts["PASS"] > 0 && verdicts["SKIP"] == 0:
		return ErrSurvived
	default:
		return fmt.Errorf("%w: %d passed, %d skipped:\n%s", ErrNotRun, verdicts["PASS"], verdicts["SKIP"], tail(output))
	}
}

// build compiles the tests of the package in dir with the one change.
func build(t testing.TB, m Mutant, dir, program string) error {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	overlay, err := m.overlay(root, t.TempDir())
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-trimpath", "-ldflags=-s -w", "-overlay", overlay, "-o", program, "./"+dir) //nolint:gosec // rows of our own tests.
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOGC=off") // a fifth of a build is collecting its garbage
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: building it: %w\n%s", ErrRow, err, tail(out))
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("%w: %s has no tests: %s", ErrRow, dir, tail(out))
	}
	return nil
}

// overlay writes the changed files and the file for -overlay that puts them in place of the originals.
func (m Mutant) overlay(root, dir string) (string, error) {
	replace := map[string]string{}
	for change := &m; change != nil; change = change.World {
		if err := change.apply(root, dir, replace); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("writing the overlay: %w", err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", fmt.Errorf("writing the overlay: %w", err)
	}
	return overlay, nil
}

// apply writes the changed file into dir and notes it in replace; a file that is there already is changed further.
func (m *Mutant) apply(root, dir string, replace map[string]string) error {
	if m.Old == "" || m.Old == m.New || strings.HasSuffix(m.File, "_test.go") {
		return fmt.Errorf("%w: it changes nothing, or a test", ErrRow)
	}
	original := filepath.Join(root, filepath.FromSlash(m.File))
	from, changed := original, replace[original]
	if changed != "" {
		from = changed
	} else {
		changed = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
	}
	src, err := os.ReadFile(from) //nolint:gosec // a file of this module, or its copy.
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRow, err)
	}
	if n := bytes.Count(src, []byte(m.Old)); n != 1 {
		return fmt.Errorf("%w: %q stands %d times in %s", ErrRow, m.Old, n, m.File)
	}
	if err := os.WriteFile(changed, bytes.Replace(src, []byte(m.Old), []byte(m.New), 1), 0o600); err != nil { //nolint:gosec // a file of the test's own folder.
		return fmt.Errorf("writing the mutant: %w", err)
	}
	replace[original] = changed
	return nil
}

// moduleRoot walks up to go.mod; go test runs a test in the folder of its package.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("%w: no go.mod above this test", ErrRow)
		}
		dir = up
	}
}

// tail gives the end of what a program said.
func tail(out []byte) []byte {
	const enough = 4 << 10
	return out[max(0, len(out)-enough):]
}
