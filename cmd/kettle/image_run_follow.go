// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/pe"
	"github.com/kettle/attest/runner/channel"
)

const runSchema = "kettle.run/v1"

// runEvent is one line of the output with --json.
type runEvent struct {
	Schema  string  `json:"schema,omitempty"` // in the first
	Event   string  `json:"event"`            // launched, hello, phase, journal, status or end
	Seconds float64 `json:"seconds"`          // since QEMU was started

	Image        string `json:"image,omitempty"`
	Profile      string `json:"profile,omitempty"`
	Platform     string `json:"platform,omitempty"`
	Acceleration string `json:"acceleration,omitempty"`
	Measurement  string `json:"measurement,omitempty"` // of the simulated processor

	Program string          `json:"program,omitempty"`
	Phase   string          `json:"phase,omitempty"`
	Elapsed float64         `json:"elapsed,omitempty"` // seconds since the guest's kernel started, by the guest
	Seq     *int64          `json:"seq,omitempty"`
	Line    json.RawMessage `json:"line,omitempty"`
	State   string          `json:"state,omitempty"`
	Outcome string          `json:"outcome,omitempty"`
}

// runLog shows what a machine says.
type runLog struct {
	io       *cli.IO
	progress *cli.Progress
	json     bool
	start    time.Time
}

func newRunLog(io *cli.IO, asJSON bool, start time.Time) *runLog {
	return &runLog{io: io, progress: io.Progress(), json: asJSON, start: start}
}

// expected demands that what was measured is what was predicted; zeros where nobody shall look.
func expected(vm *launch.VM, want [48]byte) error {
	if got := vm.LaunchDigest(); want != [48]byte{} && got != want {
		return &refusal.Refusal{
			Link: "launch", Code: refusal.Measurement, Want: hex.EncodeToString(want[:]), Got: hex.EncodeToString(got[:]),
			Next: "make the disk again: what firmware starts from it is not the image's",
		}
	}
	return nil
}

// predicted is the simulator's launch digest of what the manifest names, with the firmware that was asked for; zeros where
// nobody shall look.
func (a *app) predicted(ctx context.Context, f runFlags, dir string, m *image.Manifest, c launch.Config) (digest [48]byte, err error) {
	if f.unverified || f.platform != platformSim {
		return digest, nil
	}
	progress := a.io.Progress()
	defer progress.Done()
	if c.UKI != nil {
		l, err := measureUKIFiles(ctx, progress, ukiFiles{c.Firmware, c.UKI.Variables, dir, m})
		if err != nil {
			return digest, err
		}
		return measure.SimUKI(l), nil
	}
	l := measure.Manifest(m)
	if f.firmware != "" {
		if l.Firmware, err = (imageFile{path: f.firmware}).digest(ctx, progress); err != nil {
			return digest, err
		}
	}
	return measure.Sim(l), nil
}

// ukiFiles are the files of a boot from the disk.
type ukiFiles struct {
	firmware, variables string
	dir                 string // of the image
	manifest            *image.Manifest
}

// measureUKIFiles hashes firmware and variables, and gives them with the image's UKI: the signed one beside it, if there is one.
func measureUKIFiles(ctx context.Context, progress *cli.Progress, f ukiFiles) (l measure.UKILaunch, err error) {
	if l.Firmware, err = (imageFile{path: f.firmware}).digest(ctx, progress); err != nil {
		return l, err
	}
	if l.Variables, err = (imageFile{path: f.variables}).digest(ctx, progress); err != nil {
		return l, err
	}
	l.UKI, err = ukiOnDisk(ctx, f.dir, f.manifest)
	return l, err
}

// signedUKI is the file of a UKI that was signed for Secure Boot, which then is the one on the disk.
const signedUKI = "uki.signed.efi"

// ukiOnDisk gives the digest of the UKI that the image's disk was made with. A signed one has to be the manifest's, but for the
// signature.
func ukiOnDisk(ctx context.Context, dir string, m *image.Manifest) (image.SHA256, error) {
	signed, err := imageFile{path: filepath.Join(dir, signedUKI)}.read(ctx, maxImageFile)
	if errors.Is(err, fs.ErrNotExist) {
		return m.Files.UKI.SHA256, nil
	}
	if err != nil {
		return image.SHA256{}, err
	}
	plain, err := imageFile{filepath.Join(dir, m.Files.UKI.Name), &m.Files.UKI}.read(ctx, maxImageFile)
	if err != nil {
		return image.SHA256{}, err
	}
	var digests [2][]byte
	for i, b := range [][]byte{signed, plain} {
		p, err := pe.Parse(b)
		if err != nil {
			return image.SHA256{}, err
		}
		digests[i] = p.Authenticode(sha256.New())
	}
	if !bytes.Equal(digests[0], digests[1]) {
		return image.SHA256{}, &refusal.Refusal{
			Link: linkFiles, Code: refusal.Binding, Want: fmt.Sprintf("%s with the Authenticode digest of %s, %x", signedUKI, m.Files.UKI.Name, digests[1]),
			Got: hex.EncodeToString(digests[0]), Next: "sign the image's UKI again",
		}
	}
	return sha256.Sum256(signed), nil
}

