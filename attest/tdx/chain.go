// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"slices"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// The common names of Intel's certificates (PCK, "Certificates").
const (
	namePCK         = "Intel SGX PCK Certificate"
	namePlatformCA  = "Intel SGX PCK Platform CA"
	nameProcessorCA = "Intel SGX PCK Processor CA"
	nameTCBSigning  = "Intel SGX TCB Signing"
)

// shape is what a certificate has to be for its place in the chain.
type shape struct {
	names []string // common names, empty for a private root, which may be called anything
	ca    bool
	leafs bool // a CA that may issue leaf certificates only
}

// checkCertificate demands the profile of PCK for one certificate and the signature of its issuer. crypto/x509's Verify
// is not used: it searches for some chain, where here each certificate has one place, one issuer and one shape.
func checkCertificate(c, issuer *x509.Certificate, want shape) *refusal.Refusal {
	name := c.Subject.CommonName
	key, isECDSA := c.PublicKey.(*ecdsa.PublicKey)
	usage := x509.KeyUsageDigitalSignature
	if want.ca {
		usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	switch {
	case len(want.names) != 0 && !intelName(c, want.names):
		return brokenChain("a certificate of Intel named "+want.names[0], printable(c.Subject.String()))
	case !isECDSA || key.Curve != elliptic.P256():
		return brokenChain("a P-256 key in "+printable(name), c.PublicKeyAlgorithm.String())
	case c.SignatureAlgorithm != x509.ECDSAWithSHA256:
		return brokenChain("ECDSA with SHA-256 over "+printable(name), c.SignatureAlgorithm.String())
	case c.Version != 3 || len(c.UnhandledCriticalExtensions) != 0 || len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) != 0:
		return brokenChain("the certificate profile of Intel in "+printable(name), "another version, extension or purpose")
	case !c.BasicConstraintsValid || c.IsCA != want.ca:
		return brokenChain("basic constraints of its place in "+printable(name), "others")
	case want.ca && want.leafs != c.MaxPathLenZero:
		return brokenChain("a path length of its place in "+printable(name), "another")
	case c.KeyUsage&usage != usage, !want.ca && c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return brokenChain("key usage of its place in "+printable(name), "another")
	case !bytes.Equal(c.RawIssuer, issuer.RawSubject), c != issuer && (len(c.AuthorityKeyId) == 0 || !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId)):
		return brokenChain(printable(name)+" issued by "+printable(issuer.Subject.CommonName), printable(c.Issuer.String()))
	}
	if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		return brokenChain(printable(name)+" signed by "+printable(issuer.Subject.CommonName), "another signature").Because(err)
	}
	return nil
}

// intelName demands the five attributes that every subject of Intel's has, and no sixth.
func intelName(c *x509.Certificate, names []string) bool {
	n := c.Subject
	one := func(have []string, want string) bool { return len(have) == 1 && have[0] == want }
	return slices.Contains(names, n.CommonName) && one(n.Organization, "Intel Corporation") && one(n.Locality, "Santa Clara") &&
		one(n.Province, "CA") && one(n.Country, "US") && len(n.Names) == 5
}

// validAt refuses a time outside the validity of any of the certificates.
func validAt(at time.Time, certs ...*x509.Certificate) error {
	for _, c := range certs {
		if at.Before(c.NotBefore) || at.After(c.NotAfter) {
			return outside(printable(c.Subject.CommonName), at, c.NotBefore, c.NotAfter)
		}
	}
	return nil
}

func outside(what string, at, from, to time.Time) *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkEndorsements, Code: refusal.Expired, Want: what + " valid at " + at.UTC().Format(time.RFC3339),
		Got:  "validity " + from.UTC().Format(time.RFC3339) + " to " + to.UTC().Format(time.RFC3339),
		Next: "verify at the proved time of the evidence, or collect evidence with current endorsements",
	}
}
