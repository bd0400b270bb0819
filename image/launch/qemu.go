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
)

// arguments gives QEMU's command line without its name. Every device is written out: -nodefaults.
func arguments(c *Config, s *staged, accel Acceleration, socat string) []string {
	// The processor model is written out so that a guest does not change with the host that it runs on. Emulated AVX2
	// makes SHA-256 slower than plain integer code, and emulated BMI2 kills apt (QEMU 7.2: SIGILL in its hashes).
	accelerator, cpu := "tcg,thread=multi", "max,-avx2,-bmi2"
	if accel == KVM {
		accelerator, cpu = "kvm", "host"
	}
	args := []string{
		"-name", "kettle", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-sandbox", sandbox(c),
		"-machine", "q35,smm=off,hpet=off", "-accel", accelerator, "-cpu", cpu,
		"-m", strconv.Itoa(c.MemoryMiB) + "M", "-smp", strconv.Itoa(c.CPUs),
		"-bios", s.path("firmware"), "-kernel", s.path("kernel"), "-initrd", s.path("initrd"), "-append", c.CommandLine,
		"-add-fd", fmt.Sprintf("fd=%d,set=1", consoleFD),
		"-chardev", "file,id=console,path=/dev/fdset/1,append=on", "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
		"-chardev", fmt.Sprintf("socket,id=control,fd=%d", controlFD),
		"-device", "virtserialport,chardev=control,name=" + image.ControlPort,
		"-chardev", fmt.Sprintf("socket,id=quote,fd=%d", quoteFD),
		"-device", "virtserialport,chardev=quote,name=" + image.QuotePort,
		"-drive", "if=none,id=root,format=raw,readonly=on,file.locking=off,file=" + escape(c.Root),
		"-device", "virtio-blk-pci,drive=root,serial=" + image.RootSerial,
	}
	if len(c.Forwards) == 0 {
		return args
	}
	netdev := "user,id=net,restrict=on,ipv6=off"
	for _, f := range c.Forwards {
		netdev += fmt.Sprintf(",guestfwd=tcp:%s-cmd:%s STDIO TCP4:%s", f.Guest, escape(socat), f.Host)
	}
	return append(args, "-netdev", netdev, "-device", "virtio-net-pci,netdev=net,romfile=")
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
