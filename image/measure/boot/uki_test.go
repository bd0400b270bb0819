// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/measure/measuretest"
)

// parts are the sections of a small UKI.
func parts() []measuretest.Section {
	return []measuretest.Section{
		{Name: ".sbat", Data: []byte("sbat,1\n")},
		{Name: ".osrel", Data: []byte("ID=kettle\n")},
		{Name: ".cmdline", Data: []byte("console=ttyS0 ro")},
		{Name: ".splash", Data: []byte("BM")},
		{Name: ".pcrpkey", Data: []byte("a key\n")},
		{Name: ".initrd", Data: []byte("an initrd")},
		{Name: ".linux", Data: measuretest.Kernel("inner kernel")},
	}
}

func uki(version string, sections []measuretest.Section) []byte {
	return measuretest.PE(append([]measuretest.Section{{Name: ".text", Data: []byte("stub")}, measuretest.Stub(version)}, sections...), nil)
}

func without(sections []measuretest.Section, names ...string) []measuretest.Section {
	return slices.DeleteFunc(slices.Clone(sections), func(s measuretest.Section) bool { return slices.Contains(names, s.Name) })
}

func predict(t testing.TB, u boot.UKI, target boot.Target) *boot.Log {
	t.Helper()
	l, err := u.Log(target)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// events gives "PCR name" of each event.
func events(l *boot.Log) []string {
	var all []string
	for _, e := range l.Events() {
		all = append(all, string("0123456789abcdef"[e.PCR])+" "+e.Name)
	}
	return all
}

func pcr(t testing.TB, l *boot.Log, index int) string {
	t.Helper()
	v, err := l.PCR(index)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(v[:])
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// TestPCR11AgreesWithSystemdMeasure: the value is what systemd-measure 252 calculates of the same sections.
func TestPCR11AgreesWithSystemdMeasure(t *testing.T) {
	t.Parallel()
	l := predict(t, boot.UKI{Image: uki("252.39-1~deb12u2", parts()), Loader: boot.Disk}, boot.TPM)
	if got := pcr(t, l, 11); got != "c2969c8ff2138832f982792fb32c4e725b794f5f0a982c85dcefc788afcb8d5a" {
		t.Errorf("got %s", got)
	}
	if got := pcr(t, l, 12); got != zeros {
		t.Errorf("PCR 12 is %s", got)
	}
}

// TestUKIEvents writes out what each version of systemd-stub measures, in its order.
func TestUKIEvents(t *testing.T) {
	t.Parallel()
	section := func(names ...string) []string {
		var all []string
		for _, n := range names {
			all = append(all, "b name of "+n, "b section "+n)
		}
		return all
	}
	began := []string{"4 calling the boot option", "4 separator", "4 UKI"}
	ended := []string{"9 command line", "9 initrd", "5 exit of boot services", "5 exit of boot services, success"}
	old := section(".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".pcrpkey")
	recent := section(".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".sbat", ".pcrpkey")
	tests := map[string]struct {
		uki    boot.UKI
		target boot.Target
		want   [][]string
	}{
		"252": {boot.UKI{Image: uki("252", parts()), Loader: boot.Disk}, boot.TPM, [][]string{began, old, {"4 inner kernel"}, ended}},
		"252, secure boot": {
			boot.UKI{Image: uki("252", parts()), Loader: boot.Disk, SecureBoot: true}, boot.TPM, [][]string{began, old, ended},
		},
		"252, handed over": {
			boot.UKI{Image: uki("252", parts()), Loader: boot.Handed}, boot.TPM,
			[][]string{{"4 UKI", "4 calling the boot option", "4 separator"}, old, {"4 inner kernel"}, ended},
		},
		"257": {boot.UKI{Image: uki("257.13-1~deb13u1", parts()), Loader: boot.Disk}, boot.TPM, [][]string{began, recent, {"4 inner kernel"}, ended}},
		"258": {boot.UKI{Image: uki("258", parts()), Loader: boot.Disk}, boot.TPM, [][]string{began, recent, ended}},
		"no initrd": {
			boot.UKI{Image: uki("258", without(parts(), ".initrd", ".osrel", ".pcrpkey", ".splash", ".sbat")), Loader: boot.Disk}, boot.TPM,
			[][]string{began, section(".linux", ".cmdline"), {"9 command line"}, ended[2:]},
		},
		"TDX, 255": {
			boot.UKI{Image: uki("255", parts()), Loader: boot.Disk, GPT: measuretest.Disk()}, boot.TDX,
			[][]string{began[:2], {"5 partition table", "4 UKI"}, {"4 inner kernel"}, ended},
		},
		"TDX, 259": {
			boot.UKI{Image: uki("259", parts()), Loader: boot.Disk, GPT: measuretest.Disk()}, boot.TDX,
			[][]string{began[:2], {"5 partition table", "4 UKI"}, recent, ended},
		},
		"TDX, handed over": {
			boot.UKI{Image: uki("259", parts()), Loader: boot.Handed}, boot.TDX,
			[][]string{{"4 UKI", "4 calling the boot option", "4 separator"}, recent, ended},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := predict(t, test.uki, test.target)
			if got, want := events(l), slices.Concat(test.want...); !slices.Equal(got, want) {
				t.Errorf("want\n%s\ngot\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
			}
		})
	}
}

// TestUKIGolden must never be edited but to add some.
func TestUKIGolden(t *testing.T) {
	t.Parallel()
	l := predict(t, boot.UKI{Image: uki("257", parts()), Loader: boot.Disk}, boot.TPM)
	for index, want := range map[int]string{
		4:  "21bc369b769fbcda8aab7df17e32318b86d6dbde8d472d9c5575bb6782cf0087",
		9:  "03867c31b4efd387cb2b05a15a3326e8537f9ee831afa712395e09e8aea9f18e",
		11: "b27f4cee37399db5126c14d43cb61922ae1092c0027bc9319ba3a92cc604eb4f",
		12: zeros,
	} {
		if got := pcr(t, l, index); got != want {
			t.Errorf("PCR %d: want %s, got %s", index, want, got)
		}
	}
}

// TestInitrdOf257 writes out by hand the archives that the stub puts behind the initrd.
func TestInitrdOf257(t *testing.T) {
	t.Parallel()
	l := predict(t, boot.UKI{Image: uki("257", parts()), Loader: boot.Disk}, boot.TPM)
	folder := "070701" + "00000001" + "0000416d" + "0000000000000000" + "00000001" + strings.Repeat("0", 6*8) + "00000007" + "00000000" + ".extra\x00\x00\x00\x00"
	file := func(name, size, nameSize string) string {
		b := "070701" + "00000002" + "00008124" + "0000000000000000" + "00000001" + "00000000" + size + strings.Repeat("0", 4*8) + nameSize + "00000000" + name + "\x00"
		for len(b)%4 != 0 {
			b += "\x00"
		}
		return b
	}
	trailer := "070701" + strings.Repeat("0", 4*8) + "00000001" + strings.Repeat("0", 6*8) + "0000000B" + "00000000" + "TRAILER!!!\x00\x00\x00\x00"
	key := file(".extra/tpm2-pcr-public-key.pem", "00000006", "0000001f")
	osrel := file(".extra/os-release", "0000000a", "00000012")
	want := "an initrd\x00\x00\x00" + folder + key + "a key\n\x00\x00" + trailer + folder + osrel + "ID=kettle\n\x00\x00" + trailer
	digest := sha256.Sum256([]byte(want))
	for _, e := range l.Events() {
		if e.Name == "initrd" && !bytes.Equal(e.Digest, digest[:]) {
			t.Errorf("want %x, got %x", digest, e.Digest)
		}
	}
}

func TestUKIRefuses(t *testing.T) {
	t.Parallel()
	with := func(extra ...measuretest.Section) []byte { return uki("257", append(parts(), extra...)) }
	replaced := func(version, name, data string) []byte {
		return uki(version, append(without(parts(), name), measuretest.Section{Name: name, Data: []byte(data)}))
	}
	tests := map[string]struct {
		image       []byte
		want        string
		unsupported bool
	}{
		"nothing":             {nil, "DOS header", false},
		"no stub":             {measuretest.PE(parts(), nil), "no .sdmagic", true},
		"another stub":        {measuretest.PE(append(parts(), measuretest.Section{Name: ".sdmagic", Data: []byte("#### LoaderInfo: other 1 ####")}), nil), "no systemd-stub", true},
		"no version":          {uki("x", parts()), "no systemd-stub", true},
		"251":                 {uki("251", parts()), "not modelled", true},
		"253":                 {uki("253", parts()), "not modelled", true},
		"260":                 {uki("260", parts()), "not modelled", true},
		"a huge version":      {uki("99999999999999999999", parts()), "not modelled", true},
		"no kernel":           {uki("257", without(parts(), ".linux")), "no UKI", false},
		"no command line":     {uki("257", without(parts(), ".cmdline")), "without a command line", true},
		"a kernel that is no": {replaced("257", ".linux", "text"), "inner kernel", false},
		"twice":               {with(measuretest.Section{Name: ".initrd", Data: []byte("another")}), "twice", false},
		"a section too new":   {uki("255", append(parts(), measuretest.Section{Name: ".ucode", Data: []byte("x")})), ".ucode", true},
		"a device tree":       {with(measuretest.Section{Name: ".dtbauto", Data: []byte("x")}), ".dtbauto", true},
		"firmware inside":     {uki("258", append(parts(), measuretest.Section{Name: ".efifw", Data: []byte("x")})), ".efifw", true},
		"a tab":               {replaced("257", ".cmdline", "a\tb"), "byte 0x09", true},
		"a NUL":               {replaced("257", ".cmdline", "a\x00b"), "byte 0x00", true},
		"not ASCII":           {replaced("257", ".cmdline", "é"), "byte 0xc3", true},
		"too long":            {replaced("257", ".cmdline", strings.Repeat("x", 70000)), "at most", false},
		"a newline, 252":      {replaced("252", ".cmdline", "console=ttyS0\n"), "white space", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := boot.UKI{Image: test.image, Loader: boot.Disk}.Log(boot.TPM)
			var unsupported *boot.UnsupportedError
			if err == nil || l != nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &unsupported) != test.unsupported {
				t.Errorf("want an error with %q, got %v, %v", test.want, err, l)
			}
		})
	}
	good := uki("257", parts())
	for name, f := range map[string]func() (*boot.Log, error){
		"no loader":    func() (*boot.Log, error) { return boot.UKI{Image: good}.Log(boot.TPM) },
		"no target":    func() (*boot.Log, error) { return boot.UKI{Image: good, Loader: boot.Disk}.Log(0) },
		"no partition": func() (*boot.Log, error) { return boot.UKI{Image: good, Loader: boot.Disk}.Log(boot.TDX) },
	} {
		if l, err := f(); err == nil || l != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestProfiles: without load options the first profile is booted, and its sections replace those before it.
func TestProfiles(t *testing.T) {
	t.Parallel()
	section := func(name, data string) measuretest.Section {
		return measuretest.Section{Name: name, Data: []byte(data)}
	}
	many := append(parts(),
		section(".profile", "ID=main\n"), section(".cmdline", "console=hvc0"),
		section(".profile", "ID=rescue\n"), section(".cmdline", "rescue"))
	one := append(without(parts(), ".cmdline"), section(".cmdline", "console=hvc0"), section(".profile", "ID=main\n"))
	image := func(s []measuretest.Section) *boot.Log {
		return predict(t, boot.UKI{Image: uki("257", s), Loader: boot.Disk}, boot.TPM)
	}
	if a, b := pcr(t, image(many), 11), pcr(t, image(one), 11); a != b {
		t.Errorf("PCR 11: %s and %s", a, b)
	}
	if a, b := pcr(t, image(many), 9), pcr(t, image(one), 9); a != b {
		t.Errorf("PCR 9: %s and %s", a, b)
	}
}

// TestWhiteSpace: as of 254 the stub cuts it off, so that the kernel measures the rest.
func TestWhiteSpace(t *testing.T) {
	t.Parallel()
	line := func(s string) *boot.Log {
		sections := append(without(parts(), ".cmdline"), measuretest.Section{Name: ".cmdline", Data: []byte(s)})
		return predict(t, boot.UKI{Image: uki("254", sections), Loader: boot.Disk}, boot.TPM)
	}
	if a, b := pcr(t, line(" console=ttyS0\n\x00"), 9), pcr(t, line("console=ttyS0"), 9); a != b {
		t.Errorf("PCR 9: %s and %s", a, b)
	}
}

// TestAttackUKIPartReplaced: no part of a UKI can be replaced without a change of PCR 4, and none that the stub uses without
// one of PCR 11.
func TestAttackUKIPartReplaced(t *testing.T) {
	t.Parallel()
	good := predict(t, boot.UKI{Image: uki("257", parts()), Loader: boot.Disk}, boot.TPM)
	for i, s := range parts() {
		changed := parts()
		changed[i].Data = bytes.Clone(s.Data)
		changed[i].Data[len(s.Data)-1] ^= 0x01
		l, err := boot.UKI{Image: uki("257", changed), Loader: boot.Disk}.Log(boot.TPM)
		if err != nil {
			continue // refused
		}
		for _, index := range []int{4, 11} {
			if pcr(t, l, index) == pcr(t, good, index) {
				t.Errorf("%s changed: PCR %d is the same", s.Name, index)
			}
		}
	}
}

// TestAttackBytesBehindUKI: bytes behind the sections give no equal prediction: refused, or another PCR 4.
func TestAttackBytesBehindUKI(t *testing.T) {
	t.Parallel()
	image := uki("257", parts())
	good := predict(t, boot.UKI{Image: image, Loader: boot.Disk}, boot.TPM)
	l, err := boot.UKI{Image: append(image, "and more"...), Loader: boot.Disk}.Log(boot.TPM)
	if err == nil && pcr(t, l, 4) == pcr(t, good, 4) {
		t.Error("bytes behind the image are not measured")
	}
}

func TestRegistersRefuse(t *testing.T) {
	t.Parallel()
	tpm := predict(t, boot.UKI{Image: uki("257", parts()), Loader: boot.Disk}, boot.TPM)
	tdx := predict(t, boot.UKI{Image: uki("257", parts()), Loader: boot.Handed}, boot.TDX)
	for _, index := range []int{-1, 0, 1, 5, 7, 8, 10, 15, 24} {
		if _, err := tpm.PCR(index); err == nil {
			t.Errorf("PCR %d: no error", index)
		}
	}
	for _, index := range []int{-1, 0, 3, 4} {
		if _, err := tdx.RTMR(index); err == nil {
			t.Errorf("RTMR %d: no error", index)
		}
	}
	if _, err := tpm.RTMR(1); err == nil {
		t.Error("an RTMR of a TPM: no error")
	}
	if _, err := tdx.PCR(4); err == nil {
		t.Error("a PCR of a trust domain: no error")
	}
}
