// SPDX-License-Identifier: Apache-2.0

package tcg_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/vectors"
)

// genuine is a real quote with its log.
type genuine struct {
	name string
	log  []byte
	read func([]byte) (*tcg.Log, error)
	// quoted are RTMR 0 to 3 of the quote.
	quoted map[int][]byte
}

// realLogs loads every TDX vector that has a log.
func realLogs(t testing.TB) []genuine {
	t.Helper()
	dir := vectors.TEE(t)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []genuine
	for _, e := range entries {
		var v struct {
			Kind     string            `json:"kind"`
			EventLog string            `json:"eventLog"`
			Files    map[string]string `json:"files"`
		}
		raw, err := os.ReadFile(filepath.Join(dir, e.Name(), "vector.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		r := genuine{name: e.Name(), read: tcg.ParseCC}
		file := v.Files["eventLog"]
		if file == "" {
			file, r.read = v.Files["quoteReport"], tcg.ParseDstack
		}
		if v.Kind != "tdx" || file == "" || v.EventLog != "" && v.EventLog != "match" {
			continue
		}
		r.log = readVector(t, dir, e.Name(), file)
		r.quoted = rtmrs(t, readVector(t, dir, e.Name(), v.Files["quote"]))
		out = append(out, r)
	}
	if len(out) < 3 {
		t.Fatalf("want three logs at least, got %d", len(out))
	}
	return out
}

func readVector(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rtmrs takes the registers out of a quote of version 4: they stand 0x148 bytes into the body, which begins at 48.
func rtmrs(t testing.TB, quote []byte) map[int][]byte {
	t.Helper()
	const begin = 48 + 0x148
	if len(quote) < begin+4*48 {
		t.Fatal("a short quote")
	}
	var values [4][48]byte
	for i := range values {
		copy(values[i][:], quote[begin+48*i:])
	}
	return tcg.RTMRs(values)
}

func realLog(t testing.TB, name string) genuine {
	t.Helper()
	for _, r := range realLogs(t) {
		if r.name == name {
			return r
		}
	}
	t.Fatalf("no vector %s", name)
	return genuine{}
}

func TestRealLogsMatchTheirQuotes(t *testing.T) {
	t.Parallel()
	for _, r := range realLogs(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			l := parse(t, r.read, r.log)
			a := match(t, l, tcg.SHA384, r.quoted)
			if len(a.Events()) == 0 || len(a.Covered()) != 4 || a.Algorithm() != tcg.SHA384 || a.Kind() != l.Kind() {
				t.Errorf("account of %v with %d events", a.Covered(), len(a.Events()))
			}
			if !a.Facts().ExitBootServices {
				t.Error("the firmware was not left")
			}
			if byContent := parse(t, tcg.ParseRTMR, r.log); byContent.Kind() != l.Kind() {
				t.Errorf("recognised as %s", byContent.Kind())
			}
			for i := range r.quoted {
				for _, bit := range []byte{1, 0x80} {
					for _, place := range []int{0, 47} {
						changed := flipRegister(r.quoted, i, place, bit)
						_, err := l.Match(tcg.SHA384, changed)
						refused(t, err, refusal.EventLogMismatch)
						if first := refusal.All(err)[0]; !strings.HasPrefix(first.Want, l.Kind().Register(i)+" ") {
							t.Errorf("want register %d named first: %v", i, first)
						}
					}
				}
			}
		})
	}
}

func flipRegister(registers map[int][]byte, r, place int, bit byte) map[int][]byte {
	out := map[int][]byte{}
	for i, v := range registers {
		out[i] = bytes.Clone(v)
	}
	out[r][place] ^= bit
	return out
}

// TestRealCCEL reads the facts of a Google Cloud VM with Container-Optimized OS.
func TestRealCCEL(t *testing.T) {
	t.Parallel()
	r := realLog(t, "tdx15-gcp-cos-ccel")
	f := match(t, parse(t, tcg.ParseCC, r.log), tcg.SHA384, r.quoted).Facts()
	if f.SecureBoot != tcg.SecureBootOff {
		t.Errorf("Secure Boot %s", f.SecureBoot)
	}
	var names []string
	for _, k := range f.Keys {
		names = append(names, k.Name)
		list, err := k.Signatures()
		if err != nil || len(list) == 0 {
			t.Errorf("%s: %d signatures, %v", k.Name, len(list), err)
		}
	}
	if got := strings.Join(names, " "); got != "PK KEK db dbx" {
		t.Errorf("keys %s", got)
	}
	if len(f.CommandLines) != 1 || f.CommandLines[0].By != "grub" || f.CommandLines[0].Register != 2 ||
		!strings.HasPrefix(f.CommandLines[0].Text, "/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd ") {
		t.Errorf("command lines %+v", f.CommandLines)
	}
	if len(f.ACPI) != 3 || f.ACPI[0].Label != "ACPI DATA" || f.ACPI[0].Register != 0 || len(f.ACPI[0].Digest) != 48 {
		t.Errorf("ACPI %+v", f.ACPI)
	}
	if f.Separators[0] != 8 || f.Separators[1] != 16 || len(f.Separators) != 2 {
		t.Errorf("separators %v", f.Separators)
	}
	// The value of BootOrder is the four bytes 1, 0, 0, 0: the digest of an error's separator, but no separator.
	if len(f.Variables) < 3 || !bytes.Equal(f.Variables[0].Value, []byte{1, 0, 0, 0}) || f.Variables[0].Name != "" {
		t.Errorf("variables %+v", f.Variables)
	}
}

func TestRealArea(t *testing.T) {
	t.Parallel()
	raw := readVector(t, vectors.TEE(t), "tdx15-gcp-cos-ccel", "ccel_table.dat")
	area, err := tcg.ParseArea(raw)
	if err != nil {
		t.Fatal(err)
	}
	if area != (tcg.Area{Type: 2, Length: 262144, Address: 0xbedbf000}) {
		t.Errorf("area %+v", area)
	}
	log := realLog(t, "tdx15-gcp-cos-ccel").log
	if err := area.Holds(log); err != nil {
		t.Error(err)
	}
	refused(t, area.Holds(append(bytes.Clone(log), 0xff)), refusal.Malformed)
	area.Type = 1
	refused(t, area.Holds(log), refusal.Malformed)
	for name, b := range map[string][]byte{
		"nothing": nil, "short": raw[:55], "long": append(bytes.Clone(raw), 0), "signature": append([]byte("APIC"), raw[4:]...),
		"checksum": append(bytes.Clone(raw[:55]), raw[55]+1), "length": append([]byte("CCEL\x39"), raw[5:]...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tcg.ParseArea(b)
			refused(t, err, refusal.Malformed)
		})
	}
}

