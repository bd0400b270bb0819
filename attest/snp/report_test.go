// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

func TestReportSaysWhatWasSigned(t *testing.T) {
	t.Parallel()
	b := snptest.New("Genoa", "VCEK")
	le := binary.LittleEndian
	for i := range b.Report[0x50:0x180] {
		b.Report[0x50+i] = byte(i)
	}
	for i := range 0x20 {
		b.Report[0x10+i] = byte(0x80 + i)
	}
	b.Report[0] = 5
	le.PutUint32(b.Report[0x04:], 77)
	le.PutUint32(b.Report[0x30:], 2)
	le.PutUint32(b.Report[0x48:], 3)
	copy(b.Report[0x1e8:], []byte{3, 58, 1, 0, 2, 57, 1})
	le.PutUint64(b.Report[0x1f8:], 0x11)
	le.PutUint64(b.Report[0x200:], 0x22)
	b.Report[0x38+7], b.Report[0x1e0+7], b.Report[0x1f0+7] = 0x60, 0x58, 0x50
	r, err := b.Verify(t)
	if err != nil {
		t.Fatal(err)
	}
	raw := b.Report
	author, hasAuthor := r.AuthorKeyDigest()
	launch, current := r.Mitigations()
	instance := r.Instance()
	check := func(what string, ok bool) {
		if !ok {
			t.Errorf("%s is not what was signed", what)
		}
	}
	check("version", r.Version() == 5)
	check("guest svn", r.GuestSVN() == 77)
	check("vmpl", r.VMPL() == 2)
	major, minor := r.Policy().MinimumABI()
	current0, committed0 := r.Firmware()
	check("minimum abi", major == 0 && minor == 31)
	check("firmware", current0 == snp.Firmware{Major: 1, Minor: 58, Build: 3} && committed0.String() == "1.57.2")
	check("masked key", r.ChipKeyMasked())
	check("endorsed chip", r.EndorsedChip() == r.ChipID())
	check("policy", r.Policy() == 0x3001f && r.Policy().SMT() && !r.Policy().Debug() && !r.Policy().MigrationAgent())
	check("platform", r.PlatformInfo() == 0x25 && r.PlatformInfo().SMT() && r.PlatformInfo().AliasCheckComplete() && !r.PlatformInfo().CiphertextHiding())
	check("report data", r.ReportData() == [64]byte(raw[0x50:0x90]))
	check("measurement", r.Measurement() == [48]byte(raw[0x90:0xc0]))
	check("host data", r.HostData() == [32]byte(raw[0xc0:0xe0]))
	check("id key digest", r.IDKeyDigest() == [48]byte(raw[0xe0:0x110]))
	check("author key digest", author == [48]byte(raw[0x110:0x140]) && hasAuthor)
	check("report id", r.ReportID() == [32]byte(raw[0x140:0x160]))
	check("migration agent", r.ReportIDMA() == [32]byte(raw[0x160:0x180]))
	check("family", r.FamilyID() == [16]byte(raw[0x10:0x20]))
	check("image", r.ImageID() == [16]byte(raw[0x20:0x30]))
	check("chip", r.ChipID() == [64]byte(raw[0x1a0:0x1e0]))
	check("instance", instance == [96]byte(slices.Concat(raw[0x140:0x160], raw[0x1a0:0x1e0])))
	check("reported", r.ReportedTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x54})
	check("current", r.CurrentTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x60})
	check("committed", r.CommittedTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x58})
	check("launch", r.LaunchTCB() == snp.TCB{Bootloader: 10, SNP: 23, Microcode: 0x50})
	check("processor", r.CPU() == snp.CPU{Family: 0x19, Model: 0x11, Stepping: 1})
	check("mitigations", launch == 0x11 && current == 0x22)
	check("expiry", r.EndorsementExpires().Equal(b.Leaf.NotAfter))
}

