// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/image/idblock"
)

// onHardware gives a configuration of a launch on a platform.
func onHardware(t *testing.T, p Platform) Config {
	t.Helper()
	c := config(t)
	c.Root, c.Disk = "", c.Root
	c.NewProcessor = nil
	c.Hardware = &Hardware{Platform: p}
	if p == SNP {
		c.Hardware.CPU, c.Hardware.Policy = "EPYC-Milan", GuestPolicy
	} else {
		c.Hardware.Quotes = "/run/qgs.socket"
	}
	return c
}

func TestCommand(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := idblock.Sign(idblock.Block{LaunchDigest: [48]byte{1}, Policy: GuestPolicy}, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		platform Platform
		block    *idblock.Signed
		want     []string
		not      string
	}{
		{SNP, nil, []string{
			"-accel kvm", "-cpu EPYC-Milan", "confidential-guest-support=tee", "memory-backend-memfd,id=ram,size=128M",
			"sev-snp-guest,id=tee,policy=0x30000,cbitpos=51,reduced-phys-bits=1,kernel-hashes=on -serial",
		}, "id-block"},
		{SNP, block, []string{"kernel-hashes=on,id-block=", ",id-auth="}, "author-key-enabled=on"},
		{TDX, nil, []string{
			"-cpu host", "kernel-irqchip=split", `"qom-type":"tdx-guest","id":"tee"`, `"quote-generation-socket":{"type":"unix","path":"/run/qgs.socket"}`,
		}, "sev-snp"},
	} {
		c := onHardware(t, tt.platform)
		c.Hardware.IDBlock = tt.block
		words, err := Command(c)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.ReplaceAll(strings.Join(words, " "), "-chardev file,id=console,path=console.log ", "")
		for _, want := range append(tt.want, "qemu-system-x86_64 ", "-kernel "+c.Kernel+" -initrd "+c.Initrd+" -append "+c.CommandLine, "-bios "+c.Firmware,
			"readonly=on,file.locking=off,file="+c.Disk, "name=dev.kettle.control", "control.sock") {
			if !strings.Contains(line, want) {
				t.Errorf("%s: want %q in %s", tt.platform, want, line)
			}
		}
		for _, foreign := range []string{tt.not, "dev.kettle.quote", "fd="} {
			if strings.Contains(line, foreign) {
				t.Errorf("%s: %q in %s", tt.platform, foreign, line)
			}
		}
	}
}

// TestAttackHardware asks for launches that let the host in, or that are none of the platform.
func TestAttackHardware(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		platform Platform
		spoil    func(*Config)
		want     string
	}{
		"debugging":           {SNP, func(c *Config) { c.Hardware.Policy |= 1 << 19 }, "debug"},
		"migration":           {SNP, func(c *Config) { c.Hardware.Policy |= 1 << 18 }, "migrate"},
		"no policy":           {SNP, func(c *Config) { c.Hardware.Policy = 0 }, "bit 17"},
		"a model of options":  {SNP, func(c *Config) { c.Hardware.CPU = "host,-rdrand" }, "processor model"},
		"no model":            {SNP, func(c *Config) { c.Hardware.CPU = "" }, "processor model"},
		"quotes of TDX":       {SNP, func(c *Config) { c.Hardware.Quotes = "/run/x" }, "quote generation"},
		"policy on TDX":       {TDX, func(c *Config) { c.Hardware.Policy = GuestPolicy }, "for SNP"},
		"no quotes":           {TDX, func(c *Config) { c.Hardware.Quotes = "qgs" }, "socket"},
		"no platform":         {TDX, func(c *Config) { c.Hardware.Platform = "sgx" }, "want snp or tdx"},
		"simulated processor": {SNP, func(c *Config) { c.NewProcessor = func([48]byte) (Processor, error) { return nil, io.EOF } }, "hardware's processor"},
		"a disk's kernel":     {SNP, func(c *Config) { c.UKI = &UKI{Variables: c.Kernel} }, "starts from the kernel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := onHardware(t, tt.platform)
			tt.spoil(&c)
			if _, err := Command(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
		})
	}
}

// TestUnsupported: a machine without the hardware says what it lacks, and leaves nothing behind.
func TestUnsupported(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for p, parameter := range map[Platform]string{SNP: "sev_snp", TDX: "tdx"} {
		if _, err := os.Stat(requirements[p].parameter); err == nil {
			t.Skipf("this machine may launch guests on %s", p)
		}
		_, err := Start(t.Context(), onHardware(t, p))
		var lacking *UnsupportedError
		if !errors.As(err, &lacking) || !lacking.Unsupported() || !strings.Contains(err.Error(), parameter) {
			t.Errorf("%s: got %v", p, err)
		}
	}
	if err := Supported(t.Context(), "sgx"); err == nil || !strings.Contains(err.Error(), "want snp or tdx") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "kettle-vm-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"QEMU emulator version 9.1.0 (Debian 1:9.1)\nCopyright": "",
		"QEMU emulator version 10.0.2":                          "",
		"QEMU emulator version 9.0.9":                           "want QEMU 9.1 or later, got 9.0",
		"QEMU emulator version 7.2.22":                          "got 7.2",
		"something else":                                        "asking QEMU",
		"version 99999.1":                                       "asking QEMU",
	} {
		err := requirements[SNP].version(SNP, []byte(said))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: want %q, got %v", said, want, err)
		}
	}
}

// TestValidateUKI: a boot from the disk has no parts beside it.
func TestValidateUKI(t *testing.T) {
	t.Parallel()
	good := config(t)
	good.UKI, good.Disk = &UKI{Variables: good.Initrd}, good.Root
	good.Kernel, good.Initrd, good.Root, good.CommandLine = "", "", "", ""
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"variables": func(c *Config) { c.UKI = &UKI{} }, "firmware": func(c *Config) { c.Firmware = "" }, "disk": func(c *Config) { c.Disk = "" },
		"kernel": func(c *Config) { c.Kernel = "k" }, "initrd": func(c *Config) { c.Initrd = "i" }, "root": func(c *Config) { c.Root = "r" },
		"command line": func(c *Config) { c.CommandLine = "quiet" },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	line := strings.Join(arguments(&good, &staged{folder: "/vm"}, TCG, ""), " ")
	for _, want := range []string{
		"if=pflash,unit=0,format=raw,readonly=on,file=/vm/firmware", "if=pflash,unit=1,format=raw,file=/vm/variables", "emulator,id=tpm", "file=/vm/disk",
		"bootindex=0", "name=dev.kettle.quote",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("want %q in %s", want, line)
		}
	}
	if strings.Contains(line, "-kernel") || strings.Contains(line, "-append") || strings.Contains(line, good.Disk) {
		t.Errorf("the host's own files: %s", line)
	}
}

// TestStageUKILeavesNothing: a disk that firmware could not start is not measured, and no copy of it stays.
func TestStageUKILeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	c := config(t)
	c.UKI, c.Disk = &UKI{Variables: c.Initrd}, c.Root
	if _, err := stage(&c); err == nil || !strings.Contains(err.Error(), "measuring the unified kernel image") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestTPMEnds starts a TPM for a machine that does not start.
func TestTPMEnds(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Skip("swtpm is not installed")
	}
	ours, theirs, err := filePair()
	if err != nil {
		t.Fatal(err)
	}
	m, err := newTPM(&staged{folder: t.TempDir()}, ours)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.end(), m.start(), ours.Close(), theirs.Close()); err != nil {
		t.Fatal(err)
	}
	_ = m.end() // whichever way: it is gone
	select {
	case <-m.ended:
	default:
		t.Error("swtpm still runs")
	}
}
