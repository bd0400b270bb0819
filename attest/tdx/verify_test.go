// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// at gives an edit of one byte of a finished quote.
func at(offset int, value byte) func([]byte) []byte {
	return func(quote []byte) []byte {
		quote[offset] = value
		return quote
	}
}

// certificate gives a change of one certificate's template.
func certificate(name string, change func(c *x509.Certificate)) func(s *scene) {
	return func(s *scene) {
		s.config.Change = func(n string, c *x509.Certificate) {
			if n == name {
				change(c)
			}
		}
	}
}

// Offsets in a synthetic quote of version 4.
const (
	offSignatureSize = 48 + 584
	offCertType      = offSignatureSize + 4 + 128
	offQEReport      = offCertType + 6
	offAuthSize      = offQEReport + 384 + 64
)

func TestLayoutRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"empty":                func(s *scene) { s.edit = func([]byte) []byte { return nil } },
		"header cut":           func(s *scene) { s.edit = func(b []byte) []byte { return b[:47] } },
		"body cut":             func(s *scene) { s.edit = func(b []byte) []byte { return b[:631] } },
		"no signature size":    func(s *scene) { s.edit = func(b []byte) []byte { return b[:634] } },
		"one byte short":       func(s *scene) { s.edit = func(b []byte) []byte { return b[:len(b)-1] } },
		"descriptor cut":       func(s *scene) { s.quote.Version = 5; s.edit = func(b []byte) []byte { return b[:50] } },
		"version 3":            func(s *scene) { s.quote.Version = 3 },
		"version 6":            func(s *scene) { s.quote.Version = 6 },
		"key type 3":           func(s *scene) { s.quote.KeyType = 3 },
		"SGX":                  func(s *scene) { s.quote.TEE = 0 },
		"reserved in header":   func(s *scene) { s.quote.Reserved = 1 << 31 },
		"vendor":               func(s *scene) { s.quote.Vendor[15]++ },
		"body type 1":          func(s *scene) { s.quote.Version, s.quote.BodyType = 5, 1 },
		"body type 2, size 3":  func(s *scene) { s.quote.Version, s.quote.BodyType = 5, 3; s.edit = at(48, 2) },
		"body size":            func(s *scene) { s.quote.Version = 5; s.edit = at(50, 0x47) },
		"MRSIGNERSEAM":         func(s *scene) { s.quote.Body.MRSignerSEAM[47] = 1 },
		"SEAMATTRIBUTES":       func(s *scene) { s.quote.Body.SEAMAttributes[0] = 1 },
		"certification type 1": func(s *scene) { s.quote.CertType = 1 },
		"chain type 4":         func(s *scene) { s.quote.ChainType = 4 },
		"huge signature size":  func(s *scene) { s.edit = at(offSignatureSize+3, 0xff) },
		"signature size": func(s *scene) {
			s.quote.Padding = 1
			s.edit = func(b []byte) []byte { b[offSignatureSize]++; return b }
		},
		"huge certification":    func(s *scene) { s.edit = at(offCertType+5, 0x80) },
		"certification size":    func(s *scene) { s.edit = func(b []byte) []byte { b[offCertType+2]--; return b } },
		"huge auth data":        func(s *scene) { s.edit = at(offAuthSize+1, 0xff) },
		"chain size":            func(s *scene) { s.edit = func(b []byte) []byte { b[offAuthSize+2+15+2]--; return b } },
		"trailing byte":         func(s *scene) { s.edit = func(b []byte) []byte { return append(b, 1) } },
		"text behind padding":   func(s *scene) { s.quote.Padding = 64; s.edit = func(b []byte) []byte { return append(b, "text"...) } },
		"QE reserved 20":        func(s *scene) { s.quote.QEReport = func(r []byte) { r[47] = 1 } },
		"QE reserved 96":        func(s *scene) { s.quote.QEReport = func(r []byte) { r[96] = 1 } },
		"QE reserved 160":       func(s *scene) { s.quote.QEReport = func(r []byte) { r[255] = 1 } },
		"QE reserved 260":       func(s *scene) { s.quote.QEReport = func(r []byte) { r[260] = 1 } },
		"QE report data":        func(s *scene) { s.quote.QEReport = func(r []byte) { r[383] = 1 } },
		"no chain":              func(s *scene) { s.quote.Chain = []byte{0} },
		"two certificates":      withChain(func(p *tdxtest.PKI) []byte { return p.PEM(tdxtest.PCKLeaf, tdxtest.PCKCA) }),
		"four certificates":     withChain(func(p *tdxtest.PKI) []byte { return p.PEM(tdxtest.PCKLeaf, tdxtest.PCKCA, tdxtest.Root, tdxtest.Root) }),
		"text in the chain":     withChain(func(p *tdxtest.PKI) []byte { return append([]byte("x\n"), whole(p)...) }),
		"text behind the chain": withChain(func(p *tdxtest.PKI) []byte { return append(whole(p), 'x') }),
		"space in the chain":    withChain(func(p *tdxtest.PKI) []byte { return append(whole(p), ' ', '\n') }),
		"long lines":            withChain(func(p *tdxtest.PKI) []byte { return bytes.Replace(whole(p), []byte("A\n"), []byte("A"), 1) }),
		"short lines":           withChain(func(p *tdxtest.PKI) []byte { return bytes.Replace(whole(p), []byte("\nMII"), []byte("\nMI\nI"), 1) }),
		"padding bits":          withChain(paddingBits),
		"NUL inside":            withChain(func(p *tdxtest.PKI) []byte { return append(append(whole(p), 0), '\n') }),
		"too much PEM":          withChain(func(p *tdxtest.PKI) []byte { return append(whole(p), bytes.Repeat([]byte{'\n'}, 1<<16)...) }),
	} {
		s := newScene()
		change(s)
		_, _, err := s.verify(t)
		if t.Run(name, func(t *testing.T) { wantFirst(t, err, refusal.Malformed) }); t.Failed() {
			return
		}
	}
}

