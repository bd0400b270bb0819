// SPDX-License-Identifier: Apache-2.0

package snptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/snp"
)

// Time is when every machine is, unless a test says otherwise. Its certificates and lists are valid an hour around it.
func Time() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) }

type keyring struct {
	ark, ask *rsa.PrivateKey
	leaf     *ecdsa.PrivateKey
}

// KeysEnv names a folder with the keys that [SaveKeys] wrote. Test programs that are started by the dozen share them.
const KeysEnv = "KETTLE_TEST_SNP_KEYS"

// keys are shared by all machines of a process: to make them takes most of a second.
var keys = sync.OnceValue(func() keyring {
	var k keyring
	if dir := os.Getenv(KeysEnv); dir != "" {
		k.ark, k.ask = must(loadRSA(dir, "ark")), must(loadRSA(dir, "ask"))
		k.leaf = ECDSAKey(elliptic.P384())
		return k
	}
	var wg sync.WaitGroup
	wg.Go(func() { k.ark = RSAKey(3072) })
	wg.Go(func() { k.ask = RSAKey(3072) })
	k.leaf = ECDSAKey(elliptic.P384())
	wg.Wait()
	return k
})

// SaveKeys writes the keys that are slow to make into a folder, for [KeysEnv].
func SaveKeys(dir string) error {
	k := keys()
	for name, key := range map[string]*rsa.PrivateKey{"ark": k.ark, "ask": k.ask} {
		if err := os.WriteFile(filepath.Join(dir, name), x509.MarshalPKCS1PrivateKey(key), 0o600); err != nil {
			return fmt.Errorf("saving the test's keys: %w", err)
		}
	}
	return nil
}

func loadRSA(dir, name string) (*rsa.PrivateKey, error) {
	der, err := os.ReadFile(filepath.Join(dir, name)) //nolint:gosec // a file of the test's own.
	if err != nil {
		return nil, fmt.Errorf("reading the test's keys: %w", err)
	}
	return x509.ParsePKCS1PrivateKey(der) //nolint:wrapcheck // it ends in a panic.
}

// RSAKey makes a key of the given size.
func RSAKey(bits int) *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, bits)) }

// ECDSAKey makes a key on the given curve.
func ECDSAKey(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }

func must[K any](k K, err error) K {
	if err != nil {
		panic(err) // only without random numbers, or by a wrong [KeysEnv]
	}
	return k
}

// Machine is everything that one signed report is made from. Tests change fields before they call its methods; slices,
// maps and certificates are the machine's own, keys are shared.
type Machine struct {
	Line, Key       string // "Milan", "VCEK"
	ARK, ASK, Leaf  *x509.Certificate
	ARKKey, ASKKey  *rsa.PrivateKey
	LeafKey         *ecdsa.PrivateKey
	LeafPublic      crypto.PublicKey // what the certificate says
	SPL             map[int]any      // INTEGER by arc below 1.3.6.1.4.1.3704.1.3
	Structure       any              // INTEGER, nil for none
	Product, CSP    any              // IA5String, nil for none
	HWID            []byte           // nil for none
	Extra           []pkix.Extension // into the leaf
	Report          []byte           // [snp.ReportSize] bytes, all but the signature
	AfterSign       func(report []byte)
	RootsOf         *Machine // whose roots the verifier is given, nil for this one's
	At              time.Time
	CRLExtra        []pkix.Extension
	CRLFrom, CRLEnd time.Time
}

// New makes a machine of a line ("Milan", "Genoa", "Turin") whose reports a "VCEK" or "VLEK" signs, exactly at the
// default floor: a guest without debugging or migration agent, at VMPL 0, on a host with SMT on and the alias check
// done. Its report is of version 3.
func New(line, key string) *Machine {
	k := keys()
	m := &Machine{
		Line: line, Key: key, ARKKey: k.ark, ASKKey: k.ask, LeafKey: k.leaf, LeafPublic: &k.leaf.PublicKey,
		Structure: 0, At: Time(), Report: make([]byte, snp.ReportSize), CRLFrom: Time().Add(-time.Hour), CRLEnd: Time().Add(time.Hour),
	}
	askName := "SEV-" + line
	serial := map[string]int64{"Milan": 0x10000, "Genoa": 0x20000, "Turin": 0x30000}[line]
	askSerial := serial + 1
	if key == "VLEK" {
		askName, askSerial = "SEV-VLEK-"+line, serial+0x101
	}
	m.ARK, m.ASK, m.Leaf = Template("ARK-"+line, true), Template(askName, true), Template("SEV-"+key, false)
	m.ARK.SerialNumber, m.ASK.SerialNumber, m.Leaf.SerialNumber = big.NewInt(serial), big.NewInt(askSerial), new(big.Int)
	m.Product = line
	if key == "VCEK" && line != "Turin" {
		m.Product = line + "-B1"
	}
	if line == "Turin" {
		m.Structure = 1
	}
	m.fillReport()
	return m
}

