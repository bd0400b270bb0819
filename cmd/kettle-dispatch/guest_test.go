// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

// double is a VM without a machine: a goroutine that speaks the guest's side and registers a real runner at the stand-in
// for GitHub. $KETTLE_TEST_VM says what becomes of it.
type double struct {
	host, inside net.Conn
	digest       [48]byte
	done         chan struct{}
	once         sync.Once
	err          error
}

func launchDouble(_ context.Context, c launch.Config) (machine, error) {
	if os.Getenv("KETTLE_TEST_VM") == "no-qemu" {
		return nil, errors.Join(errors.New("finding QEMU"), exec.ErrNotFound)
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	d := &double{done: make(chan struct{})}
	l := measure.Launch{CommandLine: measure.CommandLine(c.CommandLine)}
	for path, digest := range map[string]*image.SHA256{c.Firmware: &l.Firmware, c.Kernel: &l.Kernel, c.Initrd: &l.Initrd} {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		*digest = sha256.Sum256(data)
	}
	d.digest = measure.Sim(l)
	d.host, d.inside = net.Pipe()
	go func() {
		if err := d.live(context.Background()); err != nil { //nolint:usetesting // it is a VM.
			d.end(err)
		}
	}()
	return d, nil
}

func (d *double) Control() net.Conn      { return d.host }
func (d *double) Done() <-chan struct{}  { return d.done }
func (d *double) LaunchDigest() [48]byte { return d.digest }
func (d *double) Kill()                  { d.end(context.Canceled) }

func (d *double) Wait() error {
	<-d.done
	return d.err
}

func (d *double) end(err error) {
	d.once.Do(func() {
		d.err = err
		_ = d.inside.Close()
		close(d.done)
	})
}

// live is the guest.
func (d *double) live(ctx context.Context) error {
	g := &guest{Guest: channel.NewGuest(d.inside)}
	if err := g.Send(ctx, channel.Hello{Program: "double"}); err != nil {
		return err
	}
	a, err := g.Admission(ctx)
	if err != nil {
		return err
	}
	place, err := (&placeFlags{
		settings: os.Getenv("SETTINGS"), credential: os.Getenv("CREDENTIAL"), forwards: []string{os.Getenv("FORWARD")},
	}).open()
	if err != nil {
		return err
	}
	if a.Credential.Reveal() != place.secret.Reveal() {
		return errors.New("another credential arrived")
	}
	name := &runner.Named{Name: a.Prefix + "-0000000a"}
	if err := errors.Join(g.enter(ctx, runner.Boot, nil), g.enter(ctx, runner.Registering, name)); err != nil {
		return err
	}
	reg, err := place.client.Register(ctx, name.Name)
	if err != nil {
		return err
	}
	name.ID = reg.ID
	if err := errors.Join(g.enter(ctx, runner.Registering, name), g.enter(ctx, runner.Listening, nil)); err != nil {
		return err
	}
	return d.fate(ctx, g, place, reg)
}

// fate is what becomes of a VM that listens.
func (d *double) fate(ctx context.Context, g *guest, p *place, reg runner.Registration) error {
	finish := func(states ...runner.State) error {
		if err := p.client.Remove(ctx, reg); err != nil {
			return err
		}
		for _, s := range append(states, runner.Removed) {
			if err := g.enter(ctx, s, nil); err != nil {
				return err
			}
		}
		if err := g.Send(ctx, channel.End{Outcome: "The job has ended and its record is delivered."}); err != nil {
			return err
		}
		d.end(nil)
		return nil
	}
	switch os.Getenv("KETTLE_TEST_VM") {
	case "finish":
		return finish(runner.Claimed, runner.Running, runner.Finished)
	case "broken":
		_, err := d.inside.Write([]byte("what now?"))
		return err
	case "idle":
		if _, err := g.Next(ctx); err != nil {
			return err
		}
		return finish(runner.IdleExpired)
	case "busy": // it hears, and has its job for ever
		if err := errors.Join(g.enter(ctx, runner.Claimed, nil), g.enter(ctx, runner.Running, nil)); err != nil {
			return err
		}
		if _, err := g.Next(ctx); err != nil {
			return err
		}
		time.Sleep(time.Hour)
	}
	return errors.New("the machine lost its power")
}

// guest writes a journal.
type guest struct {
	*channel.Guest
	seq  int
	last binding.Digest
}

func (g *guest) enter(ctx context.Context, s runner.State, named *runner.Named) error {
	line, err := json.Marshal(runner.Entry{Seq: g.seq, At: time.Now().UTC(), State: s, Runner: named, Previous: g.last})
	if err != nil {
		return err
	}
	err = g.Send(ctx, channel.Journal{Seq: int64(g.seq), Line: string(line)})
	g.seq, g.last = g.seq+1, binding.Sum(line)
	return err
}
