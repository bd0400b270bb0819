// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/refusal"
)

const (
	minRSABits     = 3072 // AMD's own keys have 4096
	maxChainBytes  = 64 << 10
	maxEvidencePEM = 4 // VCEK, ASK, ARK and one to spare
)

// Root is one chain that endorsement keys may lead to: an ARK and the ASK (or ASVK) that it signed, for one product
// line. The zero value is no root and matches nothing.
type Root struct {
	line     Line
	key      keyKind
	ark, ask *x509.Certificate
	amd      bool
}

// AMD reports whether the root is one of AMD's, pinned in this program.
func (r Root) AMD() bool { return r.amd }

// Line gives the product line that the root speaks for.
func (r Root) Line() Line { return r.line }

// Fingerprint is the SHA-256 of the ARK certificate in DER.
func (r Root) Fingerprint() [32]byte {
	if r.ark == nil {
		return [32]byte{}
	}
	return sha256.Sum256(r.ark.Raw)
}

// AMDRoots gives the pinned chains of AMD: VCEK and VLEK for Milan, Genoa and Turin. They are the bytes that
// go-sev-guest embeds, which cannot change at run time: tests, not every program start, compare their fingerprints and
// check the signatures among them.
func AMDRoots() ([]Root, error) {
	chains := [...]struct {
		line Line
		key  keyKind
		pem  []byte
	}{
		{Milan, vcek, trust.AskArkMilanVcekBytes}, {Milan, vlek, trust.AskArkMilanVlekBytes},
		{Genoa, vcek, trust.AskArkGenoaVcekBytes}, {Genoa, vlek, trust.AskArkGenoaVlekBytes},
		{Turin, vcek, trust.AskArkTurinVcekBytes}, {Turin, vlek, trust.AskArkTurinVlekBytes},
	}
	roots := make([]Root, 0, len(chains))
	for _, c := range chains {
		r, err := parseChain(c.pem)
		if err != nil {
			return nil, fmt.Errorf("reading AMD's %s chain for %s: %w", c.key, c.line, err)
		}
		if r.line != c.line || r.key != c.key {
			return nil, fmt.Errorf("reading AMD's %s chain for %s: it is a %s chain for %s", c.key, c.line, r.key, r.line)
		}
		r.amd = true
		roots = append(roots, r)
	}
	return roots, nil
}

// ParseRoots reads a private root file: PEM in the order of AMD's cert_chain, ASK then ARK, and nothing else. It gives
// exactly one root, for which [Root.AMD] is false. Everything wrong is a [refusal.Refusal] of link "root"; so is a
// file that holds any key of AMD's, since a pinned root must not be relabelled as a private one.
func ParseRoots(pemBytes []byte) ([]Root, error) {
	r, err := parseChain(pemBytes)
	if err != nil {
		return nil, err
	}
	if err := r.checkSignatures(); err != nil {
		return nil, err
	}
	pinned, err := AMDRoots()
	if err != nil {
		return nil, err
	}
	for _, p := range pinned {
		for _, have := range []*x509.Certificate{r.ark, r.ask} {
			if sameKey(have, p.ark) || sameKey(have, p.ask) {
				return nil, badRoot(refusal.Policy, "a private root", "a key of AMD's "+string(p.line)+" chain")
			}
		}
	}
	return []Root{r}, nil
}

func sameKey(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

func badRoot(code refusal.Code, want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkRoot, Code: code, Want: want, Got: got,
		Next: "give a PEM file with the ASK first and the ARK that signed it second",
	}
}

// parseChain reads ASK and ARK without checking their signatures.
func parseChain(data []byte) (Root, error) {
	ders, err := strictPEM(data, 2)
	if err != nil {
		return Root{}, badRoot(refusal.Malformed, "PEM with two certificates", err.Error())
	}
	if len(ders) != 2 {
		return Root{}, badRoot(refusal.Malformed, "two certificates, ASK then ARK", fmt.Sprintf("%d", len(ders)))
	}
	ask, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return Root{}, badRoot(refusal.Malformed, "an X.509 certificate first", "something else").Because(err)
	}
	ark, err := x509.ParseCertificate(ders[1])
	if err != nil {
		return Root{}, badRoot(refusal.Malformed, "an X.509 certificate second", "something else").Because(err)
	}
	r := Root{ark: ark, ask: ask}
	if err := r.readNames(); err != nil {
		return Root{}, err
	}
	return r, nil
}

// readNames takes line and key kind from the common names (KDS, "ARK, ASK and ASVK certificates").
func (r *Root) readNames() error {
	line, ok := strings.CutPrefix(r.ark.Subject.CommonName, "ARK-")
	switch Line(line) {
	case Milan, Genoa, Turin:
	default:
		ok = false
	}
	if !ok {
		return badRoot(refusal.Chain, "an ARK named ARK-Milan, ARK-Genoa or ARK-Turin", quote(r.ark.Subject.CommonName))
	}
	r.line = Line(line)
	switch r.ask.Subject.CommonName {
	case r.askName(vcek):
		r.key = vcek
	case r.askName(vlek):
		r.key = vlek
	default:
		return badRoot(refusal.Chain, "an intermediate named "+r.askName(vcek)+" or "+r.askName(vlek), quote(r.ask.Subject.CommonName))
	}
	return nil
}

func (r *Root) askName(k keyKind) string {
	if k == vlek {
		return "SEV-VLEK-" + string(r.line)
	}
	return "SEV-" + string(r.line)
}

func (r *Root) checkSignatures() error {
	for _, c := range []*x509.Certificate{r.ark, r.ask} {
		name := c.Subject.CommonName
		key, ok := c.PublicKey.(*rsa.PublicKey)
		switch {
		case !ok || key.N.BitLen() < minRSABits:
			return badRoot(refusal.Chain, fmt.Sprintf("an RSA key of at least %d bits in %s", minRSABits, name), "another key")
		case len(c.UnhandledCriticalExtensions) != 0:
			return badRoot(refusal.Chain, "no unknown critical extension in "+name, c.UnhandledCriticalExtensions[0].String())
		case c.SignatureAlgorithm != x509.SHA384WithRSAPSS:
			return badRoot(refusal.Chain, "RSASSA-PSS with SHA-384 over "+name, c.SignatureAlgorithm.String())
		case !bytes.Equal(c.RawIssuer, r.ark.RawSubject):
			return badRoot(refusal.Chain, name+" issued by "+r.ark.Subject.CommonName, quote(c.Issuer.CommonName))
		}
		if err := c.CheckSignatureFrom(r.ark); err != nil {
			return badRoot(refusal.Chain, name+" signed by the ARK", "another signature").Because(err)
		}
	}
	return nil
}

// validAt refuses a time outside the validity of any of the certificates.
func validAt(at time.Time, certs ...*x509.Certificate) error {
	for _, c := range certs {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return &refusal.Refusal{
				Link: linkEndorsements, Code: refusal.Expired,
				Want: c.Subject.CommonName + " valid at " + at.UTC().Format(time.RFC3339),
				Got:  "validity " + c.NotBefore.UTC().Format(time.RFC3339) + " to " + c.NotAfter.UTC().Format(time.RFC3339),
				Next: "verify at the proved time of the evidence, or collect evidence with a current certificate",
			}
		}
	}
	return nil
}

// EndorsementKey picks the endorsement key certificate (VCEK or VLEK, in DER) out of an evidence item of media type
// application/pem-certificate-chain. The certificates after it are required to be well-formed PEM and are otherwise
// ignored: evidence cannot bring its own intermediates or roots.
func EndorsementKey(pemBytes []byte) ([]byte, error) {
	if len(bytes.TrimSpace(pemBytes)) == 0 {
		return nil, &refusal.Refusal{
			Link: linkEndorsements, Code: refusal.EndorsementsMissing, Want: "a VCEK or VLEK certificate in PEM",
			Got: "nothing", Next: nextRightLeaf,
		}
	}
	ders, err := strictPEM(pemBytes, maxEvidencePEM)
	if err != nil {
		return nil, malformedLeaf("a PEM certificate chain", err.Error())
	}
	return ders[0], nil
}

// strictPEM reads between one and limit certificates. encoding/pem skips what it does not understand; here every byte
// has to belong to a certificate block or be white space around one.
func strictPEM(data []byte, limit int) ([][]byte, error) {
	if len(data) > maxChainBytes {
		return nil, fmt.Errorf("more than %d bytes", maxChainBytes)
	}
	rest := bytes.TrimSpace(bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n")))
	var ders [][]byte
	for len(rest) > 0 {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, fmt.Errorf("bytes that are no PEM block after certificate %d", len(ders))
		}
		text := bytes.TrimSpace(rest[:len(rest)-len(after)])
		if block.Type != "CERTIFICATE" || !bytes.Equal(text, bytes.TrimSpace(pem.EncodeToMemory(block))) {
			return nil, fmt.Errorf("block %d is not exactly one PEM certificate", len(ders)+1)
		}
		if len(block.Headers) != 0 {
			return nil, fmt.Errorf("block %d has PEM headers", len(ders)+1)
		}
		if ders = append(ders, block.Bytes); len(ders) > limit {
			return nil, fmt.Errorf("more than %d certificates", limit)
		}
		rest = bytes.TrimSpace(after)
	}
	if len(ders) == 0 {
		return nil, fmt.Errorf("no certificate")
	}
	return ders, nil
}

// quote makes a string of foreign origin safe to print.
func quote(s string) string {
	const limit = 80
	if len(s) > limit {
		s = s[:limit]
	}
	return fmt.Sprintf("%q", s)
}
