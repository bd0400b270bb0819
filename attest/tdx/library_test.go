// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/pcs"
	"github.com/google/go-tdx-guest/validate"
	"github.com/google/go-tdx-guest/verify"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// The tests here hold this package against go-tdx-guest, with the same collateral, and name the holes of the library one
// by one: each test shows the hole open there and closed here. When the library closes one, the test says so in its log.

// service answers as Intel's service would, with collateral in the JSON form.
type service map[string]response

type response struct {
	header map[string][]string
	body   []byte
}

// Get implements the library's getter.
func (s service) Get(address string) (map[string][]string, []byte, error) {
	r, ok := s[address]
	if !ok {
		return nil, nil, fmt.Errorf("nothing at %s", address)
	}
	return r.header, r.body, nil
}

func newService(t testing.TB, files map[string]string, caChain []byte, fmspc [6]byte) service {
	t.Helper()
	chain := func(text string) []string { return []string{url.QueryEscape(strings.TrimSpace(text) + "\n")} }
	crl := func(key string) []byte {
		b, err := hex.DecodeString(files[key])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	signed := func(key, document, signature string) []byte {
		return []byte(`{"` + key + `":` + files[document] + `,"signature":"` + files[signature] + `"}`)
	}
	return service{
		pcs.TcbInfoURL(hex.EncodeToString(fmspc[:])): {
			map[string][]string{pcs.TcbInfoIssuerChainPhrase: chain(files["tcb_info_issuer_chain"])},
			signed("tcbInfo", "tcb_info", "tcb_info_signature"),
		},
		pcs.QeIdentityURL(): {
			map[string][]string{pcs.SgxQeIdentityIssuerChainPhrase: chain(files["qe_identity_issuer_chain"])},
			signed("enclaveIdentity", "qe_identity", "qe_identity_signature"),
		},
		pcs.PckCrlURL("platform"): {map[string][]string{pcs.SgxPckCrlIssuerChainPhrase: chain(string(caChain))}, crl("pck_crl")},
		tdxtest.CRLAddress:        {nil, crl("root_ca_crl")},
	}
}

// library gives the verdict of go-tdx-guest with collateral and revocation; a panic is an error too.
func library(quote []byte, s service, root *x509.Certificate, at time.Time) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	options := &verify.Options{Now: &verify.TimeSet{PckCertChain: at, TcbInfo: at, QeIdentity: at, PckCrl: at, RootCaCrl: at}}
	if s != nil {
		options.Getter, options.GetCollateral, options.CheckRevocations = s, true, true
	}
	options.TrustedRoots = x509.NewCertPool()
	options.TrustedRoots.AddCert(root)
	return verify.RawTdxQuote(quote, options)
}

func realService(t testing.TB, v vector) service {
	t.Helper()
	var files map[string]string
	if err := json.Unmarshal(v.collateral, &files); err != nil {
		t.Fatal(err)
	}
	q, err := tdx.Verify(v.quote, intelRoots(t), v.At)
	if err != nil {
		t.Fatal(err)
	}
	return newService(t, files, append(chainOf(t, v.quote, 1), chainOf(t, v.quote, 2)...), q.FMSPC())
}

// both gives the library's verdict and ours on a synthetic scene.
func (s *scene) both(t testing.TB) (theirs, ours error) {
	t.Helper()
	p := tdxtest.New(s.config)
	d := p.NewCollateral()
	if s.collateral != nil {
		s.collateral(p, &d)
	}
	files := p.Collateral(d)
	theirs = library(p.Quote(s.quote), newService(t, files, p.PEM(tdxtest.PCKCA, tdxtest.Root), p.FMSPC), p.Certs[tdxtest.Root], p.Day())
	return theirs, s.meets(t, floor.Default, tdx.Direct)
}

// TestHolePlatformStatus: from module version 1 on the library returns the module's status for the platform's too.
func TestHolePlatformStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []string{"OutOfDate", "Revoked", "ConfigurationNeeded", "SWHardeningNeeded"} {
		s := newScene()
		s.collateral = func(_ *tdxtest.PKI, c *tdxtest.Collateral) { c.TCBInfo.Levels[0].Status = status }
		theirs, ours := s.both(t)
		if theirs != nil {
			t.Logf("go-tdx-guest refuses a platform %s now: %v", status, theirs)
		}
		wantFirst(t, ours, refusal.TCB)
	}
	v := tdxVector(t, "tdx-gnr-platform-outofdate") // the same, signed by Intel
	if err := library(v.quote, realService(t, v), intelCertificate(t, v.quote), v.At); err != nil {
		t.Logf("go-tdx-guest refuses a real platform out of date now: %v", err)
	}
	q, err := tdx.Verify(v.quote, intelRoots(t), v.At)
	if err != nil {
		t.Fatal(err)
	}
	wantFirst(t, q.Meets(floor.Default, direct, v.parsed(t), v.At), refusal.TCB)
}

