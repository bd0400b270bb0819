// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/channel"
)

// machine is what the VM tests start: the real kernel, this package's boot in the test guest, a root of a few files.
type machine struct {
	folder string
	line   image.CommandLine
	config launch.Config
	heard  func(*channel.Launcher, channel.Message) // what the host does at a message, before it is answered; nil: nothing
}

// newMachine makes the files of a VM in seconds. It needs QEMU, mkfs.erofs and a kernel in the builder's cache;
// without one it skips, or fails where KETTLE_REQUIRE_VM=1 says that they must be there.
func newMachine(t *testing.T) *machine {
	t.Helper()
	shared.once.Do(func() {
		var err error
		shared.kernel, shared.guest, shared.err = prepare(context.WithoutCancel(t.Context()))
		shared.authority, err = sim.NewAuthority(time.Now())
		shared.err = errors.Join(shared.err, err)
	})
	if shared.err != nil {
		if os.Getenv("KETTLE_REQUIRE_VM") == "1" {
			t.Fatalf("KETTLE_REQUIRE_VM=1, but no VM can be started: %v", shared.err)
		}
		t.Skipf("no VM can be started here: %v", shared.err)
	}
	m := &machine{folder: t.TempDir()}
	m.config = launch.Config{
		Kernel: shared.kernel.Image, Initrd: m.path("initrd"), Root: m.path("root"), Console: m.path("console"),
		MemoryMiB: 768, CPUs: 1, Acceleration: launch.TCG,
		NewProcessor: func(digest [48]byte) (launch.Processor, error) {
			return shared.authority.NewProcessor(digest, time.Now())
		},
	}
	var err error
	if m.config.Firmware, err = launch.FindFirmware(); err != nil {
		t.Fatal(err)
	}
	m.line.Root = m.makeRoot(t, "root of the test\n")
	m.line.Config = m.makeInitrd(t, "kind: test\n")
	return m
}

var shared struct {
	once      sync.Once
	kernel    *build.Kernel
	guest     string
	authority *sim.Authority
	err       error
}

func TestMain(m *testing.M) {
	if kind := os.Getenv(boot.AsVictim); kind != "" {
		os.Exit(boot.Victim(kind))
	}
	code := m.Run()
	if shared.guest != "" {
		_ = os.RemoveAll(filepath.Dir(shared.guest))
	}
	os.Exit(code)
}

func prepare(ctx context.Context) (*build.Kernel, string, error) {
	for _, name := range []string{"qemu-system-x86_64", "mkfs.erofs", "mkfs.xfs", "socat", "xz"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, "", fmt.Errorf("%w; scripts/apt-packages lists what is needed", err)
		}
	}
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		return nil, "", err
	}
	kernel, err := build.CachedKernel(cache)
	if errors.Is(err, os.ErrNotExist) && os.Getenv("KETTLE_REQUIRE_VM") == "1" {
		kernel, err = build.FetchKernel(ctx, cache, build.FindMirror(ctx, os.Getenv))
	}
	if err != nil {
		return nil, "", fmt.Errorf("%w; scripts/build-image --kernel fetches it", err)
	}
	folder, err := os.MkdirTemp("", "kettle-guest-")
	if err != nil {
		return nil, "", err
	}
	guest := filepath.Join(folder, "guest")
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", guest, "./testdata/guest")
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		return nil, "", fmt.Errorf("building the guest: %w: %s", err, out)
	}
	return kernel, guest, nil
}

func (m *machine) path(name string) string { return filepath.Join(m.folder, name) }

// makeRoot makes the root file system, and gives what the command line says of it.
func (m *machine) makeRoot(t *testing.T, marker string) image.Verity {
	t.Helper()
	tree := t.TempDir()
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "etc/kettle", "var/lib/kettle"} {
		must(t, os.MkdirAll(filepath.Join(tree, dir), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(tree, "etc/hosts"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(tree, "etc/resolv.conf"), nil, 0o644))
	must(t, os.WriteFile(filepath.Join(tree, "etc/marker"), []byte(marker), 0o644))
	copyProgram(t, "mkfs.xfs", tree, image.MakeXFS)
	filler := make([]byte, 12<<20) // most of the image: it cannot be compressed
	_, err := rand.NewChaCha8([32]byte{1}).Read(filler)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(tree, "filler"), filler, 0o644))
	if out, err := exec.CommandContext(t.Context(), "mkfs.erofs", "--quiet", "-zlz4", m.config.Root, tree).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.erofs: %v: %s", err, out)
	}
	root, err := build.SealRoot(t.Context(), m.config.Root)
	must(t, err)
	return root
}

// copyProgram puts a program of this machine and the libraries that it names into the tree.
func copyProgram(t *testing.T, name, tree, target string) {
	t.Helper()
	path, err := exec.LookPath(name)
	must(t, err)
	out, err := exec.CommandContext(t.Context(), "ldd", path).Output()
	must(t, err)
	files := map[string]string{path: target}
	for word := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(word, "/") {
			files[word] = word
		}
	}
	for from, to := range files {
		data, err := os.ReadFile(from)
		must(t, err)
		must(t, os.MkdirAll(filepath.Join(tree, filepath.Dir(to)), 0o755))
		must(t, os.WriteFile(filepath.Join(tree, to), data, 0o755))
	}
}

func (m *machine) makeInitrd(t *testing.T, config string) image.SHA256 {
	t.Helper()
	folder := m.path("config")
	must(t, os.MkdirAll(folder, 0o755))
	must(t, os.WriteFile(filepath.Join(folder, "config.yaml"), []byte(config), 0o644))
	var initrd bytes.Buffer
	digest, err := build.WriteInitrd(t.Context(), &initrd, build.Initrd{Init: shared.guest, Config: folder, Modules: shared.kernel.Modules, Profile: build.Strict})
	must(t, err)
	must(t, os.WriteFile(m.config.Initrd, initrd.Bytes(), 0o600))
	return digest
}

