// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
)

// Each test is one attack, and passes when the attack fails.

// TestAttackFlipAnyDigestBit turns every bit of every digest that reaches a compared register.
func TestAttackFlipAnyDigestBit(t *testing.T) {
	t.Parallel()
	k := newCC().firmware(0, 0, 1)
	b, quoted := k.bytes(), k.quoted(tcg.SHA384)
	head := len(b) - len(k.events)
	begin := head
	for _, end := range k.ends {
		const digestAt = 12 + 2
		for i := begin + digestAt; i < begin+digestAt+48; i++ {
			for bit := range 8 {
				b[i] ^= 1 << bit
				_, err := parse(t, tcg.ParseCC, b).Match(tcg.SHA384, quoted)
				refused(t, err, refusal.EventLogMismatch)
				b[i] ^= 1 << bit
			}
		}
		begin = head + end
	}
	match(t, parse(t, tcg.ParseCC, b), tcg.SHA384, quoted)
}

// TestAttackFlipAnyByteOfRealLog changes each byte of a real log: either it is refused, or no fact changes.
func TestAttackFlipAnyByteOfRealLog(t *testing.T) {
	t.Parallel()
	r := realLog(t, "tdx15-gcp-cos-ccel")
	end := len(bytes.TrimRight(r.log, "\xff"))
	b := bytes.Clone(r.log[:end])
	before := match(t, parse(t, tcg.ParseCC, b), tcg.SHA384, r.quoted).Facts()
	for i := 0; i < end; i += 3 {
		b[i] ^= 0x41
		if l, err := tcg.ParseCC(b); err == nil {
			if a, err := l.Match(tcg.SHA384, r.quoted); err == nil {
				subset(t, i, before, a.Facts())
			}
		}
		b[i] ^= 0x41
	}
}

// subset demands that a changed log states nothing that the genuine one does not.
func subset(t *testing.T, at int, before, after tcg.Facts) {
	t.Helper()
	if after.SecureBoot != before.SecureBoot && after.SecureBoot != tcg.SecureBootUnknown {
		t.Fatalf("byte %d: Secure Boot %s", at, after.SecureBoot)
	}
	for _, v := range slices.Concat(after.Keys, after.Variables) {
		if !slices.ContainsFunc(slices.Concat(before.Keys, before.Variables), func(o tcg.Variable) bool {
			return o.Event == v.Event && bytes.Equal(o.Value, v.Value) && (v.Name == "" || o.Name == v.Name && o.Vendor == v.Vendor)
		}) {
			t.Fatalf("byte %d: variable %+v", at, v)
		}
	}
	for _, line := range after.CommandLines {
		if line.Text != before.CommandLines[0].Text {
			t.Fatalf("byte %d: command line %+v", at, line)
		}
	}
}

// TestAttackForgedData keeps all digests and writes other data: the log still matches, but states nothing new.
func TestAttackForgedData(t *testing.T) {
	t.Parallel()
	off := variable(global, "SecureBoot", []byte{0})
	on := variable(global, "SecureBoot", []byte{1})
	k := newTPM().event(7, tcg.VariableDriverConfig, off, on).same(7, tcg.Separator, noError)
	k.event(8, tcg.IPL, []byte("init=/bin/sh"), []byte("kernel_cmdline: ro quiet\x00"))
	k.event(0, tcg.SCRTMVersion, []byte("old"), append(utf16le("new"), 0, 0))
	k.event(4, tcg.VariableAuthority, []byte("other"), variable(database, "db", []byte("vendor")))
	a := account(t, k)
	f := a.Facts()
	if f.SecureBoot != tcg.SecureBootOff || len(f.CommandLines) != 0 || f.Firmware != "" || len(f.Variables) != 0 {
		t.Errorf("facts from data that no register covers: %+v", f)
	}
	for _, e := range a.Events() {
		if e.Type != tcg.Separator && e.Content != nil {
			t.Errorf("content %q", e.Content)
		}
	}
}

// TestAttackSecureBootByHostData has the host put the measurement of "Secure Boot is on" into data that firmware
// measures into the same register, and relabel the genuine one.
func TestAttackSecureBootByHostData(t *testing.T) {
	t.Parallel()
	off := variable(global, "SecureBoot", []byte{0})
	on := variable(global, "SecureBoot", []byte{1})
	k := newCC().event(0, tcg.PlatformConfigFlags, off, []byte("ACPI DATA")) // the genuine one, relabelled
	k.same(0, tcg.VariableDriverConfig, on)                                  // the host's table, relabelled
	k.same(0, tcg.VariableDriverConfig, variable(database, "db", []byte("host's")))
	k.same(0, tcg.Separator, noError)
	f := account(t, k).Facts()
	if f.SecureBoot != tcg.SecureBootUnknown || len(f.Keys) != 0 {
		t.Errorf("Secure Boot %s by keys %+v", f.SecureBoot, f.Keys)
	}
}