// TestHoleCollateralReadTwice: the library verifies the bytes under "tcbInfo" and reads values by keys of any case, the
// last one winning. A document appended under another case is signed by nobody and believed.
func TestHoleCollateralReadTwice(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	quote, outdated := p.Quote(tdxtest.NewQuote()), p.NewCollateral()
	outdated.TCBInfo.Modules[0].Levels[0].Status = "OutOfDate"
	files := p.Collateral(outdated)
	s := newService(t, files, p.PEM(tdxtest.PCKCA, tdxtest.Root), p.FMSPC)
	if err := library(quote, s, p.Certs[tdxtest.Root], p.Day()); err == nil {
		t.Fatal("go-tdx-guest accepts a module out of date")
	}
	address := pcs.TcbInfoURL(hex.EncodeToString(p.FMSPC[:]))
	forged := string(s[address].body)
	forged = forged[:len(forged)-1] + `,"TCBINFO":` + p.Collateral(p.NewCollateral())["tcb_info"] + "}"
	s[address] = response{s[address].header, []byte(forged)}
	if err := library(quote, s, p.Certs[tdxtest.Root], p.Day()); err != nil {
		t.Logf("go-tdx-guest refuses the appended document now: %v", err)
	}
	if _, _, err := tdx.SplitTCBInfo([]byte(forged)); err == nil {
		t.Error("an appended document is split off")
	}
	for _, change := range []func(f tdxtest.Files){ // the same on the way in a file, and inside the document
		func(f tdxtest.Files) { f["TCB_INFO"] = p.Collateral(p.NewCollateral())["tcb_info"] },
		func(f tdxtest.Files) { f["tcb_info"] = strings.TrimSuffix(f["tcb_info"], "}") + `,"TCBLEVELS":[]}` },
	} {
		files := p.Collateral(outdated)
		change(files)
		_, err := tdx.ParseCollateral(files.JSON())
		wantFirst(t, err, refusal.Malformed)
	}
}

// TestHolePanics: the library slices by lengths that it has not compared with anything.
func TestHolePanics(t *testing.T) {
	t.Parallel()
	v := tdxVector(t, "neg-tdx-authsize-panic")
	intel := intelCertificate(t, v.quote)
	if err := library(v.quote, nil, intel, v.At); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Logf("go-tdx-guest no longer panics: %v", err)
	}
	_, err := tdx.Verify(v.quote, intelRoots(t), v.At)
	wantFirst(t, err, refusal.Malformed)
}

// TestHoleDebug: the library's verification and its validation with default options accept a TD under debug.
func TestHoleDebug(t *testing.T) {
	t.Parallel()
	v := tdxVector(t, "tdx10-v4-debug")
	intel := intelCertificate(t, v.quote)
	if err := library(v.quote, nil, intel, v.At); err != nil {
		t.Logf("go-tdx-guest refuses a TD under debug now: %v", err)
	}
	if err := validate.RawTdxQuote(v.quote, &validate.Options{}); err != nil {
		t.Logf("go-tdx-guest's validation refuses a TD under debug now: %v", err)
	}
	q, err := tdx.Verify(v.quote, intelRoots(t), v.At)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []floor.Floor{floor.Default, floor.Strict} {
		wantFirst(t, q.Meets(f, direct, v.parsed(t), v.At), refusal.Debug)
		wantFirst(t, q.Meets(f, direct, nil, v.At), refusal.Debug)
	}
}

// TestHoleVersion5: the library's validation does not know quotes of version 5.
func TestHoleVersion5(t *testing.T) {
	t.Parallel()
	v := tdxVector(t, "tdx15-v5")
	if err := validate.RawTdxQuote(v.quote, &validate.Options{}); err == nil {
		t.Log("go-tdx-guest validates version 5 now")
	}
	q, err := tdx.Verify(v.quote, intelRoots(t), v.At)
	if err != nil || q.Version() != 5 || q.BodyType() != tdx.BodyTDX15 {
		t.Fatalf("%v", err)
	}
	if service, said := q.MRServiceTD(); !said || service == [48]byte{} { // bound by that provider to every TD
		t.Errorf("service TD %x, %v", service, said)
	}
	if svn, said := q.TEETCBSVN2(); !said || svn == [16]byte{} {
		t.Errorf("current module %x, %v", svn, said)
	}
}

