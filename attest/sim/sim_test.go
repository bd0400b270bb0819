// SPDX-License-Identifier: Apache-2.0

package sim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testTime = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// authority is made once: RSA keys of 4096 bits take about a second.
var authority = sync.OnceValue(func() *sim.Authority {
	a, err := sim.NewAuthority(testTime)
	if err != nil {
		panic(err)
	}
	return a
})

func newProcessor(t testing.TB) *sim.Processor {
	t.Helper()
	p, err := authority().NewProcessor(launchDigest(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func launchDigest() [48]byte {
	var d [48]byte
	copy(d[:], "digest of what the launcher started")
	return d
}

func verify(t testing.TB, p *sim.Processor, report []byte) *snp.Report {
	t.Helper()
	roots, err := snp.ParseRoots(authority().RootsPEM())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := snp.EndorsementKey(p.Endorsements())
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.Verify(report, leaf, roots, testTime)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReportVerifiesAsSim(t *testing.T) {
	t.Parallel()
	p := newProcessor(t)
	want := p.Extend([32]byte{1})
	data := [64]byte{0: 1, 63: 2}
	raw, err := p.Report(data)
	if err != nil {
		t.Fatal(err)
	}
	r := verify(t, p, raw)
	if r.Platform() != snp.PlatformSim {
		t.Errorf("platform %q", r.Platform())
	}
	if r.ReportData() != data || r.Measurement() != launchDigest() || r.HostData() != want {
		t.Error("the report says something else")
	}
	if r.VMPL() != 0 || r.Policy().Debug() || r.Policy().MigrationAgent() {
		t.Errorf("vmpl %d policy %#x", r.VMPL(), r.Policy())
	}
	for _, f := range []floor.Floor{floor.Signature, floor.Default, floor.Strict} {
		if err := r.Meets(f); err != nil {
			t.Errorf("floor %s: %v", f, err)
		}
	}
}

// Whoever does not name the simulator's root refuses everything from it.
func TestGenuinePolicyRefuses(t *testing.T) {
	t.Parallel()
	p := newProcessor(t)
	raw, err := p.Report([64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := snp.EndorsementKey(p.Endorsements())
	if err != nil {
		t.Fatal(err)
	}
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snp.Verify(raw, leaf, roots, testTime); !errors.Is(err, refusal.ErrChain) {
		t.Errorf("want a refusal of the chain, got %v", err)
	}
}

// TestReportGolden holds every fixed byte of a report. Never edit it: another layout is another processor.
func TestReportGolden(t *testing.T) {
	t.Parallel()
	p := newProcessor(t)
	register := p.Extend([32]byte{7})
	data := [64]byte(bytes.Repeat([]byte{0xda}, 64))
	raw, err := p.Report(data)
	if err != nil {
		t.Fatal(err)
	}
	digest := launchDigest()
	tcb := []byte{0x04, 0, 0, 0, 0, 0, 0x18, 0xdb}
	want := make([]byte, 1184)
	put := func(off int, b ...byte) { copy(want[off:], b) }
	put(0x000, 3)
	put(0x008, 0x1f, 0, 2)
	put(0x034, 1)
	put(0x038, tcb...)
	put(0x040, 0x24)
	put(0x050, data[:]...)
	put(0x090, digest[:]...)
	put(0x0c0, register[:]...)
	put(0x140, raw[0x140:0x160]...) // random at launch
	put(0x160, bytes.Repeat([]byte{0xff}, 32)...)
	put(0x180, tcb...)
	put(0x188, 0x19, 0x01, 0x01)
	put(0x1a0, raw[0x1a0:0x1e0]...) // random chip
	put(0x1e0, tcb...)
	put(0x1e8, 31, 55, 1, 0, 31, 55, 1, 0)
	put(0x1f0, tcb...)
	put(0x2a0, raw[0x2a0:0x2d0]...) // R
	put(0x2e8, raw[0x2e8:0x318]...) // S
	if !bytes.Equal(raw, want) {
		t.Errorf("report\n%x\nwant\n%x", raw, want)
	}
	if bytes.Equal(raw[0x140:0x160], make([]byte, 32)) || bytes.Equal(raw[0x1a0:0x1e0], make([]byte, 64)) {
		t.Error("no identifiers")
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	p, q := newProcessor(t), newProcessor(t)
	report := func(p *sim.Processor) *snp.Report {
		raw, err := p.Report([64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		return verify(t, p, raw)
	}
	if a, b := report(p), report(p); a.Instance() != b.Instance() {
		t.Error("two reports of one launch differ in instance")
	}
	if a, b := report(p), report(q); a.ReportID() == b.ReportID() || a.ChipID() == b.ChipID() {
		t.Error("two launches share an identifier")
	}
}

// The register is SHA-256(old ‖ digest) from zeros, and nothing sets it back.
func TestRegisterOnlyExtends(t *testing.T) {
	t.Parallel()
	p := newProcessor(t)
	var want [32]byte
	if p.Register() != want {
		t.Fatal("the register does not start at zero")
	}
	seen := map[[32]byte]bool{want: true}
	for i := range 50 {
		digest := [32]byte{byte(i % 3)}
		want = sha256.Sum256(append(want[:], digest[:]...))
		if got := p.Extend(digest); got != want || p.Register() != want {
			t.Fatalf("extension %d gives %x, want %x", i, got, want)
		}
		if seen[want] {
			t.Fatal("the register came back")
		}
		seen[want] = true
	}
}

func TestRefusesAnUnmeasuredLaunch(t *testing.T) {
	t.Parallel()
	if p, err := authority().NewProcessor([48]byte{}, testTime); err == nil || p != nil {
		t.Error("a processor for a launch that nobody measured")
	}
}

func TestEndorsements(t *testing.T) {
	t.Parallel()
	p := newProcessor(t)
	first, rest := pem.Decode(p.Endorsements())
	second, rest := pem.Decode(rest)
	ask, _ := pem.Decode(authority().RootsPEM())
	if first == nil || second == nil || len(rest) != 0 || !bytes.Equal(second.Bytes, ask.Bytes) {
		t.Error("want VCEK, then the ASK of the roots, and nothing else")
	}
	p.Endorsements()[0] = 'x'
	if p.Endorsements()[0] == 'x' {
		t.Error("the caller can change the endorsements")
	}
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "authority")
	if _, err := sim.LoadAuthority(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("want ErrNotExist, got %v", err)
	}
	if err := authority().Save(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "ask.key": 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v %v", name, info.Mode(), err)
		}
	}
	if err := authority().Save(dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("saving over an authority: %v", err)
	}
	a, err := sim.LoadAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.RootsPEM(), authority().RootsPEM()) {
		t.Error("another root came back")
	}
	p, err := a.NewProcessor(launchDigest(), testTime)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := p.Report([64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	verify(t, p, raw)
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	other, err := sim.NewAuthority(testTime)
	if err != nil {
		t.Fatal(err)
	}
	roots := authority().RootsPEM()
	block, rest := pem.Decode(roots)
	swapped := slices.Concat(rest, pem.EncodeToMemory(block))
	_, otherRest := pem.Decode(other.RootsPEM())
	tests := map[string]func(t *testing.T, dir string){
		"key readable by others": func(t *testing.T, dir string) { chmod(t, dir, "ask.key", 0o640) },
		"roots writable":         func(t *testing.T, dir string) { chmod(t, dir, "roots.pem", 0o666) },
		"no roots":               func(t *testing.T, dir string) { remove(t, dir, "roots.pem") },
		"no key":                 func(t *testing.T, dir string) { remove(t, dir, "ask.key") },
		"empty key":              func(t *testing.T, dir string) { write(t, dir, "ask.key", nil) },
		"key is roots":           func(t *testing.T, dir string) { write(t, dir, "ask.key", roots) },
		"roots of another":       func(t *testing.T, dir string) { write(t, dir, "roots.pem", other.RootsPEM()) },
		"roots swapped":          func(t *testing.T, dir string) { write(t, dir, "roots.pem", swapped) },
		"ark of another": func(t *testing.T, dir string) {
			write(t, dir, "roots.pem", slices.Concat(pem.EncodeToMemory(block), otherRest))
		},
		"roots and more": func(t *testing.T, dir string) { write(t, dir, "roots.pem", append(slices.Clone(roots), roots...)) },
		"half a root":    func(t *testing.T, dir string) { write(t, dir, "roots.pem", roots[:len(roots)/2]) },
		"key a folder":   func(t *testing.T, dir string) { remove(t, dir, "ask.key"); mkdir(t, dir, "ask.key") },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := authority().Save(dir); err != nil {
				t.Fatal(err)
			}
			spoil(t, dir)
			if a, err := sim.LoadAuthority(dir); err == nil || a != nil {
				t.Error("loaded")
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chmod(t *testing.T, dir, name string, mode os.FileMode) {
	t.Helper()
	must(t, os.Chmod(filepath.Join(dir, name), mode))
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	must(t, os.Remove(filepath.Join(dir, name)))
}

func mkdir(t *testing.T, dir, name string) {
	t.Helper()
	must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
}

func BenchmarkReport(b *testing.B) {
	p := newProcessor(b)
	var data [64]byte
	for b.Loop() {
		binary.BigEndian.PutUint64(data[:], binary.BigEndian.Uint64(data[:])+1)
		if _, err := p.Report(data); err != nil {
			b.Fatal(err)
		}
	}
}
