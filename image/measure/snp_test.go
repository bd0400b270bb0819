// SPDX-License-Identifier: Apache-2.0

package measure_test

import (
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image/measure"
	"github.com/kettle/attest/image/measure/measuretest"
	"github.com/kettle/attest/image/measure/ovmf"
)

// direct is the digests of three short texts.
func direct() *measure.KernelHashes {
	return &measure.KernelHashes{
		Kernel: sha256.Sum256([]byte("kernel")), Initrd: sha256.Sum256([]byte("initrd")),
		CommandLine: measure.KernelCommandLine("console=ttyS0 ro"),
	}
}

// goldenLaunches must never be edited but to add some: they were made with another program, whose digests equal
// sev-snp-measure's and a real report's.
func goldenLaunches() []struct {
	vmm               measure.VMM
	vcpus             int
	cpu               string
	features          uint64
	direct            *measure.KernelHashes
	synthetic, debian string
} {
	return []struct {
		vmm               measure.VMM
		vcpus             int
		cpu               string
		features          uint64
		direct            *measure.KernelHashes
		synthetic, debian string
	}{
		{
			measure.QEMU, 1, "EPYC-Milan", 1, direct(),
			"f9f7e8bac67ee2302d4cf8e74f62fcda5aea9d7d895cd0a026a211d81dde7da8cb43d873109d46e0343e52b16b0910df",
			"3250cb99ed3738bd8ff81b6ecad0631bdff1f845ff442601759cc86ca3174db2cfbe02179f1f64d17141de74765bfc80",
		},
		{
			measure.QEMU, 4, "EPYC-Milan-v2", 1, direct(),
			"fc75fade37ac005eb4a23c3a2800b6ff0422c9ea2dd4544292e30d8dce30336fbfe66b046abe082b6699bc5336220c25",
			"9d45f9cc41f8ea23da3e334c9db42ccd3fcceb39ec00b53d1413ab9fc8a99bb12a585f2557b5cf7de79589dd82884af5",
		},
		{
			measure.QEMU, 4, "EPYC-Genoa", 1, direct(),
			"a8f929e5e3baa49978341f251a2c4c2ed34f95e0adfdf59ed2438724bdb55f143ae124be28697c6cbfe266a5d126a4ce",
			"4b647527c0d485fe3149d9902b7519f1fdab65d34ad0f514991c547058884eaa55ce32feb6c0273a4a6bee337b2189cb",
		},
		{
			measure.QEMU, 2, "EPYC-Turin", 0x21, nil,
			"79fc5afac7adbc835d8e294cbf736db3606b716a8242aa1a10f21e9b4adc5f91878cdfa066b568a6e20de72b376b85a4",
			"4be529d591ecc664d1d73f2666d3d66d4b1b834d40437519ed19fb6c9eb773fa446a469a41bc2f6560eca7ec022663ff",
		},
		{
			measure.EC2, 2, "0xa00f11", 1, nil,
			"fcdd83ba6782b8552ed5a322cf4b07a2a8a8cb041ed2a0aad505ae45909b40bec4938d26b4d8ae44bea490639b21bf81",
			"ec96d85249c345bde9ca511388a0eadae333c496ace3f6803c7f587237a2db8f40e5e8d9dcd955c76212a64cd756e7ac",
		},
		{
			measure.GCE, 2, "EPYC-Milan", 1, nil,
			"643924b5469ae515377d9ff8b2904acb347da703135d91a2068a3768e590a4eb0c9360082244987852053e723145fdc0",
			"6405f8c894bda7cc5c14f3d02409c19905af1a428a3a741edd0b8bb8bb93a96d297f15852759e69e84ebdb8d1d84ec11",
		},
	}
}

func TestSNPGolden(t *testing.T) {
	t.Parallel()
	firmware := snpFirmware(t, parsed(t, measuretest.AMDSEV().Bytes()))
	for _, g := range goldenLaunches() {
		got, err := measure.SNP(measure.SNPLaunch{
			Firmware: firmware, Direct: g.direct, VMM: g.vmm, VCPUs: g.vcpus, CPU: cpu(t, g.cpu), GuestFeatures: g.features,
		})
		wantDigest(t, got, err, g.synthetic)
	}
}

