// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/boot"
)

// The names of variants, see the command's help.
const (
	variantAsFile  = "kernel-as-file"
	variantPatched = "kernel-patched"
	variantFirst   = "initrd-first"
	variantLast    = "initrd-last"
)

func (f measureFlags) measureSim(ctx context.Context, p imageParts) ([]measurement, error) {
	if f.uki != "" {
		return f.measureSimUKI(ctx, p)
	}
	var l measure.Launch
	var err error
	if l.Firmware, err = p.firmware.digest(ctx, p.progress); err != nil {
		return nil, err
	}
	if l.Kernel, err = p.kernel.digest(ctx, p.progress); err != nil {
		return nil, err
	}
	if l.Initrd, err = p.initrd.digest(ctx, p.progress); err != nil {
		return nil, err
	}
	l.CommandLine = measure.CommandLine(p.cmdline)
	digest := measure.Sim(l)
	return []measurement{value("measurement", "", digest[:])}, nil
}

func (f measureFlags) measureSimUKI(ctx context.Context, p imageParts) ([]measurement, error) {
	var l measure.UKILaunch
	for _, part := range []struct {
		file imageFile
		to   *image.SHA256
	}{{p.firmware, &l.Firmware}, {imageFile{path: f.variables}, &l.Variables}, {imageFile{path: f.uki}, &l.UKI}} {
		var err error
		if *part.to, err = part.file.digest(ctx, p.progress); err != nil {
			return nil, err
		}
	}
	digest := measure.SimUKI(l)
	return []measurement{value("measurement", "", digest[:])}, nil
}

func (f measureFlags) measureSNP(ctx context.Context, p imageParts) ([]measurement, error) {
	features, err := strconv.ParseUint(f.features, 0, 64)
	if err != nil {
		return nil, cli.Usagef("--guest-features %.40q: want a number as 0x1", f.features)
	}
	if len(f.vcpus) == 0 {
		return nil, cli.Usagef("--platform snp needs --vcpus: the number of processors is in the digest")
	}
	if i := slices.IndexFunc(f.vcpus, func(n int) bool { return n < 1 || n > measure.MaxVCPUs }); i >= 0 {
		return nil, cli.Usagef("--vcpus %d: want 1 to %d", f.vcpus[i], measure.MaxVCPUs)
	}
	l := measure.SNPLaunch{VMM: measure.VMM(f.vmm), GuestFeatures: features}
	if !slices.Contains(measure.VMMs(), l.VMM) {
		return nil, cli.Usagef("--vmm %.20q: want qemu, ec2, ec2-v1 or gce", f.vmm)
	}
	cpus := []measure.CPU{}
	for _, name := range f.vcpuTypes {
		c, err := measure.ParseCPU(name)
		if err != nil {
			return nil, cli.Usagef("--vcpu-type: %w", err)
		}
		cpus = append(cpus, c)
	}
	if len(cpus) == 0 {
		if l.VMM == measure.QEMU {
			return nil, cli.Usagef("--platform snp needs --vcpu-type: the type of the processors is in the digest")
		}
		cpus = append(cpus, measure.CPU{}) // the clouds' digests do not depend on it
	}
	firmware, err := p.ovmf(ctx)
	if err != nil {
		return nil, err
	}
	if l.Direct, err = p.hashes(ctx); err != nil {
		return nil, err
	}
	if l.Firmware, err = measure.NewSNPFirmware(firmware); err != nil {
		return nil, err
	}
	table, err := measure.SNPTable(l, f.vcpus, cpus)
	if err != nil {
		return nil, err
	}
	values := make([]measurement, len(table))
	for i, v := range table {
		values[i] = value("measurement", "", v.Digest[:])
		values[i].VCPUs, values[i].VCPUType = v.VCPUs, v.CPU.Name
	}
	return values, nil
}

func (f measureFlags) measureTDX(ctx context.Context, p imageParts) ([]measurement, error) {
	firmware, err := p.ovmf(ctx)
	if err != nil {
		return nil, err
	}
	var values []measurement
	for _, order := range measure.PageOrders() {
		digest, err := measure.MRTD(firmware, order)
		if err != nil {
			return nil, err
		}
		values = append(values, value("mrtd", string(order), digest[:]))
	}
	more, err := f.boots(ctx, p, boot.TDX)
	return append(values, more...), err
}

