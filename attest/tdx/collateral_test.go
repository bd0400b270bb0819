// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// replace gives an edit of a signed document, before it is signed.
func replace(old, with string) func(string) string {
	return func(s string) string {
		if !strings.Contains(s, old) {
			panic("no " + old + " in " + s)
		}
		return strings.Replace(s, old, with, 1)
	}
}

func info(edit func(string) string) func(s *scene) {
	return func(s *scene) { s.collateral = func(_ *tdxtest.PKI, c *tdxtest.Collateral) { c.EditTCBInfo = edit } }
}

func identity(edit func(string) string) func(s *scene) {
	return func(s *scene) { s.collateral = func(_ *tdxtest.PKI, c *tdxtest.Collateral) { c.EditQEIdentity = edit } }
}

func file(key, value string) func(s *scene) {
	return func(s *scene) { s.files = func(f tdxtest.Files) { f[key] = value } }
}

func described(change func(c *tdxtest.Collateral)) func(s *scene) {
	return func(s *scene) { s.collateral = func(_ *tdxtest.PKI, c *tdxtest.Collateral) { change(c) } }
}

// TestDocumentsRefuse: what Intel signs is read strictly too, since evidence brings it.
func TestDocumentsRefuse(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"not JSON":                  info(func(s string) string { return s + "}" }),
		"not UTF-8":                 info(replace(`"TDX"`, "\"TDX\xff\"")),
		"two documents":             info(func(s string) string { return s + s }),
		"an array":                  info(func(s string) string { return "[" + s + "]" }),
		"repeated key":              info(replace(`"version":3`, `"version":3,"version":3`)),
		"repeated in another case":  info(replace(`"version":3`, `"version":3,"Version":3`)),
		"in another case alone":     info(replace(`"version"`, `"VERSION"`)),
		"folded from afar":          info(replace(`"version":3`, `"version":3,"ver\u017fion":3`)),
		"raw, folded from afar":     info(replace(`"version":3`, "\"version\":3,\"ver\u017fion\":3")),
		"unknown keys repeated":     info(replace(`"version":3`, `"version":3,"new":1,"NEW":2`)),
		"repeated in an unknown":    info(replace(`"version":3`, `"version":3,"new":{"a":[{"b":1,"B":2}]}`)),
		"too many unknown":          info(replace(`"version":3`, `"version":3`+manyKeys(40))),
		"FMSPC as number":           info(replace(`"fmspc":"b0c06f000000"`, `"fmspc":0`)),
		"id as number":              info(replace(`"id":"TDX"`, `"id":0`)),
		"long id":                   info(replace(`"id":"TDX"`, `"id":"TDXTDXTDXTDXTDXTDXTDX"`)),
		"date as number":            info(replace(`"issueDate":"2026-06-01T00:00:00Z"`, `"issueDate":20260601`)),
		"identities as text":        info(replace(`"tdxModuleIdentities":[`, `"tdxModuleIdentities":"x","new":[`)),
		"level as array":            info(replace(`"tcbLevels":[{`, `"tcbLevels":[[],{`)),
		"too many advisories":       described(func(c *tdxtest.Collateral) { c.TCBInfo.Levels[0].Advisories = make([]string, 600) }),
		"advisory as number":        info(replace(`"advisoryIDs":["`, `"advisoryIDs":[5,"`)),
		"too deep":                  info(replace(`"version":3`, `"version":3,"new":`+strings.Repeat("[", 50)+strings.Repeat("]", 50))),
		"missing key":               info(replace(`"tcbType":0,`, "")),
		"missing levels":            info(replace(`"tcbLevels"`, `"new"`)),
		"no levels":                 described(func(c *tdxtest.Collateral) { c.TCBInfo.Levels = []tdxtest.Level{} }),
		"SGX":                       described(func(c *tdxtest.Collateral) { c.TCBInfo.ID = "SGX" }),
		"version 2":                 described(func(c *tdxtest.Collateral) { c.TCBInfo.Version = 2 }),
		"version as text":           info(replace(`"version":3`, `"version":"3"`)),
		"version with fraction":     info(replace(`"version":3`, `"version":3.0`)),
		"negative version":          info(replace(`"version":3`, `"version":-3`)),
		"huge version":              info(replace(`"version":3`, `"version":18446744073709551619`)),
		"TCB type":                  described(func(c *tdxtest.Collateral) { c.TCBInfo.Type = 1 }),
		"short FMSPC":               described(func(c *tdxtest.Collateral) { c.TCBInfo.FMSPC = "b0c06f0000" }),
		"FMSPC no hex":              described(func(c *tdxtest.Collateral) { c.TCBInfo.FMSPC = "b0c06f00000g" }),
		"date without zone":         described(func(c *tdxtest.Collateral) { c.TCBInfo.Issued = "2026-06-01T00:00:00" }),
		"date elsewhere":            described(func(c *tdxtest.Collateral) { c.TCBInfo.Issued = "2026-06-01T00:00:00+02:00" }),
		"unknown status":            described(func(c *tdxtest.Collateral) { c.TCBInfo.Levels[2].Status = "Fine" }),
		"relaunch status":           described(func(c *tdxtest.Collateral) { c.TCBInfo.Levels[2].Status = "TDRelaunchAdvised" }),
		"component of 256":          info(replace(`{"svn":5}`, `{"svn":256}`)),
		"15 components":             info(replace(`{"svn":5},`, "")),
		"17 components":             info(replace(`{"svn":5}`, `{"svn":5},{"svn":0}`)),
		"unknown condition":         info(replace(`"pcesvn":11`, `"pcesvn":11,"xfam":1`)),
		"unknown in the module":     info(replace(`"attributesMask"`, `"new":0,"attributesMask"`)),
		"two modules of a name":     described(func(c *tdxtest.Collateral) { c.TCBInfo.Modules = append(c.TCBInfo.Modules, c.TCBInfo.Modules[0]) }),
		"module without levels":     described(func(c *tdxtest.Collateral) { c.TCBInfo.Modules[0].Levels = nil }),
		"SGX quoting enclave":       described(func(c *tdxtest.Collateral) { c.QEIdentity.ID = "QE" }),
		"QE identity of version 1":  described(func(c *tdxtest.Collateral) { c.QEIdentity.Version = 1 }),
		"unknown in QE identity":    identity(replace(`"isvprodid"`, `"new":0,"isvprodid"`)),
		"repeated in QE identity":   identity(replace(`"isvprodid"`, `"ISVPRODID":1,"isvprodid"`)),
		"no QE levels":              described(func(c *tdxtest.Collateral) { c.QEIdentity.Levels = []tdxtest.Level{} }),
		"unknown in a QE level":     identity(replace(`"isvsvn":4`, `"isvsvn":4,"new":1`)),
		"TCB info as QE identity":   func(s *scene) { s.files = func(f tdxtest.Files) { f["qe_identity"] = f["tcb_info"] } },
		"unknown key of the file":   file("new", ""),
		"case of a key of the file": file("TCB_INFO", "{}"),
		"signature no hex":          file("tcb_info_signature", "zz"),
		"short signature":           file("tcb_info_signature", strings.Repeat("00", 63)),
		"long signature":            file("qe_identity_signature", strings.Repeat("00", 65)),
		"chain is no PEM":           file("tcb_info_issuer_chain", "PEM"),
		"QE chain is no PEM":        file("qe_identity_issuer_chain", "PEM"),
		"CRL chain is no PEM":       file("pck_crl_issuer_chain", "PEM"),
		"root CRL is none":          file("root_ca_crl", "3000"),
		"PCK CRL is none":           file("pck_crl", "3000"),
		"bytes behind a CRL":        func(s *scene) { s.files = func(f tdxtest.Files) { f["pck_crl"] += "00" } },
		"no next update": described(func(c *tdxtest.Collateral) {
			c.PCKCRL.Change = func(l *x509.RevocationList) { l.NextUpdate = l.ThisUpdate }
		}),
		"critical in a CRL": described(func(c *tdxtest.Collateral) {
			c.PCKCRL.Change = func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{criticalExtension} }
		}),
		"critical in a CRL entry": described(func(c *tdxtest.Collateral) {
			c.PCKCRL.Change = func(l *x509.RevocationList) {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{
					SerialNumber: big.NewInt(7), RevocationTime: l.ThisUpdate, ExtraExtensions: []pkix.Extension{criticalExtension},
				}}
			}
		}),
	} {
		s := newScene()
		change(s)
		err := s.meets(t, floor.Default, tdx.Direct)
		t.Run(name, func(t *testing.T) { wantFirst(t, err, refusal.Malformed) })
	}
}