func TestSNPGoldenDebian(t *testing.T) {
	t.Parallel()
	firmware := snpFirmware(t, debian(t, fileAMDSEV, digestAMDSEV))
	for _, g := range goldenLaunches() {
		got, err := measure.SNP(measure.SNPLaunch{
			Firmware: firmware, Direct: g.direct, VMM: g.vmm, VCPUs: g.vcpus, CPU: cpu(t, g.cpu), GuestFeatures: g.features,
		})
		wantDigest(t, got, err, g.debian)
	}
}

func TestSNPRefuses(t *testing.T) {
	t.Parallel()
	firmware := snpFirmware(t, parsed(t, measuretest.AMDSEV().Bytes()))
	plain := snpFirmware(t, parsed(t, measuretest.Plain().Bytes()))
	tests := map[string]struct {
		change func(*measure.SNPLaunch)
		want   string
	}{
		"no firmware":       {func(l *measure.SNPLaunch) { l.Firmware.Pages = measure.Digest{} }, "not measured"},
		"bad metadata":      {func(l *measure.SNPLaunch) { l.Firmware.Metadata.Sections[0].Size = 1 }, "whole pages"},
		"unknown section":   {func(l *measure.SNPLaunch) { l.Firmware.Metadata.Sections[0].Type = 9 }, "unknown type 0x9"},
		"hashes outside":    {func(l *measure.SNPLaunch) { l.Firmware.Metadata.HashTable = 0x810fff }, "not inside its section"},
		"no room for them":  {func(l *measure.SNPLaunch) { l.Firmware = plain }, "does not measure kernel"},
		"no kernel":         {func(l *measure.SNPLaunch) { l.Direct.Kernel = [32]byte{} }, "absent"},
		"no initrd":         {func(l *measure.SNPLaunch) { l.Direct.Initrd = [32]byte{} }, "absent"},
		"no command line":   {func(l *measure.SNPLaunch) { l.Direct.CommandLine = [32]byte{} }, "absent"},
		"no VMM":            {func(l *measure.SNPLaunch) { l.VMM = "" }, "want a VMM"},
		"another VMM":       {func(l *measure.SNPLaunch) { l.VMM = "xen" }, `"xen"`},
		"no processor":      {func(l *measure.SNPLaunch) { l.VCPUs = 0 }, "processors"},
		"too many":          {func(l *measure.SNPLaunch) { l.VCPUs = measure.MaxVCPUs + 1 }, "processors"},
		"no type":           {func(l *measure.SNPLaunch) { l.CPU = measure.CPU{} }, "type of the processors"},
		"no guest features": {func(l *measure.SNPLaunch) { l.GuestFeatures = 0x20 }, "no SNP guest"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := measure.SNPLaunch{Firmware: firmware, Direct: direct(), VMM: measure.QEMU, VCPUs: 1, CPU: cpu(t, "EPYC"), GuestFeatures: 1}
			l.Firmware.Metadata.Sections = slices.Clone(l.Firmware.Metadata.Sections)
			test.change(&l)
			got, err := measure.SNP(l)
			if err == nil || !strings.Contains(err.Error(), test.want) || got != (measure.Digest{}) {
				t.Errorf("want an error with %q, got %v, %x", test.want, err, got)
			}
		})
	}
	var unsupported *measure.UnsupportedError
	_, err := measure.SNP(measure.SNPLaunch{Firmware: plain, Direct: direct(), VMM: measure.QEMU, VCPUs: 1, CPU: cpu(t, "EPYC"), GuestFeatures: 1})
	if !errors.As(err, &unsupported) || !unsupported.Unsupported() {
		t.Errorf("want an UnsupportedError, got %v", err)
	}
}

// TestAttackDirectBootUnmeasured: a host starts another kernel under a firmware that does not measure it. No launch digest
// is predicted that could be mistaken for one that covers a kernel.
func TestAttackDirectBootUnmeasured(t *testing.T) {
	t.Parallel()
	l := measure.SNPLaunch{
		Firmware: snpFirmware(t, parsed(t, measuretest.Plain().Bytes())),
		Direct:   direct(), VMM: measure.QEMU, VCPUs: 1, CPU: cpu(t, "EPYC"), GuestFeatures: 1,
	}
	if got, err := measure.SNP(l); err == nil {
		t.Errorf("a launch digest without kernel hashes was predicted for a direct boot: %x", got)
	}
}