func withChain(chain func(p *tdxtest.PKI) []byte) func(s *scene) {
	return func(s *scene) { s.quote.Chain = chain(tdxtest.New(s.config)) }
}

func whole(p *tdxtest.PKI) []byte { return p.PEM(tdxtest.PCKLeaf, tdxtest.PCKCA, tdxtest.Root) }

// paddingBits sets a bit that base64 decoders ignore: the last letter before a "=".
func paddingBits(p *tdxtest.PKI) []byte {
	chain := whole(p)
	i := bytes.IndexByte(chain, '=')
	if i < 0 {
		panic("no padding in the chain")
	}
	chain[i-1]++
	return chain
}

func TestLineEndsOfTheChain(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string]func(p *tdxtest.PKI) []byte{
		"CRLF":   func(p *tdxtest.PKI) []byte { return bytes.ReplaceAll(whole(p), []byte("\n"), []byte("\r\n")) },
		"no end": func(p *tdxtest.PKI) []byte { return bytes.TrimRight(whole(p), "\n") },
		"empty lines": func(p *tdxtest.PKI) []byte {
			return bytes.ReplaceAll(whole(p), []byte("-----\n-----"), []byte("-----\n\n-----"))
		},
		"two NULs":       func(p *tdxtest.PKI) []byte { return append(whole(p), 0, 0) },
		"NUL, no end":    func(p *tdxtest.PKI) []byte { return append(bytes.TrimRight(whole(p), "\n"), 0) },
		"starts with LF": func(p *tdxtest.PKI) []byte { return append([]byte{'\n'}, whole(p)...) },
	} {
		s := newScene()
		withChain(chain)(s)
		if _, _, err := s.verify(t); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSignaturesRefuse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"quote by another key":          func(s *scene) { s.quote.Signer = "another" },
		"changed body":                  func(s *scene) { s.edit = func(b []byte) []byte { b[48+0x88]++; return b } },
		"changed header":                func(s *scene) { s.edit = func(b []byte) []byte { b[30]++; return b } },
		"changed signature":             func(s *scene) { s.edit = func(b []byte) []byte { b[offSignatureSize+4]++; return b } },
		"zero signature":                func(s *scene) { s.edit = func(b []byte) []byte { clear(b[offSignatureSize+4:][:64]); return b } },
		"attestation key off the curve": func(s *scene) { s.edit = func(b []byte) []byte { clear(b[offSignatureSize+68:][:64]); return b } },
		"QE report binds another key":   func(s *scene) { s.quote.BoundKey = "another" },
		"QE report by another key":      func(s *scene) { s.quote.QESigner = "another" },
		"QE report by the CA":           func(s *scene) { s.quote.QESigner = tdxtest.PCKCA },
		"QE report binds other data":    func(s *scene) { s.edit = func(b []byte) []byte { b[offAuthSize+2]++; return b } },
		"changed QE signature":          func(s *scene) { s.edit = func(b []byte) []byte { b[offQEReport+384]++; return b } },
	} {
		s := newScene()
		change(s)
		_, _, err := s.verify(t)
		t.Run(name, func(t *testing.T) { wantFirst(t, err, refusal.Signature) })
	}
}

