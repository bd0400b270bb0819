// SPDX-License-Identifier: Apache-2.0

package bootattack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/runner/channel"
)

const qemu = "qemu-system-x86_64"

// hostile writes a program into dir that stands in QEMU's place in PATH from now on. It reads a script beside the folder that
// it runs in, which may change the arguments, and becomes the real one. The launcher knows nothing of it.
func hostile(dir string) error {
	genuine, err := exec.LookPath(qemu)
	if err != nil {
		return nil //nolint:nilerr // the tests say that there is none.
	}
	script := "#!/bin/sh\n[ ! -f \"$PWD.host\" ] || . \"$PWD.host\"\nexec " + genuine + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, qemu), []byte(script), 0o755); err != nil {
		return err
	}
	return os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// machine is one machine that is to be started, and what its host does to it.
type machine struct {
	*world
	folder string
	config launch.Config
	want   [48]byte        // the launch digest that is signed
	script strings.Builder // of the host, in sh
}

// newMachine is the image as it was made, started directly from its kernel.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{world: theWorld(t), folder: t.TempDir()}
	files := m.manifest.Files
	m.config = launch.Config{
		Firmware: m.File(files.Firmware), Kernel: m.File(files.Kernel), Initrd: m.File(files.Initrd), Disk: m.Disk(),
		CommandLine: m.manifest.CommandLine, MemoryMiB: 1024, CPUs: 1, Acceleration: launch.Auto,
		Console: m.path("console"), Folder: m.path("machine"),
	}
	m.want = measure.Sim(measure.Manifest(m.manifest))
	return m
}

// fromDisk is the image as it was made, started by firmware from the disk.
func fromDisk(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t)
	code, variables, err := launch.FindOVMF()
	must(t, err)
	m.config.Firmware, m.config.UKI = code, &launch.UKI{Variables: variables}
	m.config.Kernel, m.config.Initrd, m.config.CommandLine = "", "", ""
	m.want = measure.SimUKI(measure.UKILaunch{Firmware: digestOf(t, code), Variables: digestOf(t, variables), UKI: m.manifest.Files.UKI.SHA256})
	return m
}

func digestOf(t *testing.T, path string) image.SHA256 {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return sha256.Sum256(b)
}

func (m *machine) path(name string) string { return filepath.Join(m.folder, name) }

// add has the host add arguments to QEMU's.
func (m *machine) add(arguments ...string) {
	m.script.WriteString(`set -- "$@"`)
	for _, a := range arguments {
		m.script.WriteString(" '" + strings.ReplaceAll(a, "'", `'\''`) + "'")
	}
	m.script.WriteString("\n")
}

// replace has the host put other arguments in the place of the one that begins so.
func (m *machine) replace(prefix, by string) {
	fmt.Fprintf(&m.script, "n=$#; while [ $n -gt 0 ]; do case $1 in '%s'*) set -- \"$@\" '%s';; *) set -- \"$@\" \"$1\";; esac; shift; n=$((n-1)); done\n", prefix, by)
}

// file writes a file of this machine's.
func (m *machine) file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := m.path(name)
	must(t, os.WriteFile(path, content, 0o600))
	return path
}

// copyOf gives this machine its own copy of a file.
func (m *machine) copyOf(t *testing.T, path string) string {
	t.Helper()
	in, err := os.Open(path)
	must(t, err)
	defer func() { _ = in.Close() }()
	out, err := os.Create(m.path(filepath.Base(path)))
	must(t, err)
	_, err = io.Copy(out, in)
	must(t, err)
	must(t, out.Close())
	return out.Name()
}

// course is what a machine did before it was over.
type course struct {
	hello    bool
	phases   []string // that kettled told, in their order
	other    []string // messages that no machine sends before it has a credential
	outcome  string   // of the end message; "" if there was none
	console  string   // all that came over the serial line
	measured bool     // whether the launch digest is the image's, as predicted from its files and as the processor signs it
	register [32]byte // of the secure processor
	verified bool     // the machine verified itself
}

// bootTime bounds one machine's life: an emulated processor on a busy host takes a minute.
const bootTime = 4 * time.Minute