// TestAttackHashTableTakenAway: the page of kernel hashes left at zero gives another launch digest.
func TestAttackHashTableTakenAway(t *testing.T) {
	t.Parallel()
	l := measure.SNPLaunch{
		Firmware: snpFirmware(t, parsed(t, measuretest.AMDSEV().Bytes())),
		Direct:   direct(), VMM: measure.QEMU, VCPUs: 1, CPU: cpu(t, "EPYC"), GuestFeatures: 1,
	}
	with, err := measure.SNP(l)
	if err != nil {
		t.Fatal(err)
	}
	l.Direct = nil
	if without, err := measure.SNP(l); err != nil || without == with {
		t.Errorf("the same digest without the table, or %v", err)
	}
}

func TestSNPTable(t *testing.T) {
	t.Parallel()
	l := measure.SNPLaunch{
		Firmware: snpFirmware(t, parsed(t, measuretest.AMDSEV().Bytes())), Direct: direct(), VMM: measure.QEMU, GuestFeatures: 1,
	}
	cpus := []measure.CPU{cpu(t, "EPYC-Milan"), cpu(t, "EPYC-Genoa")}
	values, err := measure.SNPTable(l, []int{1, 2, 4}, cpus)
	if err != nil || len(values) != 6 {
		t.Fatalf("want 6 values, got %d, %v", len(values), err)
	}
	seen := map[measure.Digest]bool{}
	for _, v := range values {
		l.VCPUs, l.CPU = v.VCPUs, v.CPU
		if want, err := measure.SNP(l); err != nil || want != v.Digest || seen[v.Digest] {
			t.Errorf("%d %s: got %x, %v", v.VCPUs, v.CPU.Name, v.Digest, err)
		}
		seen[v.Digest] = true
	}
	for name, vcpus := range map[string][]int{"none": nil, "zero": {1, 0}, "too many": make([]int, 5000)} {
		if _, err := measure.SNPTable(l, vcpus, cpus); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestParseCPU(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]measure.CPU{
		"EPYC": {Name: "EPYC", Signature: 0x800f12}, "EPYC-v5": {Name: "EPYC-v5", Signature: 0x800f12},
		"EPYC-IBPB": {Name: "EPYC-IBPB", Signature: 0x800f12}, "EPYC-Rome-v5": {Name: "EPYC-Rome-v5", Signature: 0x830f10},
		"EPYC-Milan-v3": {Name: "EPYC-Milan-v3", Signature: 0xa00f11}, "EPYC-Genoa-v2": {Name: "EPYC-Genoa-v2", Signature: 0xa10f10},
		"EPYC-Turin-v1": {Name: "EPYC-Turin-v1", Signature: 0xb00f00},
		"0xa00f11":      {Name: "0x00a00f11", Signature: 0xa00f11}, "0x00A00F11": {Name: "0x00a00f11", Signature: 0xa00f11},
	} {
		if got, err := measure.ParseCPU(name); err != nil || got != want {
			t.Errorf("%s: want %v, got %v, %v", name, want, got, err)
		}
	}
	for _, bad := range []string{"", "epyc", "EPYC-v6", "EPYC-Milan-v0", "Skylake-Server", "0x", "0x0", "0x1a00f1100", "0xzz", "10489617"} {
		if got, err := measure.ParseCPU(bad); err == nil {
			t.Errorf("%q: no error, got %v", bad, got)
		}
	}
	if names := measure.CPUNames(); len(names) != 22 || !slices.Contains(names, "EPYC-Turin") {
		t.Errorf("got %v", names)
	}
}

// TestHashTableAtItsOffset: the place of the table in its page is measured, and the page is its limit.
func TestHashTableAtItsOffset(t *testing.T) {
	t.Parallel()
	base := measure.SNPLaunch{
		Firmware: snpFirmware(t, parsed(t, measuretest.AMDSEV().Bytes())), Direct: direct(), VMM: measure.QEMU, VCPUs: 1,
		CPU: cpu(t, "EPYC"), GuestFeatures: 1,
	}
	first, err := measure.SNP(base)
	if err != nil {
		t.Fatal(err)
	}
	base.Firmware.Metadata.HashTable += 16
	if moved, err := measure.SNP(base); err != nil || moved == first {
		t.Errorf("the table's place does not matter, or %v", err)
	}
	base.Firmware.Metadata.HashTable = 0x810000 + ovmf.PageSize - ovmf.HashTableSize
	if _, err := measure.SNP(base); err != nil {
		t.Errorf("the last place in the page: %v", err)
	}
	base.Firmware.Metadata.HashTable++
	if _, err := measure.SNP(base); err == nil {
		t.Error("a table that crosses the page: no error")
	}
}
