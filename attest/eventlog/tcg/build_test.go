// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"crypto/sha1" //nolint:gosec // logs have SHA-1 digests too.
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"
	"testing"
	"unicode/utf16"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
)

var le = binary.LittleEndian

// book writes a log as firmware would, and extends registers of its own while it does.
type book struct {
	algs      []tcg.Algorithm
	first     uint32 // register index of the Spec ID event
	offset    int    // register index in the log minus the register's number
	events    []byte
	ends      []int // where each event ends in events
	registers map[tcg.Algorithm]map[int][]byte
}

func hasher(a tcg.Algorithm) hash.Hash {
	switch a {
	case tcg.SHA1:
		return sha1.New() //nolint:gosec // as above.
	case tcg.SHA256, tcg.SM3: // nobody replays SM3: any 32 bytes do
		return sha256.New()
	case tcg.SHA384:
		return sha512.New384()
	default:
		return sha512.New()
	}
}

func digest(a tcg.Algorithm, b []byte) []byte {
	h := hasher(a)
	h.Write(b)
	return h.Sum(nil)
}

// newTPM begins the log of a TPM with three banks, newCC that of a confidential VM.
func newTPM() *book {
	return &book{algs: []tcg.Algorithm{tcg.SHA1, tcg.SHA256, tcg.SHA384}, registers: map[tcg.Algorithm]map[int][]byte{}}
}

func newCC() *book {
	return &book{algs: []tcg.Algorithm{tcg.SHA384}, first: 1, offset: 1, registers: map[tcg.Algorithm]map[int][]byte{}}
}

func spec(algs []tcg.Algorithm, vendor string) []byte {
	b := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	b = le.AppendUint32(b, uint32(len(algs)))
	for _, a := range algs {
		b = le.AppendUint16(b, uint16(a))
		b = le.AppendUint16(b, uint16(a.Size()))
	}
	return append(append(b, byte(len(vendor))), vendor...)
}

func oldEvent(register uint32, typ tcg.Type, data []byte) []byte {
	b := le.AppendUint32(le.AppendUint32(nil, register), uint32(typ))
	b = append(b, make([]byte, 20)...)
	return append(le.AppendUint32(b, uint32(len(data))), data...)
}

// event appends an event whose digests are of measured and whose data is data.
func (k *book) event(register int, typ tcg.Type, measured, data []byte) *book {
	k.events = le.AppendUint32(k.events, uint32(register+k.offset))
	k.events = le.AppendUint32(k.events, uint32(typ))
	k.events = le.AppendUint32(k.events, uint32(len(k.algs)))
	for _, a := range k.algs {
		d := digest(a, measured)
		if typ == tcg.NoAction {
			d = make([]byte, a.Size())
		} else {
			k.extend(a, register, d)
		}
		k.events = append(le.AppendUint16(k.events, uint16(a)), d...)
	}
	k.events = append(le.AppendUint32(k.events, uint32(len(data))), data...)
	k.ends = append(k.ends, len(k.events))
	return k
}

// same appends an event whose digest is of its data.
func (k *book) same(register int, typ tcg.Type, data []byte) *book {
	return k.event(register, typ, data, data)
}

func (k *book) extend(a tcg.Algorithm, register int, d []byte) {
	if k.registers[a] == nil {
		k.registers[a] = map[int][]byte{}
	}
	old := k.registers[a][register]
	if old == nil {
		old = make([]byte, a.Size())
	}
	k.registers[a][register] = digest(a, append(append([]byte(nil), old...), d...))
}

// startup begins PCR 0 with a locality.
func (k *book) startup(locality byte) *book {
	for _, a := range k.algs {
		if k.registers[a] == nil {
			k.registers[a] = map[int][]byte{}
		}
		k.registers[a][0] = append(make([]byte, a.Size()-1), locality)
	}
	return k.event(0, tcg.NoAction, nil, append([]byte("StartupLocality\x00"), locality))
}

func (k *book) bytes() []byte {
	return append(oldEvent(k.first, tcg.NoAction, spec(k.algs, "")), k.events...)
}

