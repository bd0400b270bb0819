// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/test/stage"
)

// machine is one launch of the image.
type machine struct {
	scene    *scene
	world    *world
	screen   *screen
	workflow string // the file that is dispatched for it, or what it is called where there is none
	initrd   string // the image's own, or an altered one
	line     string
	console  string
	running  chan struct{} // closed when job code runs
	state    string        // of the environment, as it says
}

// run launches the machine, hands it the registration credential, and follows it until it powers off. It gives the
// sentence that kettled ended with, and the launch digest.
func (m *machine) run(ctx context.Context) (outcome string, digest [48]byte, err error) {
	vm, err := launch.Start(ctx, launch.Config{
		Firmware: filepath.Join(m.scene.Image, "firmware.bin"), Kernel: filepath.Join(m.scene.Image, "vmlinuz"),
		Initrd: m.initrd, Disk: m.scene.Disk(), CommandLine: m.line,
		MemoryMiB: 3072, CPUs: 1, Acceleration: launch.Auto, // more than one emulated processor is unreliable before QEMU 8
		Console: m.console,
		Forwards: []launch.Forward{
			{Guest: stage.GuestGitHub(), Host: m.world.addr},
			{Guest: stage.GuestRecords(), Host: m.world.records.addr},
			{Guest: stage.GuestDispatch(), Host: m.world.dispatcher.addr},
		},
		NewProcessor: func(launchDigest [48]byte) (launch.Processor, error) {
			return m.scene.Sim.NewProcessor(launchDigest, time.Now())
		},
	})
	if err != nil {
		return "", digest, err
	}
	defer func() {
		vm.Kill()
		if werr := vm.Wait(); werr != nil && !errors.Is(werr, context.Canceled) {
			err = errors.Join(err, werr)
		}
	}()
	outcome, err = m.follow(ctx, vm)
	if err == nil {
		<-vm.Done()
	}
	return outcome, vm.LaunchDigest(), err
}

// follow speaks the launcher's side of the channel.
func (m *machine) follow(ctx context.Context, vm *launch.VM) (string, error) {
	control := vm.Control()
	defer control.Close()
	l := channel.NewLauncher(control)
	for {
		msg, err := l.Next(ctx)
		if err != nil {
			return "", fmt.Errorf("following the machine: %w\nconsole: %s", err, m.tail())
		}
		switch msg := msg.(type) {
		case channel.Hello:
			prefix, err := newPrefix()
			if err != nil {
				return "", err
			}
			// The launcher names the machine and gives it nothing: that is for the dispatcher, who appraises it.
			if err := l.Admit(ctx, channel.Admission{Prefix: prefix}); err != nil {
				return "", err
			}
		case channel.Status:
			m.reached(msg)
		case channel.Phase:
			m.screen.say("  · "+m.workflow+": %-18s %5.1f s after the machine's start", msg.Name, msg.Elapsed.Seconds())
		case channel.End:
			return msg.Outcome, nil
		}
	}
}

// reached shows a state that was entered, and notes that job code runs.
func (m *machine) reached(s channel.Status) {
	if s.State == m.state {
		return
	}
	m.state = s.State
	m.screen.say("  · "+m.workflow+": %-18s %5.1f s after the machine's start", s.State, s.Elapsed.Seconds())
	if s.State == "running" && m.running != nil {
		close(m.running)
		m.running = nil
	}
}

// newPrefix draws what the names of one machine's runners begin with.
func newPrefix() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	return "kettle-" + hex.EncodeToString(b[:]), nil
}

func (m *machine) tail() string {
	text, err := os.ReadFile(m.console)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	return string(text[max(0, len(text)-most):])
}

// altered makes a copy of an initrd that does the same and is not the same: one archive member more.
func altered(from, to string) error {
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(filepath.Clean(to))
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	// The kernel unpacks archives one after another and skips zeros between them (Documentation/driver-api/early-userspace).
	_, werr := out.Write(make([]byte, 512))
	return errors.Join(err, werr, out.Close())
}