func (f measureFlags) measureTPM(ctx context.Context, p imageParts) ([]measurement, error) {
	return f.boots(ctx, p, boot.TPM)
}

// boots predicts the registers of the kind of boot that was asked for; none if only firmware was named.
func (f measureFlags) boots(ctx context.Context, p imageParts, t boot.Target) ([]measurement, error) {
	switch {
	case f.uki != "":
		return f.bootUKI(ctx, t)
	case p.kernel.path != "":
		return f.bootDirect(ctx, p, t)
	}
	return nil, nil
}

func (f measureFlags) bootUKI(ctx context.Context, t boot.Target) ([]measurement, error) {
	u := boot.UKI{Loader: boot.Disk, SecureBoot: f.secureBoot}
	if f.loader == "qemu" {
		u.Loader = boot.Handed
	}
	var err error
	if u.Image, err = (imageFile{path: f.uki}).read(ctx, maxImageFile); err != nil {
		return nil, err
	}
	if f.disk != "" {
		if u.GPT, err = readStart(f.disk, boot.GPTSize); err != nil {
			return nil, err
		}
	}
	l, err := u.Log(t)
	if err != nil {
		return nil, err
	}
	return registers(l, t, map[string]string{})
}

// bootDirect predicts each variant of a direct boot once.
func (f measureFlags) bootDirect(ctx context.Context, p imageParts, t boot.Target) ([]measurement, error) {
	d := boot.Direct{CommandLine: p.cmdline, Option: boot.InitrdFirst}
	var err error
	if d.Kernel, err = p.kernel.read(ctx, maxImageFile); err != nil {
		return nil, err
	}
	if p.initrd.path != "" {
		if d.Initrd, err = p.initrd.read(ctx, maxImageFile); err != nil {
			return nil, err
		}
	}
	loader, options := "pcr4", "pcr9"
	if t == boot.TDX {
		loader, options = "rtmr1", "rtmr2"
	}
	names := map[string]string{loader: variantAsFile}
	if len(d.Initrd) > 0 {
		names[options] = variantFirst
	}
	l, err := d.Log(t)
	if err != nil {
		return nil, err
	}
	values, err := registers(l, t, names)
	if err != nil {
		return nil, err
	}
	add := func(register, variant string) error {
		l, err := d.Log(t)
		if err != nil {
			return err
		}
		other, err := registers(l, t, map[string]string{register: variant})
		at := slices.IndexFunc(values, func(v measurement) bool { return v.Register == register })
		for _, v := range other {
			if v.Register == register {
				values = slices.Insert(values, at+1, v)
			}
		}
		return err
	}
	if len(d.Initrd) > 0 {
		d.Option = boot.InitrdLast
		err = add(options, variantLast)
	}
	if err == nil && f.memory > 0 {
		if f.memory > 1<<24 {
			return nil, cli.Usagef("--memory %d: want MiB, at most %d", f.memory, 1<<24)
		}
		d.Memory = f.memory << 20
		err = add(loader, variantPatched)
	}
	return values, err
}

// registers gives the registers that an image determines, with the names of their variants.
func registers(l *boot.Log, t boot.Target, names map[string]string) ([]measurement, error) {
	var values []measurement
	if t == boot.TDX {
		for _, i := range []int{1, 2} {
			digest, err := l.RTMR(i)
			if err != nil {
				return nil, err
			}
			register := "rtmr" + strconv.Itoa(i)
			values = append(values, value(register, names[register], digest[:]))
		}
		return values, nil
	}
	for _, i := range []int{4, 9, 11, 12} {
		digest, err := l.PCR(i)
		if err != nil {
			return nil, err
		}
		register := "pcr" + strconv.Itoa(i)
		values = append(values, value(register, names[register], digest[:]))
	}
	return values, nil
}

// readStart reads the first size bytes of a regular file.
func readStart(path string, size int) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("reading the start of %s: %w", path, err)
	}
	return b, nil
}
