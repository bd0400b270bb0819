// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/boot"
)

// launches says which machines reference values are computed for.
type launches struct {
	platforms, vmms, vcpuTypes []string
	vcpus                      []int
	memory                     []uint // MiB
	features                   string
	firmware, variables        string // of UEFI, for the simulator's boot from a disk
}

func (l launches) check() error {
	if len(l.platforms) == 0 {
		return cli.Usagef("--platform is required: which machines the image may be launched on")
	}
	for _, p := range l.platforms {
		if !slices.Contains([]string{platformSNP, platformTDX, platformTPM, platformSim}, p) {
			return cli.Usagef("--platform %.20q: want snp, tdx, tpm or sim", p)
		}
	}
	if slices.Contains(l.platforms, platformSNP) && len(l.vcpus) == 0 {
		return cli.Usagef("--platform snp needs --vcpus: the number of processors is in the digest")
	}
	if (l.firmware == "") != (l.variables == "") || l.firmware != "" && !slices.Contains(l.platforms, platformSim) {
		return cli.Usagef("--uki-firmware and --uki-variables belong together, and to --platform sim")
	}
	return nil
}

// reference computes the reference values of an image: what it is, and what its launches measure.
func (f *imageFolder) reference(ctx context.Context, l launches, progress *cli.Progress) ([]statement.ReferenceValue, error) {
	values := f.components()
	base := measureFlags{manifest: filepath.Join(f.dir, statement.ImageManifest), set: func(string) bool { return false }}
	parts, err := base.parts()
	if err != nil {
		return nil, err
	}
	parts.progress = progress
	for _, p := range l.platforms {
		progress.Say("predicting what %s measures", p)
		var more []statement.ReferenceValue
		var err error
		switch p {
		case platformSNP:
			more, err = l.snp(ctx, parts)
		case platformSim:
			more, err = f.launchSim(ctx, l, parts)
		case platformTDX:
			more, err = f.registers(ctx, l, parts, boot.TDX)
		case platformTPM:
			more, err = f.registers(ctx, l, parts, boot.TPM)
		}
		if err != nil {
			return nil, fmt.Errorf("computing the reference values of platform %s: %w", p, err)
		}
		values = append(values, more...)
	}
	return once(values), nil
}

// components gives what the image consists of.
func (f *imageFolder) components() []statement.ReferenceValue {
	m := f.manifest
	value := func(component, name, digest string) statement.ReferenceValue {
		return statement.ReferenceValue{Conditions: statement.Conditions{Component: component}, Name: name, Key: "sha256", Value: digest}
	}
	out := []statement.ReferenceValue{
		value(statement.ComponentCommandLine, "kernel command line", measure.CommandLine(m.CommandLine).String()),
		value(statement.ComponentRootHash, "dm-verity root hash", m.Verity.RootHash.String()),
	}
	for _, c := range m.Components {
		name := c.Path
		if c.Version != "" {
			name += " " + c.Version
		}
		out = append(out, value(c.Name, name, c.SHA256.String()))
	}
	return out
}

func (l launches) snp(ctx context.Context, p imageParts) ([]statement.ReferenceValue, error) {
	vmms := l.vmms
	if len(vmms) == 0 {
		vmms = []string{string(measure.QEMU)}
	}
	var out []statement.ReferenceValue
	for _, vmm := range vmms {
		f := measureFlags{vmm: vmm, vcpus: l.vcpus, vcpuTypes: l.vcpuTypes, features: l.features}
		if vmm != string(measure.QEMU) && vmm != string(measure.GCE) {
			f.vcpuTypes = nil // it is not in the digest
		}
		values, err := f.measureSNP(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			out = append(out, statement.ReferenceValue{
				Conditions: statement.Conditions{
					Platform: statement.ReferenceSNP, Boot: statement.BootDirect, VMM: vmm, VCPUs: v.VCPUs, VCPUType: v.VCPUType, GuestFeatures: strings.ToLower(l.features),
				},
				Name: "launch digest", Key: statement.KeySNPMeasurement, Value: v.Digest,
			})
		}
	}
	return out, nil
}