// boot starts the machine, gives it nothing, and ends it where an unharmed one would ask for a credential.
func (m *machine) boot(t *testing.T) course {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTime)
	defer cancel()
	var processor *sim.Processor
	m.config.NewProcessor = func(digest [48]byte) (p launch.Processor, err error) {
		processor, err = m.Sim.NewProcessor(digest, time.Now().AddDate(-rootYears, 0, 0))
		return processor, err
	}
	if m.script.Len() > 0 {
		must(t, os.WriteFile(m.config.Folder+".host", []byte(m.script.String()), 0o600))
	}
	vm, err := launch.Start(ctx, m.config)
	must(t, err)
	c := course{measured: vm.LaunchDigest() == m.want}
	c.listen(ctx, vm)
	vm.Kill()
	if err := vm.Wait(); ctx.Err() != nil || err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the machine did not end as it should: %v", err)
	}
	must(t, vm.Control().Close())
	console, err := os.ReadFile(m.config.Console)
	must(t, err)
	c.console, c.register = string(console), processor.Register()
	report, err := processor.Report([64]byte{})
	must(t, err)
	const measurement = 0x90 // in the report (AMD 56860, table "ATTESTATION_REPORT Structure")
	if digest := vm.LaunchDigest(); !bytes.Equal(report[measurement:][:len(digest)], digest[:]) {
		t.Errorf("the processor signs %x, and was started with %x", report[measurement:][:len(digest)], digest)
	}
	t.Logf("%v: phases %v, end %q, console:\n%s", time.Since(vm.Timings().Started), c.phases, c.outcome, c.console)
	return c
}

// listen takes the guest's messages until it has verified itself or ends.
func (c *course) listen(ctx context.Context, vm *launch.VM) {
	launcher := channel.NewLauncher(vm.Control())
	for !c.verified {
		message, err := launcher.Next(ctx)
		if err != nil {
			break
		}
		switch message := message.(type) {
		case channel.Hello:
			c.hello = true
		case channel.Phase:
			c.phases = append(c.phases, message.Name)
			c.verified = message.Name == "self-verified"
		case channel.End:
			c.outcome = message.Outcome
		default:
			c.other = append(c.other, fmt.Sprintf("%T", message))
		}
	}
	if !c.verified { // it says its sentence and turns itself off
		select {
		case <-vm.Done():
		case <-ctx.Done():
		}
	}
}

// unharmed demands a machine that verified itself as the image does which was built: the attack had no effect.
func (c course) unharmed(t *testing.T) {
	t.Helper()
	const phases = "boot-kernel boot-configuration boot-modules boot-root-map boot-root-mount boot-root-prepare self-verified"
	if !c.verified || !c.measured || strings.Join(c.phases, " ") != phases {
		t.Errorf("want the image, verified after %q; measured %v, phases %q, end %q", phases, c.measured, c.phases, c.outcome)
	}
	if len(c.other) > 0 || strings.Contains(c.console, "kettled") {
		t.Errorf("it said more than it had to: %q %q", c.other, c.console)
	}
}

// refuses demands a machine that spoke, found out by itself what is wrong, said so in one sentence with these words, made no
// key and turned itself off.
func (c course) refuses(t *testing.T, words ...string) {
	t.Helper()
	if c.verified || !c.hello || len(c.other) > 0 || c.register != [32]byte{} {
		t.Errorf("verified %v, hello %v, messages %q, register %x", c.verified, c.hello, c.other, c.register)
	}
	for _, word := range append(words, "kettled stopped: ") {
		if !strings.Contains(c.outcome, word) {
			t.Errorf("want %q in the end message, got %q", word, c.outcome)
		}
	}
	c.says(t, c.outcome)
}

// silent demands a machine that never spoke to its launcher, and said these words on the serial line before it turned itself
// off.
func (c course) silent(t *testing.T, words string) {
	t.Helper()
	if c.hello || c.verified || c.register != [32]byte{} {
		t.Errorf("hello %v, verified %v, register %x", c.hello, c.verified, c.register)
	}
	c.says(t, words)
}

// says demands one sentence of kettled on the serial line.
func (c course) says(t *testing.T, words string) {
	t.Helper()
	if strings.Count(c.console, "kettled: ") != 1 || !strings.Contains(c.console, words) || !strings.Contains(c.console, "; powering off") {
		t.Errorf("want one sentence with %q on the console, got %q", words, c.console)
	}
}
