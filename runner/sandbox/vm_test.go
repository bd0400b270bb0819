// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
)

// A runtime needs a machine that is all its own. The tests that begin with in(t, …) run inside a VM: here each waits for
// the verdict of the test of the same name there. The first one boots the VM, on the kernel of the image, with this very
// test program as its only one; the pattern of -run goes with it.

// machine is one VM and what its tests said.
type machine struct {
	name   string
	skip   string // the pattern of the tests that do not run there
	root   func(*testing.T) string
	memory int // MiB
	time   time.Duration

	once    sync.Once
	console string            // what it said
	parts   map[string]string // by test: what was said during it, with the verdict
}

// Two machines: a small root with what a sandbox needs, for TestGuest… and TestAttack…; and the docker profile's own
// system, for TestFull… and TestAttackNested… at night.
var (
	small = &machine{name: "small", skip: "^Test([^GA]|AttackNested)", root: smallRoot, memory: 1536, time: 8 * time.Minute}
	full  = &machine{name: "full", skip: "^Test([^FA]|Attack[^N])", root: fullRoot, memory: 3072, time: 25 * time.Minute}
)

// turn lets one VM run at a time: each keeps a whole core busy.
var turn sync.Mutex

// in is true inside the VM, where the test goes on. Outside it ends the test with the VM's verdict on it.
func in(t *testing.T, m *machine) bool {
	t.Helper()
	if os.Getenv(inGuest) != "" {
		return true
	}
	if testing.Short() {
		t.Skip("boots a VM")
	}
	t.Parallel()
	m.once.Do(func() { m.run(t) })
	if m.console == "" {
		need(t, errors.New("the first test of this machine says why"))
	}
	part, ok := m.parts[t.Name()]
	switch {
	case !ok:
		t.Errorf("the VM %s did not come to this test; the end of what it said:\n%s", m.name, lastLines(m.console, 60))
	case !strings.Contains(part, "\n--- PASS: "+t.Name()+" "):
		t.Errorf("in the VM %s:\n%s", m.name, part)
	default:
		t.Log("\n" + part)
	}
	return false
}

func lastLines(text string, most int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// split gives each test what was said from its start to its verdict and to the start of the next.
func split(console string) map[string]string {
	parts := map[string]string{}
	var name string
	for line := range strings.Lines(strings.ReplaceAll(console, "\r\n", "\n")) {
		if next, ok := strings.CutPrefix(line, "=== RUN   "); ok && !strings.Contains(next, "/") {
			name = strings.TrimSpace(next)
		}
		parts[name] += line
	}
	return parts
}

// run prepares and runs the VM to its end. It skips where this machine lacks a part.
func (m *machine) run(t *testing.T) {
	t.Helper()
	turn.Lock()
	defer turn.Unlock()
	pattern := flag.Lookup("test.run").Value.String()
	if pattern == "" {
		pattern = "."
	}
	program := filepath.Join(t.TempDir(), "program")
	command(t, "go", "test", "-c", "-tags="+nightlyTag, "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	m.console = m.boot(t, m.root(t), program, []string{"run " + pattern, "skip " + m.skip})
	m.parts = split(m.console)
	if !strings.Contains(m.console, "\n"+guestOver) {
		t.Errorf("the VM %s did not come to its end:\n%s", m.name, lastLines(m.console, 60))
	}
}

// guestOver is the line that a guest prints when its tests are over.
const guestOver = "guest: over"

// boot runs one VM with this root and program, which finds its orders in the configuration.
func (m *machine) boot(t *testing.T, root, program string, orders []string) (console string) {
	t.Helper()
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := build.CachedKernel(cache)
	need(t, err)
	_, err = launch.FindQEMU()
	need(t, err)
	firmware, err := launch.FindFirmware()
	need(t, err)
	initrd, config := guestInitrd(t, kernel, program, orders)
	file := filepath.Join(t.TempDir(), "console")
	vm, err := launch.Start(t.Context(), launch.Config{
		Firmware: firmware, Kernel: kernel.Image, Initrd: initrd, Root: root,
		CommandLine: image.CommandLine{Config: config, Root: image.Verity{RootHash: image.SHA256{1}, DataBlocks: 1}, Debug: true}.String(),
		// One CPU: the emulator of older QEMU lets a second one stumble over code that the kernel patches ("Oops: int3").
		MemoryMiB: m.memory, CPUs: 1, Acceleration: launch.Auto, Console: file,
		NewProcessor: func([48]byte) (launch.Processor, error) { return silent{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-vm.Done():
	case <-time.After(m.time):
		t.Errorf("the VM %s did not end in time", m.name)
	case <-t.Context().Done():
	}
	vm.Kill()
	_ = vm.Wait()
	said, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if keep := os.Getenv("KETTLE_TEST_CONSOLES"); keep != "" { // for looking at
		_ = os.WriteFile(filepath.Join(keep, m.name+".log"), said, 0o600)
	}
	return string(said)
}

// need skips when err says what is missing, unless the machine must have it.
func need(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("KETTLE_REQUIRE_VM") == "1":
		t.Fatal(err)
	default:
		t.Skipf("no VM here: %v", err)
	}
}

// silent is a secure processor that nobody asks.
type silent struct{}

func (silent) Serve(_ context.Context, stream io.ReadWriter) error {
	_, err := io.Copy(io.Discard, stream)
	return err
}

func guestInitrd(t *testing.T, kernel *build.Kernel, program string, orders []string) (string, image.SHA256) {
	t.Helper()
	config := t.TempDir()
	text := strings.Join(orders, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(config, "config.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	digest, err := build.WriteInitrd(t.Context(), &b, build.Initrd{
		Init: program, Config: config, Modules: kernel.Modules, Profile: build.Docker,
	})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(config, "initrd")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name, digest
}

func TestSplit(t *testing.T) {
	t.Parallel()
	parts := split("boot\n=== RUN   TestA\n=== RUN   TestA/b\r\n    a.go: said\n--- PASS: TestA (0.1s)\n=== RUN   TestB\n--- FAIL: TestB (0s)\nover\n")
	if len(parts) != 3 || !strings.Contains(parts["TestA"], "said") || !strings.HasSuffix(parts["TestB"], "over\n") {
		t.Errorf("got %q", parts)
	}
}
