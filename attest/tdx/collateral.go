// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

const (
	maxCollateral = 4 << 20
	maxDocument   = 512 << 10
	maxCRL        = 1 << 20
)

// Parts is what Intel's service hands out for one platform, byte for byte.
type Parts struct {
	TCBInfo             []byte // the signed JSON object itself, without the response around it
	TCBInfoSignature    []byte // r and s, 64 bytes
	TCBInfoChain        []byte // PEM: TCB signing certificate, root
	QEIdentity          []byte // the signed JSON object itself
	QEIdentitySignature []byte
	QEIdentityChain     []byte
	PCKCRL              []byte // DER, of the CA that issued the PCK certificate
	PCKCRLChain         []byte // PEM: that CA, root; may be empty, and is never trusted
	RootCRL             []byte // DER
}

// file is the JSON form of [Parts], the one that dcap-qvl reads and writes. Documents are strings, so that the signed
// bytes survive any JSON writer.
type file struct {
	PCKCRLChain         string `json:"pck_crl_issuer_chain,omitempty"`
	RootCRL             string `json:"root_ca_crl"`
	PCKCRL              string `json:"pck_crl"`
	TCBInfoChain        string `json:"tcb_info_issuer_chain"`
	TCBInfo             string `json:"tcb_info"`
	TCBInfoSignature    string `json:"tcb_info_signature"`
	QEIdentityChain     string `json:"qe_identity_issuer_chain"`
	QEIdentity          string `json:"qe_identity"`
	QEIdentitySignature string `json:"qe_identity_signature"`
}

// Collateral is parsed, and not yet verified: [Quote.TCB] and [Quote.Meets] verify it against the root of a quote. Only
// [ParseCollateral] and [NewCollateral] make one.
type Collateral struct {
	parts    Parts
	tcb      *tcbInfo
	qe       *qeIdentity
	tcbChain issuerChain
	qeChain  issuerChain
	rootCRL  *x509.RevocationList
	pckCRL   *x509.RevocationList
}

// issuerChain is the certificate that signed a document, and the root in DER that it came with.
type issuerChain struct {
	signer *x509.Certificate
	root   []byte
}

// ParseCollateral reads the JSON form. Unknown, repeated and case-variant keys are refused. Codes: malformed;
// endorsements-missing when a part is absent or empty.
func ParseCollateral(data []byte) (*Collateral, error) {
	if len(data) > maxCollateral {
		return nil, endorsements(refusal.Malformed, fmt.Sprintf("collateral of at most %d bytes", maxCollateral), fmt.Sprintf("%d bytes", len(data)))
	}
	var f file
	known := keys{optional: 0x1ff, names: []string{ // absence is judged below, by its own code
		"pck_crl_issuer_chain", "root_ca_crl", "pck_crl", "tcb_info_issuer_chain", "tcb_info", "tcb_info_signature",
		"qe_identity_issuer_chain", "qe_identity", "qe_identity_signature",
	}}
	to := [...]*string{
		&f.PCKCRLChain, &f.RootCRL, &f.PCKCRL, &f.TCBInfoChain, &f.TCBInfo, &f.TCBInfoSignature,
		&f.QEIdentityChain, &f.QEIdentity, &f.QEIdentitySignature,
	}
	err := readJSON(data, func(r *reader) error {
		return r.object(known, func(i int) error { return r.str(to[i], maxCollateral) })
	})
	if err != nil {
		return nil, endorsements(refusal.Malformed, "TDX collateral in JSON", err.Error()).Because(err)
	}
	p := Parts{
		TCBInfo: []byte(f.TCBInfo), TCBInfoChain: []byte(f.TCBInfoChain), QEIdentity: []byte(f.QEIdentity),
		QEIdentityChain: []byte(f.QEIdentityChain), PCKCRLChain: []byte(f.PCKCRLChain),
	}
	for _, h := range [...]struct {
		name, from string
		to         *[]byte
	}{
		{"root_ca_crl", f.RootCRL, &p.RootCRL},
		{"pck_crl", f.PCKCRL, &p.PCKCRL},
		{"tcb_info_signature", f.TCBInfoSignature, &p.TCBInfoSignature},
		{"qe_identity_signature", f.QEIdentitySignature, &p.QEIdentitySignature},
	} {
		if *h.to, err = hex.DecodeString(h.from); err != nil {
			return nil, endorsements(refusal.Malformed, h.name+" in hexadecimal", "something else").Because(err)
		}
	}
	return newCollateral(p)
}

// NewCollateral makes collateral of the parts, which are copied. Codes as for [ParseCollateral].
func NewCollateral(p Parts) (*Collateral, error) { return newCollateral(p.clone()) }

func (p Parts) clone() Parts {
	for _, b := range p.all() {
		*b.part = bytes.Clone(*b.part)
	}
	return p
}

type namedPart struct {
	name  string
	part  *[]byte
	limit int
}

// all lists the parts, the optional one last.
func (p *Parts) all() [9]namedPart {
	return [...]namedPart{
		{"TCB info", &p.TCBInfo, maxDocument},
		{"TCB info signature", &p.TCBInfoSignature, pairSize},
		{"TCB info issuer chain", &p.TCBInfoChain, maxPEM},
		{"QE identity", &p.QEIdentity, maxDocument},
		{"QE identity signature", &p.QEIdentitySignature, pairSize},
		{"QE identity issuer chain", &p.QEIdentityChain, maxPEM},
		{"PCK revocation list", &p.PCKCRL, maxCRL},
		{"root revocation list", &p.RootCRL, maxCRL},
		{"PCK revocation list issuer chain", &p.PCKCRLChain, maxPEM},
	}
}

