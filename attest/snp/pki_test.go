// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/snp"
)

// The tests' own signer. Unlike attest/sim it signs whatever a test wants: each negative test changes one thing that
// the signer then signs, so that only the check under test can refuse it.

var testTime = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

type testKeys struct {
	ark, ask *rsa.PrivateKey
	leaf     *ecdsa.PrivateKey
}

var keys = sync.OnceValue(func() testKeys {
	var k testKeys
	var wg sync.WaitGroup
	wg.Go(func() { k.ark = mustKey(rsa.GenerateKey(rand.Reader, 3072)) })
	wg.Go(func() { k.ask = mustKey(rsa.GenerateKey(rand.Reader, 3072)) })
	k.leaf = mustKey(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	wg.Wait()
	return k
})

func mustKey[K any](k K, err error) K {
	if err != nil {
		panic(err)
	}
	return k
}

// bench is everything that one signed report is made from. Tests change fields before calling its methods.
type bench struct {
	line, key         string // "Milan", "VCEK"
	ark, ask, leaf    *x509.Certificate
	arkKey, askKey    *rsa.PrivateKey
	leafPublic        crypto.PublicKey
	leafKey           *ecdsa.PrivateKey
	spl               map[int]any // INTEGER by arc
	product, csp      any         // IA5String, nil for none
	hwid              []byte
	extra             []pkix.Extension
	report            []byte
	afterSign         func(report []byte)
	rootsOf           *bench // another bench's roots, nil for its own
	at                time.Time
	truncate, trailer int
}

func newBench(line, key string) *bench {
	k := keys()
	b := &bench{
		line: line, key: key, arkKey: k.ark, askKey: k.ask, leafKey: k.leaf, leafPublic: &k.leaf.PublicKey,
		at: testTime, report: make([]byte, snp.ReportSize),
	}
	askName := "SEV-" + line
	if key == "VLEK" {
		askName = "SEV-VLEK-" + line
	}
	b.ark = template("ARK-"+line, true)
	b.ask = template(askName, true)
	b.leaf = template("SEV-"+key, false)
	b.product = line
	if key == "VCEK" && line != "Turin" {
		b.product = line + "-B1"
	}
	b.fillReport()
	return b
}

func (b *bench) fillReport() {
	r := b.report
	le := binary.LittleEndian
	le.PutUint32(r[0x000:], 3)
	le.PutUint64(r[0x008:], 1<<17|1<<16|0x1f)
	le.PutUint32(r[0x034:], 1)
	le.PutUint64(r[0x040:], 0x25)
	copy(r[0x050:], "report data of the test")
	copy(r[0x090:], "measurement of the test")
	copy(r[0x140:], "report id of the test")
	tcb := []byte{4, 0, 0, 0, 0, 0, 24, 219}
	cpu := []byte{0x19, 0x01, 0x01}
	b.spl = map[int]any{1: 4, 2: 0, 3: 24, 4: 0, 5: 0, 6: 0, 7: 0, 8: 219}
	chip := []byte("chip identifier of the test, which has to be 64 bytes in length.")
	switch b.line {
	case "Genoa":
		tcb = []byte{10, 0, 0, 0, 0, 0, 23, 0x54}
		cpu = []byte{0x19, 0x11, 0x01}
		b.spl = map[int]any{1: 10, 2: 0, 3: 23, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0x54}
	case "Turin":
		tcb = []byte{1, 1, 1, 4, 0, 0, 0, 0x51}
		cpu = []byte{0x1a, 0x02, 0x01}
		b.spl = map[int]any{9: 1, 1: 1, 2: 1, 3: 4, 5: 0, 6: 0, 7: 0, 8: 0x51}
		chip = chip[:8]
	}
	for _, off := range []int{0x038, 0x180, 0x1e0, 0x1f0} {
		copy(r[off:], tcb)
	}
	copy(r[0x188:], cpu)
	if b.key == "VLEK" {
		le.PutUint32(r[0x048:], 1<<2)
		b.csp = "CN=provider.test"
		return
	}
	b.hwid = chip
	copy(r[0x1a0:], chip)
}

func template(name string, ca bool) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		Subject: pkix.Name{
			Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
			Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"}, CommonName: name,
		},
		NotBefore: testTime.Add(-time.Hour), NotAfter: testTime.Add(time.Hour),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	if ca {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	return c
}

func (b *bench) askDER(t testing.TB) []byte {
	t.Helper()
	return certificate(t, b.ask, b.ark, &b.askKey.PublicKey, b.arkKey)
}

func (b *bench) arkDER(t testing.TB) []byte {
	t.Helper()
	return certificate(t, b.ark, b.ark, &b.arkKey.PublicKey, b.arkKey)
}

func (b *bench) rootsPEM(t testing.TB) []byte {
	t.Helper()
	return slices.Concat(toPEM(b.askDER(t)), toPEM(b.arkDER(t)))
}

// unchanged roots are signed and parsed once, which most of the tests' time would go to otherwise.
var unchanged sync.Map // of line and key: []snp.Root

func (b *bench) roots(t testing.TB) []snp.Root {
	t.Helper()
	if b.rootsOf != nil {
		return b.rootsOf.roots(t)
	}
	fresh, k := newBench(b.line, b.key), keys()
	same := reflect.DeepEqual(b.ark, fresh.ark) && reflect.DeepEqual(b.ask, fresh.ask) && b.arkKey == k.ark && b.askKey == k.ask
	if made, ok := unchanged.Load(b.line + b.key); ok && same {
		return made.([]snp.Root)
	}
	r, err := snp.ParseRoots(b.rootsPEM(t))
	if err != nil {
		t.Fatal(err)
	}
	if same {
		unchanged.Store(b.line+b.key, r)
	}
	return r
}

func (b *bench) leafDER(t testing.TB) []byte {
	t.Helper()
	c := *b.leaf
	add := func(value any, params string, arcs ...int) {
		raw, err := asn1.MarshalWithParams(value, params)
		if err != nil {
			t.Fatal(err)
		}
		if r, ok := value.(asn1.RawContent); ok {
			raw = r
		}
		id := append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs...)
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Value: raw})
	}
	add(1, "", 1)
	if b.product != nil {
		add(b.product, "ia5", 2)
	}
	if b.csp != nil {
		add(b.csp, "ia5", 5)
	}
	if b.hwid != nil {
		id := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Value: b.hwid})
	}
	for _, arc := range slices.Sorted(maps.Keys(b.spl)) {
		add(b.spl[arc], "", 3, arc)
	}
	c.ExtraExtensions = append(c.ExtraExtensions, b.extra...)
	return certificate(t, &c, b.ask, b.leafPublic, b.askKey)
}

func certificate(t testing.TB, tmpl, parent *x509.Certificate, public, signer any) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// signed gives the report with the leaf's signature.
func (b *bench) signed(t testing.TB) []byte {
	t.Helper()
	r := slices.Clone(b.report)
	digest := sha512.Sum384(r[:0x2a0])
	R, S, err := ecdsa.Sign(rand.Reader, b.leafKey, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range []*big.Int{R, S} {
		half := r[0x2a0+72*i:][:72]
		n.FillBytes(half)
		slices.Reverse(half)
	}
	if b.afterSign != nil {
		b.afterSign(r)
	}
	return append(r[:len(r)-b.truncate], make([]byte, b.trailer)...)
}

func (b *bench) verify(t testing.TB) (*snp.Report, error) {
	t.Helper()
	return snp.Verify(b.signed(t), b.leafDER(t), b.roots(t), b.at)
}

func toPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