// TestDifferential: where none of the holes is, both verdicts agree, with collateral and revocation.
func TestDifferential(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"good":      func(*scene) {},
		"version 5": func(s *scene) { s.quote.Version, s.quote.BodyType = 5, 3 },
		"by another key": func(s *scene) {
			s.collateral = func(_ *tdxtest.PKI, c *tdxtest.Collateral) { c.Signer = tdxtest.PCKLeaf }
		},
		"PCK revoked":         described(func(c *tdxtest.Collateral) { c.PCKCRL.Revoked = []string{tdxtest.PCKLeaf} }),
		"CA revoked":          described(func(c *tdxtest.Collateral) { c.RootCRL.Revoked = []string{tdxtest.PCKCA} }),
		"TCB signing revoked": described(func(c *tdxtest.Collateral) { c.RootCRL.Revoked = []string{tdxtest.TCBSigning} }),
		"expired":             described(func(c *tdxtest.Collateral) { c.TCBInfo.NextUpdate = "2026-06-01T12:00:00Z" }),
		"CRL expired":         described(func(c *tdxtest.Collateral) { c.PCKCRL.Next = c.PCKCRL.ThisUpdate.Add(time.Hour) }),
		"module out of date":  func(s *scene) { s.quote.Body.TEETCBSVN[0] = 3 },
		"module unknown":      func(s *scene) { s.quote.Body.TEETCBSVN[1] = 4 },
		"QE out of date":      func(s *scene) { s.quote.Enclave.SVN = 3 },
		"QE mismatch":         described(func(c *tdxtest.Collateral) { c.QEIdentity.Product = 3 }),
		"TDX 1.0":             func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{5, 0, 2} },
		"TDX 1.0 out of date": func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{4, 0, 2} },
		"no level":            func(s *scene) { s.config.SVNs = [16]byte{0, 9} },
	} {
		s := newScene()
		change(s)
		theirs, ours := s.both(t)
		if (theirs == nil) != (ours == nil) {
			t.Errorf("%s: ours %v, go-tdx-guest %v", name, ours, theirs)
		}
	}
	intel := intelCertificate(t, tdxVector(t, "tdx15-v4-uptodate").quote)
	for _, v := range tdxVectors(t) {
		q, ours := tdx.Verify(v.quote, intelRoots(t), v.At)
		if theirs := library(v.quote, nil, intel, v.At); (theirs == nil) != (ours == nil) {
			t.Errorf("%s: ours %v, go-tdx-guest %v", v.Name, ours, theirs)
		}
		if v.collateral == nil || v.Name == "tdx-gnr-platform-outofdate" || v.Name == "tdx10-v4-debug" { // see the holes
			continue
		}
		ours = q.Meets(floor.Default, direct, v.parsed(t), v.At)
		if theirs := library(v.quote, realService(t, v), intelCertificate(t, v.quote), v.At); (theirs == nil) != (ours == nil) {
			t.Errorf("%s with collateral: ours %v, go-tdx-guest %v", v.Name, ours, theirs)
		}
	}
}

// BenchmarkDefault is the whole of the default floor, the collateral read anew each time, as the library does.
func BenchmarkDefault(b *testing.B) {
	v := tdxVector(b, "tdx15-v4-uptodate")
	roots, intel := intelRoots(b), intelCertificate(b, v.quote)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q, err := tdx.Verify(v.quote, roots, v.At)
			if err != nil {
				b.Fatal(err)
			}
			c, err := tdx.ParseCollateral(v.collateral)
			if err != nil {
				b.Fatal(err)
			}
			if err := q.Meets(floor.Default, direct, c, v.At); err != nil {
				b.Fatal(err)
			}
		}
	})
	s := realService(b, v)
	b.Run("go-tdx-guest", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := library(v.quote, s, intel, v.At); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSignature is the signature floor alone.
func BenchmarkSignature(b *testing.B) {
	v := tdxVector(b, "tdx15-v4-uptodate")
	roots, intel := intelRoots(b), intelCertificate(b, v.quote)
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tdx.Verify(v.quote, roots, v.At); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-tdx-guest", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := library(v.quote, nil, intel, v.At); err != nil {
				b.Fatal(err)
			}
		}
	})
}