// quoted gives a copy of the registers.
func (k *book) quoted(a tcg.Algorithm) map[int][]byte {
	out := map[int][]byte{}
	for r, v := range k.registers[a] {
		out[r] = append([]byte(nil), v...)
	}
	return out
}

func utf16le(s string) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(s)) {
		b = le.AppendUint16(b, c)
	}
	return b
}

// variable is a UEFI_VARIABLE_DATA.
func variable(vendor, name string, value []byte) []byte {
	b := append([]byte(nil), vendor...)
	n := utf16le(name)
	b = le.AppendUint64(le.AppendUint64(b, uint64(len(n)/2)), uint64(len(value)))
	return append(append(b, n...), value...)
}

const (
	global   = "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c" // EFI_GLOBAL_VARIABLE
	database = "\xcb\xb2\x19\xd7\x3a\x3d\x96\x45\xa3\xbc\xda\xd0\x0e\x67\x65\x6f" // EFI_IMAGE_SECURITY_DATABASE_GUID
)

var noError = []byte{0, 0, 0, 0}

// firmware writes what a firmware with Secure Boot on measures, up to and with the separators.
func (k *book) firmware(secure int, registers ...int) *book {
	k.same(secure, tcg.VariableDriverConfig, variable(global, "SecureBoot", []byte{1}))
	k.same(secure, tcg.VariableDriverConfig, variable(global, "PK", []byte("pk")))
	k.same(secure, tcg.VariableDriverConfig, variable(database, "db", nil))
	for _, r := range registers {
		k.same(r, tcg.Separator, noError)
	}
	return k
}

// machine is a whole boot of a TPM machine: firmware, GRUB, kernel.
func machine() *book {
	k := newTPM().startup(3)
	k.same(0, tcg.SCRTMVersion, append(utf16le("firmware 1"), 0, 0))
	k.event(1, tcg.PlatformConfigFlags, []byte("table loader"), []byte("ACPI DATA"))
	k.event(1, tcg.VariableBoot, []byte{1, 0}, variable(global, "BootOrder", []byte{1, 0}))
	k.same(1, tcg.VariableBoot2, variable(global, "Boot0001", []byte("option")))
	k.firmware(7, 0, 1, 2, 3, 4, 5, 6, 7)
	k.same(7, tcg.VariableAuthority, variable(database, "db", []byte("owner and certificate")))
	k.event(4, tcg.BootServicesApp, []byte("shim"), []byte("device path"))
	k.event(8, tcg.IPL, []byte("linux /vmlinuz ro"), []byte("grub_cmd: linux /vmlinuz ro\x00"))
	k.event(8, tcg.IPL, []byte("/vmlinuz ro"), []byte("kernel_cmdline: /vmlinuz ro\x00"))
	k.event(9, tcg.EventTag, []byte("initrd"), append([]byte{0xec, 0x22, 0x3b, 0x8f, 13, 0, 0, 0}, "Linux initrd\x00"...))
	k.same(5, tcg.EFIAction, []byte("Exit Boot Services Invocation"))
	k.same(5, tcg.EFIAction, []byte("Exit Boot Services Returned with Success"))
	return k
}

func parse(t testing.TB, read func([]byte) (*tcg.Log, error), b []byte) *tcg.Log {
	t.Helper()
	l, err := read(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func match(t testing.TB, l *tcg.Log, a tcg.Algorithm, registers map[int][]byte) *tcg.Account {
	t.Helper()
	account, err := l.Match(a, registers)
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// refused demands a refusal in full sentences whose first reason has the code.
func refused(t testing.TB, err error, code refusal.Code) {
	t.Helper()
	all := refusal.All(err)
	if len(all) == 0 {
		t.Fatalf("want a refusal with code %s, got %v", code, err)
	}
	if all[0].Code != code {
		t.Fatalf("want code %s first, got: %v", code, err)
	}
	for _, r := range all {
		if r.Link != "event-log" || !r.Code.Valid() || r.Want == "" || r.Got == "" || r.Next == "" {
			t.Errorf("refusal with a gap: %+v", r)
		}
	}
}