// TestAttackSecureBootAfterSeparator has the system, long booted, extend the register with "Secure Boot is on".
func TestAttackSecureBootAfterSeparator(t *testing.T) {
	t.Parallel()
	on := variable(global, "SecureBoot", []byte{1})
	k := newTPM().same(7, tcg.Separator, noError).same(7, tcg.VariableDriverConfig, on)
	if got := account(t, k).Facts().SecureBoot; got != tcg.SecureBootUnknown {
		t.Errorf("Secure Boot %s", got)
	}
	// A second separator does not make it earlier, and what is between two is not the firmware's.
	k.same(7, tcg.Separator, noError)
	a := account(t, k)
	if got := a.Facts().SecureBoot; got != tcg.SecureBootUnknown || a.Events()[1].BeforeSeparator {
		t.Errorf("Secure Boot %s", got)
	}
	genuine := newTPM().same(7, tcg.VariableDriverConfig, variable(global, "SecureBoot", []byte{0}))
	genuine.same(7, tcg.Separator, noError).same(7, tcg.VariableDriverConfig, on).same(7, tcg.Separator, noError)
	if got := account(t, genuine).Facts().SecureBoot; got != tcg.SecureBootOff {
		t.Errorf("Secure Boot %s", got)
	}
}

// TestAttackHiddenExtension calls an event that extended a register EV_NO_ACTION.
func TestAttackHiddenExtension(t *testing.T) {
	t.Parallel()
	k := newTPM().same(4, tcg.Separator, noError).same(4, tcg.BootServicesApp, []byte("rootkit"))
	b := k.bytes()
	b[len(b)-len(k.events)+k.ends[0]+4] = byte(tcg.NoAction)
	b[len(b)-len(k.events)+k.ends[0]+7] = 0
	_, err := parse(t, tcg.ParseTPM, b).Match(tcg.SHA256, k.quoted(tcg.SHA256))
	refused(t, err, refusal.EventLogMismatch)
}

// TestAttackStrippedRegister takes all events of a register out, so that a log-driven comparison would skip it.
func TestAttackStrippedRegister(t *testing.T) {
	t.Parallel()
	whole := newTPM().same(0, tcg.Separator, noError).same(4, tcg.BootServicesApp, []byte("rootkit"))
	stripped := newTPM().same(0, tcg.Separator, noError)
	_, err := parse(t, tcg.ParseTPM, stripped.bytes()).Match(tcg.SHA256, whole.quoted(tcg.SHA256))
	refused(t, err, refusal.EventLogMismatch)
}

// TestAttackEmptyLog offers logs that would match registers that nothing extended.
func TestAttackEmptyLog(t *testing.T) {
	t.Parallel()
	head := newCC().bytes()
	for _, b := range [][]byte{nil, head, append(bytes.Clone(head), bytes.Repeat([]byte{0xff}, 4096)...), make([]byte, 4096), bytes.Repeat([]byte{0xff}, 4096)} {
		if l, err := tcg.ParseCC(b); err == nil {
			t.Errorf("a log with the registers %v", l.Registers())
		}
	}
	k := newCC().same(1, tcg.Separator, noError)
	_, err := parse(t, tcg.ParseCC, k.bytes()).Match(tcg.SHA384, map[int][]byte{3: make([]byte, 48)})
	refused(t, err, refusal.EventLogMismatch)
}

// TestAttackSecondHeader redefines the algorithms in the middle of the log.
func TestAttackSecondHeader(t *testing.T) {
	t.Parallel()
	k := newTPM().same(0, tcg.Separator, noError).event(0, tcg.NoAction, nil, spec([]tcg.Algorithm{tcg.SHA512}, ""))
	_, err := tcg.ParseTPM(k.bytes())
	refused(t, err, refusal.Malformed)
}

// TestAttackSignatureHeader puts hashes into the header of a signature list, where a reader that does not know headers
// takes them for entries (GHSA-9r4w-jg96-92mv).
func TestAttackSignatureHeader(t *testing.T) {
	t.Parallel()
	v := tcg.Variable{Value: signatureList(48, 48, bytes.Repeat([]byte{1}, 96))}
	list, err := v.Signatures()
	refused(t, err, refusal.Malformed)
	if list != nil {
		t.Error("entries besides the refusal")
	}
}