func newCollateral(p Parts) (*Collateral, error) {
	parts := p.all()
	for _, b := range parts[:len(parts)-1] {
		if len(*b.part) == 0 {
			return nil, endorsements(refusal.EndorsementsMissing, "TDX collateral with a "+b.name, "none")
		}
	}
	for _, b := range parts {
		if n := len(*b.part); n > b.limit || (b.limit == pairSize && n != pairSize) {
			return nil, endorsements(refusal.Malformed, fmt.Sprintf("a %s of at most %d bytes", b.name, b.limit), fmt.Sprintf("%d bytes", n))
		}
	}
	c := &Collateral{parts: p}
	var err error
	if c.tcb, err = parseTCBInfo(p.TCBInfo); err != nil {
		return nil, endorsements(refusal.Malformed, "a TCB info of version 3 for TDX", err.Error()).Because(err)
	}
	if c.qe, err = parseQEIdentity(p.QEIdentity); err != nil {
		return nil, endorsements(refusal.Malformed, "a QE identity of version 2 for TD_QE", err.Error()).Because(err)
	}
	if err := c.readCertificates(); err != nil {
		return nil, err
	}
	if c.rootCRL, err = parseCRL(p.RootCRL); err != nil {
		return nil, endorsements(refusal.Malformed, "a root revocation list in DER", err.Error()).Because(err)
	}
	if c.pckCRL, err = parseCRL(p.PCKCRL); err != nil {
		return nil, endorsements(refusal.Malformed, "a PCK revocation list in DER", err.Error()).Because(err)
	}
	return c, nil
}

func (c *Collateral) readCertificates() (err error) {
	if c.tcbChain, err = readIssuerChain("TCB info issuer chain", c.parts.TCBInfoChain); err != nil {
		return err
	}
	c.qeChain = c.tcbChain
	if !bytes.Equal(c.parts.TCBInfoChain, c.parts.QEIdentityChain) {
		if c.qeChain, err = readIssuerChain("QE identity issuer chain", c.parts.QEIdentityChain); err != nil {
			return err
		}
	}
	if len(c.parts.PCKCRLChain) != 0 { // the list is verified with the CA of the quote: only its form is looked at
		_, err = readIssuerChain("PCK revocation list issuer chain", c.parts.PCKCRLChain)
	}
	return err
}

func readIssuerChain(name string, text []byte) (issuerChain, error) {
	ders, err := strictPEM(text, 2)
	if err != nil {
		return issuerChain{}, endorsements(refusal.Malformed, "a "+name+" of two certificates in PEM", err.Error()).Because(err)
	}
	signer, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return issuerChain{}, endorsements(refusal.Malformed, "an X.509 certificate in the "+name, "something else").Because(err)
	}
	return issuerChain{signer: signer, root: ders[1]}, nil
}

// JSON writes the collateral in the form that [ParseCollateral] reads. The parts survive byte for byte.
func (c *Collateral) JSON() ([]byte, error) {
	p := &c.parts
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(file{
		PCKCRLChain: string(p.PCKCRLChain), RootCRL: hex.EncodeToString(p.RootCRL), PCKCRL: hex.EncodeToString(p.PCKCRL),
		TCBInfoChain: string(p.TCBInfoChain), TCBInfo: string(p.TCBInfo), TCBInfoSignature: hex.EncodeToString(p.TCBInfoSignature),
		QEIdentityChain: string(p.QEIdentityChain), QEIdentity: string(p.QEIdentity), QEIdentitySignature: hex.EncodeToString(p.QEIdentitySignature),
	})
	if err != nil {
		return nil, fmt.Errorf("writing TDX collateral: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte{'\n'}), nil
}

// Parts gives a copy of the parts.
func (c *Collateral) Parts() Parts { return c.parts.clone() }

// FMSPC names the kind of platform that the TCB info is for. Nothing about it has been verified.
func (c *Collateral) FMSPC() [6]byte { return c.tcb.fmspc }

// Issued is the later issue date of the two documents. Nothing about it has been verified.
func (c *Collateral) Issued() time.Time {
	return slices.MaxFunc([]time.Time{c.tcb.issued, c.qe.issued}, time.Time.Compare)
}

// Expires is the first time at which a document or a revocation list is due to be replaced. Nothing about it has been
// verified.
func (c *Collateral) Expires() time.Time {
	return slices.MinFunc([]time.Time{c.tcb.nextUpdate, c.qe.nextUpdate, c.rootCRL.NextUpdate, c.pckCRL.NextUpdate}, time.Time.Compare)
}

// SplitTCBInfo takes Intel's response {"tcbInfo": {…}, "signature": "…"} apart into the exact signed bytes and the
// signature. A response with any other key, or a key twice, is an error.
func SplitTCBInfo(response []byte) (signed, signature []byte, err error) {
	return split(response, "tcbInfo")
}

// SplitQEIdentity does the same for {"enclaveIdentity": {…}, "signature": "…"}.
func SplitQEIdentity(response []byte) (signed, signature []byte, err error) {
	return split(response, "enclaveIdentity")
}

func split(response []byte, key string) (signed, signature []byte, err error) {
	if len(response) > maxDocument {
		return nil, nil, fmt.Errorf("reading Intel's response: more than %d bytes", maxDocument)
	}
	signature = make([]byte, pairSize)
	err = readJSON(response, func(r *reader) error {
		return r.object(keys{names: []string{key, "signature"}}, func(i int) error {
			if i == 1 {
				return r.hex(signature)
			}
			if r.peek() != '{' {
				return errType
			}
			start := r.at
			err := r.skip()
			signed = bytes.Clone(response[start:r.at])
			return err
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading Intel's %s: %w", strings.TrimSuffix(key, "Info"), err)
	}
	return signed, signature, nil
}