// run starts the VM, plays the launcher and gives the guest's messages and the console.
func (m *machine) run(t *testing.T, try string) ([]channel.Message, string, *launch.VM) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	m.config.CommandLine = m.line.String()
	vm, err := launch.Start(ctx, m.config)
	must(t, err)
	launcher := channel.NewLauncher(vm.Control())
	var messages []channel.Message
	for {
		message, err := launcher.Next(ctx)
		if err != nil {
			break
		}
		messages = append(messages, message)
		if m.heard != nil {
			m.heard(launcher, message)
		}
		if _, hello := message.(channel.Hello); hello {
			must(t, launcher.SendCredential(ctx, secret.New(try)))
		}
	}
	must(t, vm.Control().Close())
	if err := vm.Wait(); err != nil {
		t.Errorf("the VM did not power off by itself: %v", err)
	}
	console, err := os.ReadFile(m.config.Console)
	must(t, err)
	t.Logf("console:\n%s", console)
	return messages, string(console), vm
}

// TestBoot boots, looks at everything that a supervisor relies on, quotes, extends, and uses the one forwarded endpoint.
func TestBoot(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.config.Forwards = []launch.Forward{{
		Guest: netip.MustParseAddrPort("10.0.2.100:443"), Host: greeter(t),
	}}
	messages, console, vm := m.run(t, "everything")
	timings := vm.Timings()
	t.Logf("QEMU start to hello %v, to the end %v", timings.Message.Sub(timings.Started), timings.Ended.Sub(timings.Started))
	var names []string
	var outcome string
	for _, message := range messages {
		switch message := message.(type) {
		case channel.Phase:
			names = append(names, message.Name)
			t.Logf("%-14s %v", message.Name, message.Elapsed)
		case channel.End:
			outcome = message.Outcome
		}
	}
	if got := strings.Join(names, " "); got != "kernel configuration modules root-map root-mount root-prepare" {
		t.Errorf("phases: got %q", got)
	}
	wantOnlySentence(t, console, "kettled: the test guest is done; powering off")
	parts := strings.Split(outcome, "|")
	if len(parts) != 4 {
		t.Fatalf("outcome: %q", outcome)
	}
	if !strings.Contains(parts[0], "memory") || !strings.Contains(parts[0], "pids") {
		t.Errorf("want memory and pids among the controllers, got %s", parts[0])
	}
	digest := vm.LaunchDigest()
	if want := essence([64]byte{1}, digest, [32]byte{}) + " " + essence([64]byte{3}, digest, extended([32]byte{2})); parts[1] != want {
		t.Errorf("quotes: want %s, got %s", want, parts[1])
	}
	if parts[2] != "hello 1 hello 2 " {
		t.Errorf("network: got %q", parts[2])
	}
	if parts[3] != "hardened" {
		t.Errorf("hardening: got %q", parts[3])
	}
}

// essence spells report data, measurement and host data as the guest does.
func essence(data [64]byte, digest [48]byte, register [32]byte) string {
	return hex.EncodeToString(slices.Concat(data[:], digest[:], register[:]))
}

func extended(digest [32]byte) [32]byte {
	return sha256.Sum256(append(make([]byte, 32), digest[:]...))
}

// greeter answers each connection with its number.
func greeter(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for i := 1; ; i++ {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(connection, "hello %d ", i)
			_ = connection.Close()
		}
	}()
	return netip.MustParseAddrPort(listener.Addr().String())
}

// TestCrash makes the supervisor panic: PID 1 says so and powers off.
func TestCrash(t *testing.T) {
	t.Parallel()
	_, console, _ := newMachine(t).run(t, "crash")
	if !strings.Contains(console, "kettled: the supervisor ended with status 2; powering off") || strings.Contains(console, "goroutine ") {
		t.Errorf("want one sentence of PID 1 and no stack, got %s", console)
	}
}

// TestAlteredInitrd shows that another initrd which does the same has another launch digest, and that a VM can be
// killed.
func TestAlteredInitrd(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.config.CommandLine = m.line.String()
	var digests [3][48]byte
	for i := range digests {
		if i == 2 {
			initrd, err := os.ReadFile(m.config.Initrd)
			must(t, err)
			must(t, os.WriteFile(m.config.Initrd, append(initrd, make([]byte, 512)...), 0o600))
		}
		vm, err := launch.Start(t.Context(), m.config)
		must(t, err)
		digests[i] = vm.LaunchDigest()
		vm.Kill()
		must(t, vm.Control().Close())
		if err := vm.Wait(); !errors.Is(err, context.Canceled) {
			t.Errorf("a killed VM: want context.Canceled, got %v", err)
		}
	}
	if digests[0] != digests[1] || digests[0] == digests[2] {
		t.Errorf("want the same digest twice and then another, got %x", digests)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantOnlySentence demands that the guest's last words are this sentence and that nothing else came from it.
func wantOnlySentence(t *testing.T, console, want string) {
	t.Helper()
	var said []string
	for line := range strings.Lines(console) {
		kernel := strings.HasPrefix(line, "[") && !strings.Contains(line, "panic") // a warning about a slow host, or the end
		if !kernel && strings.TrimSpace(line) != "" {
			said = append(said, strings.TrimSpace(line))
		}
	}
	if len(said) != 1 || !strings.Contains(said[0], want) {
		t.Errorf("want one sentence %q on the console, got %q", want, said)
	}
}