var criticalExtension = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"k` + strings.Repeat("x", i) + `":0`)
	}
	return b.String()
}

// TestFutureDocuments: Intel adds descriptions to its documents, and puts white space where it likes.
func TestFutureDocuments(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"new key":                 info(replace(`"version":3`, `"version":3,"new":{"a":[1,-2.5e3,true,null,"x\"}"],"b":{}}`)),
		"new key of a level":      info(replace(`"tcbDate"`, `"new":"x","tcbDate"`)),
		"new key of a component":  info(replace(`{"svn":5}`, `{"category":"BIOS","svn":5,"type":"x"}`)),
		"no module identities":    func(s *scene) { s.collateral = noModules; s.quote.Body.TEETCBSVN = [16]byte{5, 0, 3} },
		"upper-case FMSPC":        described(func(c *tdxtest.Collateral) { c.TCBInfo.FMSPC = strings.ToUpper(c.TCBInfo.FMSPC) }),
		"lower-case module name":  described(func(c *tdxtest.Collateral) { c.TCBInfo.Modules[0].ID = "tdx_01" }),
		"white space":             info(func(s string) string { return strings.ReplaceAll(s, ",", " ,\n\t") }),
		"two signers":             described(func(c *tdxtest.Collateral) { c.QESigner = tdxtest.NextTCBSigning }),
		"odd advisory":            described(func(c *tdxtest.Collateral) { c.TCBInfo.Levels[0].Advisories = []string{"\x1b[2J\u202e"} }),
		"no CRL chain":            func(s *scene) { s.files = func(f tdxtest.Files) { delete(f, "pck_crl_issuer_chain") } },
		"escapes in the document": info(replace(`"TDX"`, `"\u0054DX"`)),
	} {
		s := newScene()
		change(s)
		if err := s.meets(t, floor.Strict, tdx.Direct); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func noModules(_ *tdxtest.PKI, c *tdxtest.Collateral) { c.TCBInfo.Modules = nil }

// TestCollateralRefuses: genuine-looking collateral that is not genuine, not current or not for this platform.
func TestCollateralRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		code   refusal.Code
		change func(s *scene)
	}{
		{"TCB info by the PCK", refusal.Chain, described(func(c *tdxtest.Collateral) { c.Signer = tdxtest.PCKLeaf })},
		{"TCB info by the CA", refusal.Chain, described(func(c *tdxtest.Collateral) { c.Signer = tdxtest.PCKCA })},
		{"TCB info by the root", refusal.Chain, described(func(c *tdxtest.Collateral) { c.Signer = tdxtest.Root })},
		{"another root", refusal.Chain, described(func(c *tdxtest.Collateral) { c.Root = tdxtest.PCKCA })},
		{"changed TCB info", refusal.Signature, edited("tcb_info", `"UpToDate"`, `"UpToDate" `)},
		{"changed QE identity", refusal.Signature, edited("qe_identity", `"UpToDate"`, `"UpToDate" `)},
		{"zero signature", refusal.Signature, file("tcb_info_signature", strings.Repeat("00", 64))},
		{"zero QE signature", refusal.Signature, file("qe_identity_signature", strings.Repeat("00", 64))},
		{"root CRL by another", refusal.Signature, described(func(c *tdxtest.Collateral) { c.RootCRL.SignedBy = "another" })},
		{"PCK CRL by another", refusal.Signature, described(func(c *tdxtest.Collateral) { c.PCKCRL.SignedBy = tdxtest.Root })},
		{"PCK CRL by SHA-384", refusal.Signature, described(func(c *tdxtest.Collateral) {
			c.PCKCRL.Change = func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.ECDSAWithSHA384 }
		})},
		{"PCK CRL of a CA by that name", refusal.EndorsementsMismatch, func(s *scene) {
			s.files = func(f tdxtest.Files) {
				other := tdxtest.New(tdxtest.Config{Change: func(name string, c *x509.Certificate) { c.SubjectKeyId = []byte(name) }})
				f["pck_crl"] = hex.EncodeToString(other.CRL(other.NewCollateral().PCKCRL))
			}
		}},
		{"PCK CRL of the root", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.PCKCRL = c.RootCRL })},
		{"root CRL of the CA", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.RootCRL = c.PCKCRL })},
		{"PCK revoked", refusal.Revoked, described(func(c *tdxtest.Collateral) { c.PCKCRL.Revoked = []string{tdxtest.PCKLeaf} })},
		{"CA revoked", refusal.Revoked, described(func(c *tdxtest.Collateral) { c.RootCRL.Revoked = []string{tdxtest.PCKCA} })},
		{"TCB signing revoked", refusal.Revoked, described(func(c *tdxtest.Collateral) { c.RootCRL.Revoked = []string{tdxtest.TCBSigning} })},
		{"another FMSPC", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.TCBInfo.FMSPC = "00806f050000" })},
		{"another PCEID", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.TCBInfo.PCEID = "0001" })},
		{"QE signer", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.QEIdentity.Signer = strings.Repeat("00", 32) })},
		{"QE product", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.QEIdentity.Product = 1 })},
		{"QE attributes", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.QEIdentity.Attributes = "31" + strings.Repeat("00", 15) })},
		{"QE miscselect", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.QEIdentity.MiscSelect = "00000001" })},
		{"enclave's miscselect", refusal.EndorsementsMismatch, func(s *scene) { s.quote.Enclave.MiscSelect = 1 << 31 }},
		{"enclave's attributes", refusal.EndorsementsMismatch, func(s *scene) { s.quote.Enclave.Attributes[0] |= 0x20 }},
		{"module signer", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.TCBInfo.Modules[0].Signer = strings.Repeat("11", 48) })},
		{"module attributes", refusal.EndorsementsMismatch, described(func(c *tdxtest.Collateral) { c.TCBInfo.Modules[0].Attributes = "0100000000000000" })},
		{"TCB info expired", refusal.Expired, described(func(c *tdxtest.Collateral) { c.TCBInfo.NextUpdate = "2026-06-01T12:00:00Z" })},
		{"TCB info of tomorrow", refusal.Expired, described(func(c *tdxtest.Collateral) { c.TCBInfo.Issued = "2026-06-03T00:00:00Z" })},
		{"QE identity expired", refusal.Expired, described(func(c *tdxtest.Collateral) { c.QEIdentity.NextUpdate = "2026-06-01T12:00:00Z" })},
		{"QE identity of tomorrow", refusal.Expired, described(func(c *tdxtest.Collateral) { c.QEIdentity.Issued = "2026-06-03T00:00:00Z" })},
		{"PCK CRL expired", refusal.Expired, described(func(c *tdxtest.Collateral) { c.PCKCRL.Next = c.PCKCRL.ThisUpdate.Add(time.Hour) })},
		{"PCK CRL of tomorrow", refusal.Expired, described(func(c *tdxtest.Collateral) { c.PCKCRL.ThisUpdate = c.PCKCRL.ThisUpdate.Add(48 * time.Hour) })},
		{"root CRL expired", refusal.Expired, described(func(c *tdxtest.Collateral) { c.RootCRL.Next = c.RootCRL.ThisUpdate.Add(time.Hour) })},
		{"root CRL of tomorrow", refusal.Expired, described(func(c *tdxtest.Collateral) { c.RootCRL.ThisUpdate = c.RootCRL.ThisUpdate.Add(48 * time.Hour) })},
		{"QE identity by the PCK", refusal.Chain, described(func(c *tdxtest.Collateral) { c.QESigner = tdxtest.PCKLeaf })},
		{"QE signing revoked", refusal.Revoked, described(func(c *tdxtest.Collateral) {
			c.QESigner, c.RootCRL.Revoked = tdxtest.NextTCBSigning, []string{tdxtest.NextTCBSigning}
		})},
		{"QE identity of another signer", refusal.Signature, func(s *scene) {
			s.collateral = func(_ *tdxtest.PKI, c *tdxtest.Collateral) { c.QESigner = tdxtest.NextTCBSigning }
			s.files = func(f tdxtest.Files) { f["qe_identity_issuer_chain"] = f["tcb_info_issuer_chain"] }
		}},
		{"QE identity's root", refusal.Chain, func(s *scene) {
			s.collateral = func(p *tdxtest.PKI, c *tdxtest.Collateral) {
				s.chain = string(p.PEM(tdxtest.TCBSigning, tdxtest.PCKCA))
			}
			s.files = func(f tdxtest.Files) { f["qe_identity_issuer_chain"] = s.chain }
		}},
		{"TCB signing expired", refusal.Expired, certificate(tdxtest.TCBSigning, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Hour) })},
		{"TCB signing is a CA", refusal.Chain, certificate(tdxtest.TCBSigning, func(c *x509.Certificate) { c.IsCA = true })},
		{"TCB signing name", refusal.Chain, certificate(tdxtest.TCBSigning, func(c *x509.Certificate) { c.Subject.CommonName = "Intel" })},
		{"revoked in a stale list", refusal.Revoked, described(func(c *tdxtest.Collateral) {
			c.PCKCRL.Revoked, c.PCKCRL.Next = []string{tdxtest.PCKLeaf}, c.PCKCRL.ThisUpdate.Add(time.Hour)
		})},
	} {
		s := newScene()
		c.change(s)
		err := s.meets(t, floor.Default, tdx.Direct)
		t.Run(c.name, func(t *testing.T) { wantFirst(t, err, c.code) })
		if q, _, verr := s.verify(t); verr != nil || q == nil {
			t.Errorf("%s: the quote itself is refused: %v", c.name, verr)
		}
	}
}

func edited(key, old, with string) func(s *scene) {
	return func(s *scene) { s.files = func(f tdxtest.Files) { f[key] = replace(old, with)(f[key]) } }
}

func TestPartsMissing(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	for key := range p.Collateral(p.NewCollateral()) {
		if key == "pck_crl_issuer_chain" {
			continue // may be absent
		}
		for _, change := range []func(f tdxtest.Files){func(f tdxtest.Files) { delete(f, key) }, func(f tdxtest.Files) { f[key] = "" }} {
			files := p.Collateral(p.NewCollateral())
			change(files)
			_, err := tdx.ParseCollateral(files.JSON())
			wantFirst(t, err, refusal.EndorsementsMissing)
		}
	}
	for _, text := range []string{"", "null", "[]", `"x"`, "{", "\xff"} {
		_, err := tdx.ParseCollateral([]byte(text))
		wantFirst(t, err, refusal.Malformed)
	}
	_, err := tdx.ParseCollateral([]byte("{}"))
	wantFirst(t, err, refusal.EndorsementsMissing)
	_, err = tdx.ParseCollateral(bytes.Repeat([]byte{' '}, 5<<20))
	wantFirst(t, err, refusal.Malformed)
}

// TestCollateralSurvives: what is written is read back byte for byte, whatever the signed documents look like.
func TestCollateralSurvives(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	d := p.NewCollateral()
	d.EditTCBInfo = replace(`"version":3`, "\"version\" :\t3, \"new\":\"<&>\\u2028\u2028é\"")
	sources := [][]byte{p.Collateral(d).JSON()}
	for _, v := range tdxVectors(t) {
		if v.collateral != nil {
			sources = append(sources, v.collateral)
		}
	}
	for _, source := range sources {
		c, err := tdx.ParseCollateral(source)
		if err != nil {
			t.Fatal(err)
		}
		written, err := c.JSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := tdx.ParseCollateral(written)
		if err != nil {
			t.Fatal(err)
		}
		rewritten, err := again.JSON()
		if err != nil || !bytes.Equal(rewritten, written) {
			t.Errorf("written twice, differently: %v", err)
		}
		var f map[string]string
		if err := json.Unmarshal(source, &f); err != nil {
			t.Fatal(err)
		}
		parts := again.Parts()
		if string(parts.TCBInfo) != f["tcb_info"] || string(parts.QEIdentity) != f["qe_identity"] || string(parts.TCBInfoChain) != f["tcb_info_issuer_chain"] {
			t.Error("another document than was read")
		}
		if remade, err := tdx.NewCollateral(parts); err != nil || remade.FMSPC() != c.FMSPC() || !remade.Issued().Equal(c.Issued()) || !remade.Expires().Equal(c.Expires()) {
			t.Errorf("remade: %v", err)
		}
		clear(parts.TCBInfo)
		if p := again.Parts(); string(p.TCBInfo) != f["tcb_info"] {
			t.Error("parts are shared")
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	signature := strings.Repeat("ab", 64)
	good := `{"tcbInfo": {"a": [1, {"b": "}"}]} ,"signature":"` + signature + `"}`
	doc, sig, err := tdx.SplitTCBInfo([]byte(good))
	if err != nil || string(doc) != `{"a": [1, {"b": "}"}]}` || len(sig) != 64 || sig[63] != 0xab {
		t.Errorf("%s, %x, %v", doc, sig, err)
	}
	doc, _, err = tdx.SplitQEIdentity([]byte(`{"signature":"` + signature + `","enclaveIdentity":{}}`))
	if err != nil || string(doc) != "{}" {
		t.Errorf("%s, %v", doc, err)
	}
	for name, text := range map[string]string{
		"empty":         "",
		"no signature":  `{"tcbInfo":{}}`,
		"another key":   strings.Replace(good, "tcbInfo", "enclaveIdentity", 1),
		"case":          strings.Replace(good, "tcbInfo", "TCBINFO", 1),
		"appended":      good[:len(good)-1] + `,"TCBINFO":{}}`,
		"twice":         good[:len(good)-1] + `,"tcbInfo":{}}`,
		"unknown":       good[:len(good)-1] + `,"x":{}}`,
		"no object":     `{"tcbInfo":[],"signature":"` + signature + `"}`,
		"short":         `{"tcbInfo":{},"signature":"ab"}`,
		"trailing":      good + "{}",
		"ambiguous":     `{"tcbInfo":{"a":1,"A":2},"signature":"` + signature + `"}`,
		"out of bounds": strings.Repeat(" ", 1<<20) + good,
	} {
		if doc, sig, err := tdx.SplitTCBInfo([]byte(text)); err == nil || doc != nil || sig != nil {
			t.Errorf("%s: read as %s", name, doc)
		}
	}
}