// TestAttackQuoteByAnotherEnclave: a platform's PCK signs the report of every enclave with access to provisioning keys.
// Without collateral nothing else says that it was Intel's TD quoting enclave that made the quote.
func TestAttackQuoteByAnotherEnclave(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(e *tdxtest.Enclave){
		"signer":          func(e *tdxtest.Enclave) { e.MRSigner[0]++ },
		"product":         func(e *tdxtest.Enclave) { e.Product = 1 },
		"debug":           func(e *tdxtest.Enclave) { e.Attributes[0] |= 2 },
		"not initialised": func(e *tdxtest.Enclave) { e.Attributes[0] &^= 1 },
	} {
		s := newScene()
		change(&s.quote.Enclave)
		_, _, err := s.verify(t)
		t.Run(name, func(t *testing.T) { wantFirst(t, err, refusal.Chain) })
	}
}

func TestChainRefuses(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}
	unconstrained := func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA, c.MaxPathLenZero = false, false, false }
	for name, change := range map[string]func(s *scene){
		"leaf by another key": func(s *scene) { s.config.Issuers = map[string]string{tdxtest.PCKLeaf: "another"} },
		"CA by another key":   func(s *scene) { s.config.Issuers = map[string]string{tdxtest.PCKCA: "another"} },
		"leaf in place of the CA": withChain(func(p *tdxtest.PKI) []byte {
			return p.PEM(tdxtest.PCKLeaf, tdxtest.PCKLeaf, tdxtest.Root)
		}),
		"TCB signing in place of the CA": withChain(func(p *tdxtest.PKI) []byte {
			return p.PEM(tdxtest.PCKLeaf, tdxtest.TCBSigning, tdxtest.Root)
		}),
		"TCB signing in place of the leaf": withChain(func(p *tdxtest.PKI) []byte {
			return p.PEM(tdxtest.TCBSigning, tdxtest.PCKCA, tdxtest.Root)
		}),
		"another root":      withChain(func(p *tdxtest.PKI) []byte { return p.PEM(tdxtest.PCKLeaf, tdxtest.PCKCA, tdxtest.PCKCA) }),
		"CA name":           certificate(tdxtest.PCKCA, func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX PCK Other CA" }),
		"CA organisation":   certificate(tdxtest.PCKCA, func(c *x509.Certificate) { c.Subject.Organization[0] = "Intel" }),
		"leaf name":         certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.Subject.CommonName += " " }),
		"leaf has a unit":   certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"x"} }),
		"leaf on P-384":     certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.PublicKey = &p384.PublicKey }),
		"leaf by SHA-384":   certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 }),
		"leaf is a CA":      certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.IsCA = true }),
		"leaf usage":        certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
		"leaf signs certs":  certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }),
		"leaf purpose":      certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"leaf extension":    certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.ExtraExtensions = append(c.ExtraExtensions, critical) }),
		"CA is none":        certificate(tdxtest.PCKCA, unconstrained),
		"CA usage":          certificate(tdxtest.PCKCA, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }),
		"CA path length":    certificate(tdxtest.PCKCA, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 1, false }),
		"no CA path length": certificate(tdxtest.PCKCA, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, false }),
		"leaf is no certificate": withChain(func(p *tdxtest.PKI) []byte {
			return append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), p.PEM(tdxtest.PCKCA, tdxtest.Root)...)
		}),
	} {
		s := newScene()
		change(s)
		_, _, err := s.verify(t)
		t.Run(name, func(t *testing.T) { wantFirst(t, err, refusal.Chain) })
	}
}

func TestValidity(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	quote, roots := p.Quote(tdxtest.NewQuote()), privateRoots(t, p)
	for name, c := range map[string]struct {
		at   time.Time
		want refusal.Code
	}{
		"none":   {time.Time{}, refusal.Missing},
		"before": {p.At.Add(-time.Second), refusal.Expired},
		"first":  {p.At, ""},
		"last":   {p.Certs[tdxtest.PCKLeaf].NotAfter, ""},
		"after":  {p.Certs[tdxtest.PCKLeaf].NotAfter.Add(time.Second), refusal.Expired},
	} {
		_, err := tdx.Verify(quote, roots, c.at)
		if c.want == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.want != "" {
			wantFirst(t, err, c.want)
		}
	}
	for _, name := range []string{tdxtest.Root, tdxtest.PCKCA, tdxtest.PCKLeaf} { // each on its own
		s := newScene()
		certificate(name, func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(48 * time.Hour) })(s)
		_, _, err := s.verify(t)
		wantFirst(t, err, refusal.Expired)
	}
	// A forgery that is late too is told as a forgery first.
	s := newScene()
	certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.NotAfter = c.NotBefore })(s)
	s.quote.Signer = "another"
	_, _, err := s.verify(t)
	wantFirst(t, err, refusal.Signature)
	if all := refusal.All(err); len(all) != 2 || all[1].Code != refusal.Expired {
		t.Errorf("%v", err)
	}
}