// launchSim gives the value of a direct boot, and of one from the disk where firmware and variables are named for it.
func (f *imageFolder) launchSim(ctx context.Context, l launches, p imageParts) ([]statement.ReferenceValue, error) {
	values, err := (measureFlags{}).measureSim(ctx, p)
	if err != nil {
		return nil, err
	}
	out := []statement.ReferenceValue{simValue(statement.BootDirect, values[0].Digest)}
	if l.firmware == "" {
		return out, nil
	}
	uki, err := measureUKIFiles(ctx, p.progress, ukiFiles{l.firmware, l.variables, f.dir, f.manifest})
	if err != nil {
		return nil, err
	}
	digest := measure.SimUKI(uki)
	return append(out, simValue(statement.BootUKI, hex.EncodeToString(digest[:]))), nil
}

func simValue(way, digest string) statement.ReferenceValue {
	return statement.ReferenceValue{
		Conditions: statement.Conditions{Platform: statement.ReferenceSim, Boot: way},
		Name:       "launch digest", Key: statement.KeySimMeasurement, Value: digest,
	}
}

// registers gives the values of both ways to boot, of each variant of the host's software.
func (f *imageFolder) registers(ctx context.Context, l launches, p imageParts, t boot.Target) ([]statement.ReferenceValue, error) {
	var out []statement.ReferenceValue
	if t == boot.TDX {
		values, err := (measureFlags{}).measureTDX(ctx, imageParts{firmware: p.firmware, progress: p.progress})
		if err != nil {
			return nil, err
		}
		out = append(out, registerValues(values, statement.ReferenceTDX, "", "")...)
	}
	platform := map[boot.Target]string{boot.TDX: statement.ReferenceTDX, boot.TPM: statement.ReferenceTPM}[t]
	for _, memory := range append([]uint{0}, l.memory...) {
		values, err := (measureFlags{memory: uint64(memory)}).bootDirect(ctx, p, t)
		if err != nil {
			return nil, err
		}
		out = append(out, registerValues(values, platform, statement.BootDirect, "")...)
	}
	for _, way := range []struct {
		loader, variant string
		secure          bool
	}{{"disk", "disk", false}, {"disk", "disk-secure-boot", true}, {"qemu", "qemu", false}, {"qemu", "qemu-secure-boot", true}} {
		flags := measureFlags{uki: f.path(f.manifest.Files.UKI), loader: way.loader, secureBoot: way.secure}
		if t == boot.TDX && way.loader == "disk" {
			flags.disk = filepath.Join(f.dir, imageDisk)
		}
		values, err := flags.bootUKI(ctx, t)
		if err != nil {
			return nil, err
		}
		out = append(out, registerValues(values, platform, statement.BootUKI, way.variant)...)
	}
	return out, nil
}

// registerValues turns predicted registers into reference values.
func registerValues(values []measurement, platform, way, variant string) []statement.ReferenceValue {
	var out []statement.ReferenceValue
	for _, v := range values {
		c := statement.Conditions{Platform: platform, Boot: way, Register: v.Register, Variant: v.Variant}
		if variant != "" {
			c.Variant = variant
		}
		key := statement.KeyTDXMRTD
		if n, ok := strings.CutPrefix(v.Register, "rtmr"); ok {
			key = statement.KeyTDXRTMR + n
		} else if n, ok := strings.CutPrefix(v.Register, "pcr"); ok {
			key = statement.KeyTPMPCR + n
		}
		out = append(out, statement.ReferenceValue{Conditions: c, Name: v.Register, Key: key, Value: v.Digest})
	}
	return out
}

// once drops a value that stands there already under the same conditions, whatever variant it was called.
func once(values []statement.ReferenceValue) []statement.ReferenceValue {
	var out []statement.ReferenceValue
	seen := map[statement.ReferenceValue]bool{}
	for _, v := range values {
		key := v
		key.Name, key.Conditions.Variant = "", ""
		if !seen[key] {
			seen[key] = true
			out = append(out, v)
		}
	}
	return out
}