// TestBitNames walks through every bit of policy and platform information (ABI, "Guest Policy Structure" and
// "PLATFORM_INFO"): each has one name and one method, and no other bit has any.
func TestBitNames(t *testing.T) {
	t.Parallel()
	policy := map[uint]struct {
		name string
		is   func(snp.Policy) bool
	}{
		16: {"smt-allowed", snp.Policy.SMT}, 18: {"migration-agent", snp.Policy.MigrationAgent}, 19: {"debug", snp.Policy.Debug},
		20: {"single-socket", snp.Policy.SingleSocket}, 21: {"cxl-allowed", snp.Policy.CXL}, 22: {"aes-256-xts", snp.Policy.AES256XTS},
		23: {"rapl-disabled", snp.Policy.RAPLDisabled}, 24: {"ciphertext-hiding", snp.Policy.CiphertextHiding},
		25: {"page-swap-disabled", snp.Policy.PageSwapDisabled},
	}
	platform := map[uint]struct {
		name string
		is   func(snp.PlatformInfo) bool
	}{
		0: {"smt", snp.PlatformInfo.SMT}, 1: {"tsme", snp.PlatformInfo.TSME}, 2: {"ecc", snp.PlatformInfo.ECC},
		3: {"rapl-disabled", snp.PlatformInfo.RAPLDisabled}, 4: {"ciphertext-hiding", snp.PlatformInfo.CiphertextHiding},
		5: {"alias-check-complete", snp.PlatformInfo.AliasCheckComplete}, 6: {"iommu-write-safe", snp.PlatformInfo.IOMMUWriteSafe},
		7: {"tio", snp.PlatformInfo.TIO},
	}
	for bit := range uint(64) {
		p, i := snp.Policy(1)<<bit, snp.PlatformInfo(1)<<bit
		if got := strings.Join(p.Names(), " "); got != policy[bit].name {
			t.Errorf("policy bit %d: %q", bit, got)
		}
		if got := strings.Join(i.Names(), " "); got != platform[bit].name {
			t.Errorf("platform bit %d: %q", bit, got)
		}
		for at, x := range policy {
			if x.is(p) != (at == bit) {
				t.Errorf("policy bit %d is %s: %v", bit, x.name, x.is(p))
			}
		}
		for at, x := range platform {
			if x.is(i) != (at == bit) {
				t.Errorf("platform bit %d is %s: %v", bit, x.name, x.is(i))
			}
		}
	}
}

// Every result says what it leaves open, ACPI first.
func TestUnproven(t *testing.T) {
	t.Parallel()
	list := func(change func(b *snptest.Machine), key string) string {
		b := snptest.New("Milan", key)
		change(b)
		r, err := b.Verify(t)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, o := range r.Unproven() {
			if o.Why == "" {
				t.Errorf("%s: no reason", o.Name)
			}
			out = append(out, o.Name+": "+o.State)
		}
		return strings.Join(out, ", ")
	}
	const always = "acpi: unmeasured, runtime: unmeasured, memory-bus: unproven, operator: unproven"
	for _, tt := range []struct {
		change    func(b *snptest.Machine)
		key, want string
	}{
		{func(*snptest.Machine) {}, "VCEK", always},
		{func(b *snptest.Machine) { b.Report[0x30] = 1 }, "VCEK", always + ", privilege: vmpl-1"},
		{func(*snptest.Machine) {}, "VLEK", always + ", chip: masked"},
		{func(b *snptest.Machine) { b.SetVersion(2) }, "VCEK", always + ", processor: unnamed"},
	} {
		if got := list(tt.change, tt.key); got != tt.want {
			t.Errorf("want %s, got %s", tt.want, got)
		}
	}
}

// A host may mask the chip in the report. The endorsement still names it.
func TestMaskedChip(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"Milan", "Turin"} {
		b := snptest.New(line, "VCEK")
		clear(b.Report[0x1a0:0x1e0])
		r, err := b.Verify(t)
		if err != nil {
			t.Fatal(err)
		}
		endorsed := r.EndorsedChip()
		if r.ChipID() != [64]byte{} || !slices.Equal(endorsed[:len(b.HWID)], b.HWID) || !allZeros(endorsed[len(b.HWID):]) {
			t.Errorf("%s: report %x, endorsement %x", line, r.ChipID(), endorsed)
		}
	}
	r, err := snptest.New("Milan", "VLEK").Verify(t)
	if err != nil || r.EndorsedChip() != [64]byte{} {
		t.Errorf("vlek: %v", err)
	}
}

func allZeros(b []byte) bool { return strings.Trim(string(b), "\x00") == "" }