// TestIssuerByName: a CA of the right name and key, but with another key identifier, is another CA.
func TestIssuerByName(t *testing.T) {
	t.Parallel()
	s := newScene()
	other := tdxtest.New(tdxtest.Config{Change: func(name string, c *x509.Certificate) {
		if name == tdxtest.PCKCA {
			c.SubjectKeyId = []byte{1, 2, 3}
		}
	}})
	leaf := tdxtest.New(tdxtest.Config{})
	s.quote.Chain = append(leaf.PEM(tdxtest.PCKLeaf), other.PEM(tdxtest.PCKCA, tdxtest.Root)...)
	_, _, err := s.verify(t)
	wantFirst(t, err, refusal.Chain)

	s = newScene() // a PCK without SGX extension
	certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.ExtraExtensions = nil })(s)
	_, _, err = s.verify(t)
	wantFirst(t, err, refusal.Malformed)
}

// TestTruncations: no prefix of a quote is a quote, and no length in one is trusted.
func TestTruncations(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	quote, roots := p.Quote(tdxtest.NewQuote()), privateRoots(t, p)
	for n := range quote {
		if _, err := tdx.Verify(quote[:n], roots, p.Day()); err == nil {
			t.Fatalf("accepted %d bytes of %d", n, len(quote))
		}
	}
	for _, offset := range []int{offSignatureSize, offCertType + 2, offAuthSize, offAuthSize + 2 + 15 + 2} {
		for _, size := range []uint32{0, 1, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff} {
			b := slices.Clone(quote)
			binary.LittleEndian.PutUint32(b[offset:], size)
			_, err := tdx.Verify(b, roots, p.Day())
			wantFirst(t, err, refusal.Malformed)
		}
	}
}

// TestProcessorCA: platforms of one package are certified by another CA of Intel's, and nothing else about them differs.
func TestProcessorCA(t *testing.T) {
	t.Parallel()
	s := newScene()
	certificate(tdxtest.PCKCA, func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX PCK Processor CA" })(s)
	s.config.Extension = tdxtest.EncodeExtension(tdxtest.SGXEntries(tdxtest.New(tdxtest.Config{}).Config)[:5])
	if err := s.meets(t, floor.Strict, tdx.Direct); err != nil {
		t.Fatal(err)
	}
	if q, _, err := s.verify(t); err != nil || q.PCKIssuer() != "processor" || q.PCK().Instance != nil {
		t.Errorf("%v", err)
	}
}

// TestAccessors: every field of a quote comes from its own place.
func TestAccessors(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.quote.Version, s.quote.BodyType = 5, 3
	b := &s.quote.Body
	*b = tdxtest.Body{Attributes: 1<<28 | 1<<30 | 1<<31, XFAM: 0x0123456789abcdef, TEETCBSVN: [16]byte{6, 1, 3, 15: 4}, TEETCBSVN2: [16]byte{7, 1, 3, 15: 5}}
	for i, m := range []*[48]byte{
		&b.MRSEAM, &b.MRTD, &b.MRConfigID, &b.MROwner, &b.MROwnerConfig, &b.RTMR[0], &b.RTMR[1], &b.RTMR[2], &b.RTMR[3], &b.MRServiceTD,
	} {
		m[0], m[47] = byte(i+1), byte(0x80+i)
	}
	b.ReportData = [64]byte{1, 63: 2}
	s.quote.UserData = [20]byte{1, 19: 2}
	q, p, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	service, hasService := q.MRServiceTD()
	current, hasCurrent := q.TEETCBSVN2()
	if q.Version() != 5 || q.BodyType() != tdx.BodyTDX15 || q.MRSEAM() != b.MRSEAM || q.MRTD() != b.MRTD || q.MRConfigID() != b.MRConfigID ||
		q.MROwner() != b.MROwner || q.MROwnerConfig() != b.MROwnerConfig || q.RTMRs() != b.RTMR || q.ReportData() != b.ReportData ||
		q.XFAM() != b.XFAM || q.TEETCBSVN() != b.TEETCBSVN || q.UserData() != s.quote.UserData || service != b.MRServiceTD || !hasService ||
		current != b.TEETCBSVN2 || !hasCurrent || !q.EndorsementExpires().Equal(p.Certs[tdxtest.PCKLeaf].NotAfter) {
		t.Errorf("%+v", q)
	}
	if a := q.Attributes(); a.Debug() || !a.SEPTVEDisable() || a.Migratable() || !a.PKS() || !a.KeyLocker() || a.Perfmon() {
		t.Errorf("attributes %#x", uint64(a))
	}
	if _, said := mustVerify(t, newScene()).MRServiceTD(); said {
		t.Error("a body of type 2 says what is bound to the TD")
	}
	if _, said := mustVerify(t, newScene()).TEETCBSVN2(); said {
		t.Error("a body of type 2 says which module runs")
	}
}

func mustVerify(t *testing.T, s *scene) *tdx.Quote {
	t.Helper()
	q, _, err := s.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	return q
}