// TestAttackVariableName renames a variable of which the digest covers the value only.
func TestAttackVariableName(t *testing.T) {
	t.Parallel()
	k := newTPM().event(1, tcg.VariableBoot, []byte{0}, variable(global, "SecureBoot", []byte{0})).same(1, tcg.Separator, noError)
	for _, v := range account(t, k).Facts().Variables {
		if v.Name != "" || v.Vendor != (tcg.GUID{}) {
			t.Errorf("a name that nothing covers: %+v", v)
		}
	}
}

// TestAttackUncoveredRegister has facts in registers that the quote does not have.
func TestAttackUncoveredRegister(t *testing.T) {
	t.Parallel()
	k := machine()
	a := match(t, parse(t, tcg.ParseTPM, k.bytes()), tcg.SHA256, map[int][]byte{4: k.quoted(tcg.SHA256)[4]})
	f := a.Facts()
	if f.SecureBoot != tcg.SecureBootUnknown || f.CommandLines != nil || f.Keys != nil || f.Variables != nil || f.ExitBootServices ||
		f.ACPI != nil || f.Firmware != "" || f.Linux != nil || len(f.Images) != 1 || len(f.Separators) != 1 {
		t.Errorf("facts of registers that nobody compared: %+v", f)
	}
}

// TestAttackErrorSeparatorRelabelled calls the separator of an error something else: then nothing before it counts.
func TestAttackErrorSeparatorRelabelled(t *testing.T) {
	t.Parallel()
	k := newTPM().same(7, tcg.VariableDriverConfig, variable(global, "SecureBoot", []byte{1}))
	k.event(7, tcg.VariableBoot, []byte{1, 0, 0, 0}, variable(global, "BootOrder", []byte{1, 0, 0, 0}))
	a := account(t, k)
	if f := a.Facts(); f.SecureBoot != tcg.SecureBootUnknown || len(f.Separators) != 0 {
		t.Errorf("facts %+v", f)
	}
}

// TestAttackForgedSection has a running system extend the register with the name and digest of another kernel.
func TestAttackForgedSection(t *testing.T) {
	t.Parallel()
	wide := append(utf16le(".linux"), 0, 0)
	k := newTPM().event(11, tcg.IPL, []byte("enter-initrd"), nil)
	k.event(11, tcg.IPL, []byte(".linux\x00"), wide).event(11, tcg.IPL, []byte("kernel"), wide)
	if f := account(t, k).Facts(); len(f.Sections) != 0 {
		t.Errorf("sections %+v", f.Sections)
	}
	k = newTPM().event(11, tcg.IPL, []byte(".linux\x00"), wide).event(11, tcg.IPL, []byte("kernel"), wide)
	k.event(11, tcg.IPL, []byte("enter-initrd"), nil)
	k.event(11, tcg.IPL, []byte(".linux\x00"), wide).event(11, tcg.IPL, []byte("other"), wide)
	if f := account(t, k).Facts(); len(f.Sections) != 1 {
		t.Errorf("sections %+v", f.Sections)
	}
}

// TestAttackRuntimeNameBoundary moves the colon between name and payload of a runtime event: the digest is the same.
func TestAttackRuntimeNameBoundary(t *testing.T) {
	t.Parallel()
	_, d := joined("compose-hash", []byte("evil:abc"))
	other, same := joined("compose-hash:evil", []byte("abc"))
	if !bytes.Equal(d, same) {
		t.Fatal("no such attack")
	}
	for _, text := range []string{other, strings.Replace(strings.Replace(other, ":evil", "", 1), `"616263"`, `"6576696c3a616263"`, 1)} {
		f := match(t, parse(t, tcg.ParseDstack, []byte("["+text+"]")), tcg.SHA384, rtmr3(d)).Facts().Runtime
		if len(f) != 1 || f[0].Exact {
			t.Errorf("a division that the digest does not fix: %+v", f)
		}
	}
}

// TestAttackHugeLengths declares lengths far beyond the log and demands that nothing is set aside for them.
func TestAttackHugeLengths(t *testing.T) {
	k := newTPM().same(0, tcg.Separator, noError)
	good := k.bytes()
	for _, at := range []int{28, 32 + 24, len(good) - len(k.events) + 8, len(good) - 8} {
		b := bytes.Clone(good)
		copy(b[at:], "\xff\xff\xff\xff")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := tcg.ParseTPM(b)
		runtime.ReadMemStats(&after)
		refused(t, err, refusal.Malformed)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<16 {
			t.Errorf("length at %d: %d bytes allocated for a log of %d", at, n, len(b))
		}
	}
}
