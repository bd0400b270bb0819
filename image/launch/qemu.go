// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/kettle/attest/image"
)

// File descriptors that QEMU inherits, in the order of [exec.Cmd.ExtraFiles].
const (
	controlFD = 3
	quoteFD   = 4
	consoleFD = 5
	tpmFD     = 6 // where there is one
)

// ports says how QEMU reaches who launches it.
type ports struct {
	console             []string // arguments that define the character device of that name
	control, quote, tpm string   // the ends of character devices
}

// inherited are descriptors, named are files for people who start QEMU by hand.
var (
	inherited = ports{
		console: []string{"-add-fd", fmt.Sprintf("fd=%d,set=1", consoleFD), "-chardev", "file,id=console,path=/dev/fdset/1,append=on"},
		control: fmt.Sprintf("fd=%d", controlFD), quote: fmt.Sprintf("fd=%d", quoteFD), tpm: fmt.Sprintf("fd=%d", tpmFD),
	}
	named = ports{
		console: []string{"-chardev", "file,id=console,path=console.log"},
		control: "path=control.sock,server=on,wait=off", quote: "path=quote.sock,server=on,wait=off", tpm: "path=tpm.sock",
	}
)

// arguments gives QEMU's command line without its name.
func arguments(c *Config, s *staged, accel Acceleration, socat string) []string {
	return argumentsOver(c, s, accel, socat, inherited)
}

// argumentsOver writes every device out: -nodefaults.
func argumentsOver(c *Config, s *staged, accel Acceleration, socat string, over ports) []string {
	args := []string{
		"-name", "kettle", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-sandbox", sandbox(c),
		"-m", strconv.Itoa(c.MemoryMiB) + "M", "-smp", strconv.Itoa(c.CPUs),
	}
	args = append(args, machine(c, accel)...)
	args = append(append(args, over.console...), "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=control,"+over.control, "-device", "virtserialport,chardev=control,name="+image.ControlPort)
	if c.Hardware == nil {
		args = append(args, "-chardev", "socket,id=quote,"+over.quote, "-device", "virtserialport,chardev=quote,name="+image.QuotePort)
	}
	args = append(args, bootFrom(c, s, over)...)
	args = append(args, disks(c, s)...)
	if len(c.Forwards) == 0 {
		return args
	}
	netdev := "user,id=net,restrict=on,ipv6=off"
	for _, f := range c.Forwards {
		netdev += fmt.Sprintf(",guestfwd=tcp:%s-cmd:%s STDIO TCP4:%s", f.Guest, escape(socat), f.Host)
	}
	return append(args, "-netdev", netdev, "-device", "virtio-net-pci,netdev=net,romfile=")
}

// machine is the kind of machine and of its processors. The model is written out so that a guest does not change with the host
// that it runs on. Emulated AVX2 makes SHA-256 slower than plain integer code, and emulated BMI2 kills apt (QEMU 7.2: SIGILL in
// its hashes).
func machine(c *Config, accel Acceleration) []string {
	if c.Hardware != nil {
		return c.Hardware.arguments(c.MemoryMiB)
	}
	accelerator, cpu := "tcg,thread=multi", "max,-avx2,-bmi2"
	if accel == KVM {
		accelerator, cpu = "kvm", "host"
	}
	return []string{"-machine", "q35,smm=off,hpet=off", "-accel", accelerator, "-cpu", cpu}
}

// bootFrom is what is started: the kernel, or firmware that finds it on the disk.
func bootFrom(c *Config, s *staged, over ports) []string {
	if c.UKI == nil {
		return []string{"-bios", s.path("firmware"), "-kernel", s.path("kernel"), "-initrd", s.path("initrd"), "-append", c.CommandLine}
	}
	return []string{
		"-drive", "if=pflash,unit=0,format=raw,readonly=on,file=" + escape(s.path("firmware")),
		"-drive", "if=pflash,unit=1,format=raw,file=" + escape(s.path("variables")),
		"-chardev", "socket,id=tpm," + over.tpm, "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm",
	}
}

// disks are the image's, read-only, and the job's. A disk with partitions needs no serial number: the guest finds those by
// their names.
func disks(c *Config, s *staged) []string {
	file, device := c.Root, "virtio-blk-pci,drive=root,serial="+image.RootName
	if c.Disk != "" {
		file, device = c.Disk, "virtio-blk-pci,drive=root"
	}
	if c.UKI != nil {
		file, device = s.path("disk"), device+",bootindex=0"
	}
	args := []string{"-drive", "if=none,id=root,format=raw,readonly=on,file.locking=off,file=" + escape(file), "-device", device}
	if c.Scratch != "" {
		args = append(args, "-drive", "if=none,id=scratch,format=raw,cache=unsafe,file.locking=off,file="+escape(c.Scratch),
			"-device", "virtio-blk-pci,drive=scratch,serial="+image.ScratchName)
	}
	return args
}

// sandbox is QEMU's own seccomp filter. Only a forward needs processes, which QEMU puts into sessions of their own
// (setsid, one of its "privileged" calls).
func sandbox(c *Config) string {
	spawn, privileges := "deny", "deny"
	if len(c.Forwards) > 0 {
		spawn, privileges = "allow", "allow"
	}
	return "on,obsolete=deny,elevateprivileges=" + privileges + ",spawn=" + spawn + ",resourcecontrol=deny"
}

// escape doubles commas, which end a value on QEMU's command line.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }
