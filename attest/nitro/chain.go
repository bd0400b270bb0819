// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// maxBundle is the most certificates of a bundle: the root and seven below it. AWS writes four.
const maxBundle = 8

func oidBasicConstraints() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 19} }
func oidKeyUsage() asn1.ObjectIdentifier         { return asn1.ObjectIdentifier{2, 5, 29, 15} }

// chain is a path of certificates, the root first and the signer of the document last.
type chain []*x509.Certificate

// parseChain reads the bundle and the certificate in the order that AWS fixes (PROCESS 3.2.3): the root first, then each
// certificate's issuer right before it. The root is only compared with the roots given.
func parseChain(f *fields, roots []Root) (chain, Root, error) {
	root, err := findRoot(roots, f.caBundle[0])
	if err != nil {
		return nil, Root{}, err
	}
	path := chain{root.cert}
	for _, der := range append(slices.Clone(f.caBundle[1:]), f.certificate) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, Root{}, malformedCertificate(len(path)).Because(err)
		}
		path = append(path, c)
	}
	return path, root, nil
}

func malformedCertificate(i int) *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkEndorsements, Code: refusal.Malformed, Want: fmt.Sprintf("an X.509 certificate in place %d below the root", i),
		Got: "something else", Next: nextFreshDocument,
	}
}

// check demands the constraints of each place and the signature of each issuer. crypto/x509's Verify is not used: it
// searches for some chain, where here each certificate has one place, and it asks less of constraints than AWS does.
func (p chain) check() error {
	last := len(p) - 1
	for i, c := range p {
		fault := checkKey(c)
		switch {
		case fault != nil:
		case i == last:
			fault = checkLeaf(c)
		default:
			fault = checkCA(c, last-1-i)
		}
		if fault == nil && i > 0 { // the root is one that the caller named
			fault = checkIssued(c, p[i-1])
		}
		if fault == nil && i > 0 && bytes.Equal(c.RawIssuer, c.RawSubject) {
			fault = brokenChain("one root", "a second certificate that issued itself, "+printable(c.Subject.CommonName))
		}
		if fault != nil {
			return fault
		}
	}
	return nil
}

func checkKey(c *x509.Certificate) *refusal.Refusal {
	name := printable(c.Subject.CommonName)
	key, isECDSA := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !isECDSA || key.Curve != elliptic.P384():
		return brokenChain("a P-384 key in "+name, c.PublicKeyAlgorithm.String()+" of another kind")
	case c.SignatureAlgorithm != x509.ECDSAWithSHA384:
		return brokenChain("ECDSA with SHA-384 over "+name, c.SignatureAlgorithm.String())
	}
	for _, e := range c.Extensions {
		if e.Critical && !e.Id.Equal(oidBasicConstraints()) && !e.Id.Equal(oidKeyUsage()) {
			return brokenChain("no critical extensions but basic constraints and key usage in "+name, e.Id.String())
		}
	}
	return nil
}

// checkCA demands what PROCESS 3.2.3.2 and 3.2.3.3 demand of an issuer with that many issuers below it.
func checkCA(c *x509.Certificate, below int) *refusal.Refusal {
	name := printable(c.Subject.CommonName)
	critical := slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(oidBasicConstraints()) })
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || !critical:
		return brokenChain("critical basic constraints of a CA in "+name, "none")
	case c.MaxPathLen < below && (c.MaxPathLen > 0 || c.MaxPathLenZero):
		return brokenChain(fmt.Sprintf("a path length of at least %d in %s", below, name), fmt.Sprintf("%d", c.MaxPathLen))
	case c.KeyUsage&x509.KeyUsageCertSign == 0:
		return brokenChain("the key usage keyCertSign in "+name, "none")
	}
	return nil
}

// checkLeaf demands what they demand of the certificate that signs documents: it issues nothing.
func checkLeaf(c *x509.Certificate) *refusal.Refusal {
	name := printable(c.Subject.CommonName)
	switch {
	case c.IsCA || c.MaxPathLen > 0 || c.MaxPathLenZero || c.KeyUsage&x509.KeyUsageCertSign != 0:
		return brokenChain("a signer of documents that is no CA in "+name, "a CA")
	case c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return brokenChain("the key usage digitalSignature in "+name, "none")
	}
	return nil
}

// checkIssued demands that the issuer, by its name and its key, signed c.
func checkIssued(c, issuer *x509.Certificate) *refusal.Refusal {
	name, by := printable(c.Subject.CommonName), printable(issuer.Subject.CommonName)
	switch {
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject):
		return brokenChain(name+" issued by "+by, printable(c.Issuer.CommonName))
	case len(c.AuthorityKeyId) != 0 && !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId):
		return brokenChain(name+" issued by the key of "+by, "another key identifier")
	}
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return brokenChain(name+" signed by "+by, "another signature").Because(err)
	}
	return nil
}

// validAt refuses a time outside the validity of any of the certificates, the root included (PROCESS 3.2.3.1).
func (p chain) validAt(at time.Time) error {
	var errs []error
	for _, c := range p {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			errs = append(errs, &refusal.Refusal{
				Link: linkEndorsements, Code: refusal.Expired,
				Want: printable(c.Subject.CommonName) + " valid at " + at.UTC().Format(time.RFC3339),
				Got:  "validity " + c.NotBefore.UTC().Format(time.RFC3339) + " to " + c.NotAfter.UTC().Format(time.RFC3339),
				Next: nextExpired,
			})
		}
	}
	return errors.Join(errs...)
}