// follow shows the machine's messages to its end, and gives an error unless it ended well.
func (l *runLog) follow(ctx context.Context, vm *launch.VM, first runEvent) error {
	first.Schema, first.Event = runSchema, "launched"
	if digest := vm.LaunchDigest(); first.Platform == platformSim {
		first.Measurement = hex.EncodeToString(digest[:])
	}
	if err := l.show(first); err != nil {
		return err
	}
	defer l.progress.Done()
	guest := channel.NewLauncher(vm.Control())
	last := "it has not spoken yet"
	for {
		stop := l.ticking(ctx, vm, last)
		message, err := guest.Next(ctx)
		stop()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return l.silent(ctx, vm, err)
		}
		if _, ok := message.(channel.Hello); ok {
			if err := admit(ctx, guest); err != nil {
				return err
			}
		}
		event := l.event(message)
		if err := l.show(event); err != nil {
			return err
		}
		last = strings.TrimSpace(event.Phase + " " + event.State)
		if strings.HasPrefix(event.Outcome, stopped) {
			return fmt.Errorf("the machine stopped: %s", strings.TrimPrefix(event.Outcome, stopped))
		}
	}
}

// stopped begins the last word of a machine that ended before its time.
const stopped = "kettled stopped: "

// silent explains a channel that ended before the machine said how it went.
func (l *runLog) silent(ctx context.Context, vm *launch.VM, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	select {
	case <-vm.Done():
		return errors.Join(errors.New("the machine ended without a last word; the file of --console has what it said on the serial line"), vm.Wait())
	case <-time.After(time.Second):
		return err
	}
}

// ticking shows on a terminal what is waited for.
func (l *runLog) ticking(ctx context.Context, vm *launch.VM, last string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-vm.Done():
				return
			case <-tick.C:
				l.progress.Say("%6.0f s  %s", time.Since(l.start).Seconds(), last)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		l.progress.Done()
	}
}

// admit gives the machine the prefix of its runners' names, and no credential.
func admit(ctx context.Context, guest *channel.Launcher) error {
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("choosing a prefix: %w", err)
	}
	return guest.Admit(ctx, channel.Admission{Prefix: "kettle-" + hex.EncodeToString(id[:])})
}

func (l *runLog) event(message channel.Message) runEvent {
	switch m := message.(type) {
	case channel.Hello:
		return runEvent{Event: "hello", Program: m.Program}
	case channel.Phase:
		return runEvent{Event: "phase", Phase: m.Name, Elapsed: m.Elapsed.Seconds()}
	case channel.Journal:
		line := json.RawMessage(m.Line)
		if !json.Valid(line) { // it is the guest's
			line, _ = json.Marshal(m.Line)
		}
		return runEvent{Event: "journal", Seq: &m.Seq, Line: line}
	case channel.Status:
		return runEvent{Event: "status", State: m.State, Elapsed: m.Elapsed.Seconds()}
	case channel.End:
		return runEvent{Event: "end", Outcome: m.Outcome}
	}
	return runEvent{Event: "unknown"}
}

// show prints one event.
func (l *runLog) show(e runEvent) error {
	e.Seconds = float64(time.Since(l.start).Milliseconds()) / 1000
	var err error
	if l.json {
		var b []byte
		if b, err = json.Marshal(e); err == nil {
			_, err = fmt.Fprintf(l.io.Out, "%s\n", b)
		}
	} else {
		_, err = fmt.Fprintf(l.io.Out, "%7.1f s  %-9s %s\n", e.Seconds, e.Event, e.text())
	}
	if err != nil {
		return fmt.Errorf("writing output: %w", err)
	}
	return nil
}

func (e runEvent) text() string {
	switch e.Event {
	case "launched":
		text := fmt.Sprintf("%s, %s on %s (%s)", e.Image, e.Profile, e.Platform, e.Acceleration)
		if e.Measurement != "" {
			text += ", measured " + e.Measurement
		}
		return cli.Clean(text)
	case "phase":
		return fmt.Sprintf("%s %s", cli.Clean(e.Phase), time.Duration(e.Elapsed*float64(time.Second)).Round(time.Millisecond))
	case "journal":
		return cli.Clean(string(e.Line))
	}
	return cli.Clean(e.Program + e.State + e.Outcome)
}