// TestRealRuntimeEvents reads the events of dstack's guest, once with digests and data of all events and once with
// those that can be left out left out.
func TestRealRuntimeEvents(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"tdx15-rtmr3-events": "system-preparing app-id compose-hash instance-id boot-mr-done key-provider system-ready LIUM_MINER_HOTKEY",
		"tdx15-direct-boot":  "system-preparing app-id compose-hash instance-id boot-mr-done os-image-hash key-provider storage-fs system-ready",
	} {
		r := realLog(t, name)
		f := match(t, parse(t, tcg.ParseDstack, r.log), tcg.SHA384, r.quoted).Facts()
		var names []string
		for _, e := range f.Runtime {
			names = append(names, e.Name)
			if e.Register != 3 {
				t.Errorf("%s in register %d", e.Name, e.Register)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: want %s, got %s", name, want, got)
		}
		if want := map[string]int{"tdx15-rtmr3-events": 2}[name]; len(f.Linux) != want {
			t.Errorf("%s: Linux %+v", name, f.Linux)
		}
		// The variable is absent in these, and in one of them its data was left out.
		if f.SecureBoot != tcg.SecureBootAbsent || len(f.ACPI) != 3 {
			t.Errorf("%s: Secure Boot %s, ACPI %+v", name, f.SecureBoot, f.ACPI)
		}
	}
}
