// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/image/measure"
)

// described reads the image's manifest and demands that its measured configuration is the one of the settings.
func (f *runFlags) described(p *place) (*image.Manifest, error) {
	data, err := os.ReadFile(filepath.Join(f.image, image.ManifestName))
	if err != nil {
		return nil, cli.Usagef("--image: %w; scripts/build-image --output makes such a folder", err)
	}
	m, err := image.Parse(data)
	if err != nil {
		return nil, cli.Usagef("--image: %w", err)
	}
	if _, err := os.Stat(filepath.Join(f.image, image.DiskFile)); err != nil {
		return nil, cli.Usagef("--image: %w; kettle image build --format raw makes it, and kettle image attest --disk puts the image's bundle into it", err)
	}
	line, err := image.ParseCommandLine(m.CommandLine)
	if err != nil {
		return nil, cli.Usagef("--image: %w", err)
	}
	if got := image.SHA256(p.config.Digest()); got != line.Config {
		return nil, cli.Usagef("the image was made with another configuration (%s) than --settings has (%s): name the folder that it was made with, or make it again", line.Config, got)
	}
	return m, nil
}

// start starts the machine and demands that it is the one that the manifest describes.
func (a *app) start(ctx context.Context, f *runFlags, p *place, m *image.Manifest, folder *dispatch.Folder) (machine, error) {
	authority, err := sim.LoadAuthority(f.simulator)
	if err != nil {
		return nil, cli.Usagef("--simulator: %w; kettle-dispatch simulator makes such a folder", err)
	}
	file := func(name string) string { return filepath.Join(f.image, name) }
	vm, err := a.launch(ctx, launch.Config{
		Firmware: file(m.Files.Firmware.Name), Kernel: file(m.Files.Kernel.Name), Initrd: file(m.Files.Initrd.Name), Disk: file(image.DiskFile),
		CommandLine: m.CommandLine, MemoryMiB: f.memory, CPUs: f.cpus, Acceleration: launch.Auto, Forwards: p.forwards, Console: folder.Console(), Folder: folder.Machine(),
		NewProcessor: func(digest [48]byte) (launch.Processor, error) { return authority.NewProcessor(digest, time.Now()) },
	})
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, launch.ErrNoKVM) {
		return nil, &unsupportedError{err}
	}
	if err != nil {
		return nil, err
	}
	want, got := measure.Sim(measure.Manifest(m)), vm.LaunchDigest()
	if got != want {
		vm.Kill()
		_ = vm.Wait() // it was killed
		_ = vm.Control().Close()
		return nil, &refusal.Refusal{
			Link: "image", Code: refusal.Measurement, Want: hex.EncodeToString(want[:]), Got: hex.EncodeToString(got[:]),
			Next: "A file in " + f.image + " is not the one that its manifest names. Make the image again.",
		}
	}
	return vm, nil
}

// unsupportedError says that this host lacks what a launch needs.
type unsupportedError struct{ err error }

// Error gives the fault.
func (e *unsupportedError) Error() string { return e.err.Error() }

// Unwrap gives the fault.
func (e *unsupportedError) Unwrap() error { return e.err }

// Unsupported gives the error its exit code.
func (e *unsupportedError) Unsupported() bool { return true }