func (m *Machine) fillReport() {
	r := m.Report
	le := binary.LittleEndian
	le.PutUint32(r[0x000:], 3)
	le.PutUint64(r[0x008:], 1<<17|1<<16|0x1f)
	le.PutUint32(r[0x034:], 1)
	le.PutUint64(r[0x040:], 0x25)
	copy(r[0x050:], "report data of the test")
	copy(r[0x090:], "measurement of the test")
	copy(r[0x140:], "report id of the test")
	for i := 0x160; i < 0x180; i++ {
		r[i] = 0xff // no migration agent
	}
	copy(r[0x1e8:], []byte{31, 55, 1, 0, 31, 55, 1})
	tcb := []byte{4, 0, 0, 0, 0, 0, 24, 219}
	cpu := []byte{0x19, 0x01, 0x01}
	m.SPL = map[int]any{1: 4, 2: 0, 3: 24, 4: 0, 5: 0, 6: 0, 7: 0, 8: 219}
	chip := []byte("chip identifier of the test, which has to be 64 bytes in length.")
	switch m.Line {
	case "Genoa":
		tcb = []byte{10, 0, 0, 0, 0, 0, 23, 0x54}
		cpu = []byte{0x19, 0x11, 0x01}
		m.SPL = map[int]any{1: 10, 2: 0, 3: 23, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0x54}
	case "Turin":
		tcb = []byte{1, 1, 1, 4, 0, 0, 0, 0x51}
		cpu = []byte{0x1a, 0x02, 0x01}
		m.SPL = map[int]any{9: 1, 1: 1, 2: 1, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0x51}
		chip = chip[:8]
	}
	for _, off := range []int{0x038, 0x180, 0x1e0, 0x1f0} {
		copy(r[off:], tcb)
	}
	copy(r[0x188:], cpu)
	if m.Key == "VLEK" {
		le.PutUint32(r[0x048:], 1<<2)
		m.CSP = "CN=provider.test"
		return
	}
	m.HWID = chip
	copy(r[0x1a0:], chip)
}

// SetVersion makes the report one of the given version, 2 to 5: version 2 names no processor.
func (m *Machine) SetVersion(version byte) {
	m.Report[0] = version
	if version < 3 {
		clear(m.Report[0x188:0x18b])
	}
}

// SetTCB gives one part the same value in all four TCBs of the report and in the certificate: part is the offset within
// a TCB_VERSION, arc the certificate's extension for it.
func (m *Machine) SetTCB(part, arc int, value byte) {
	for _, base := range []int{0x038, 0x180, 0x1e0, 0x1f0} {
		m.Report[base+part] = value
	}
	m.SPL[arc] = int(value)
}

// SetReportData makes the 64 bytes that the guest asks to be signed.
func (m *Machine) SetReportData(data [64]byte) { copy(m.Report[0x50:], data[:]) }

// SetMeasurement makes the launch digest.
func (m *Machine) SetMeasurement(digest [48]byte) { copy(m.Report[0x90:], digest[:]) }

// Signed gives the report with the leaf's signature.
func (m *Machine) Signed(t testing.TB) []byte {
	t.Helper()
	r := slices.Clone(m.Report)
	digest := sha512.Sum384(r[:0x2a0])
	R, S, err := ecdsa.Sign(rand.Reader, m.LeafKey, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []*big.Int{R, S} {
		half := r[0x2a0+72*i:][:72]
		n.FillBytes(half)
		slices.Reverse(half)
	}
	if m.AfterSign != nil {
		m.AfterSign(r)
	}
	return r
}

// Verify judges the machine's report with its certificate, roots and time.
func (m *Machine) Verify(t testing.TB) (*snp.Report, error) {
	t.Helper()
	return snp.Verify(m.Signed(t), m.LeafDER(t), m.Roots(t), m.At) //nolint:wrapcheck // the tests judge it.
}
