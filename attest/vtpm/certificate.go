// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

const (
	maxCertificates     = 8
	maxCertificateBytes = 16 << 10
)

// CertifiedAK trusts the attestation key of a provider's certificate, as GCP issues them for its virtual TPMs. chain
// holds DER certificates, the key's own first and then those between it and a root, in any order; they are never roots.
// The roots are the caller's alone and the time is the one the evidence is judged at.
//
// The certificate has to be for signing (key usage digitalSignature and none of encipherment, agreement or certificates),
// no authority, and where it names extended usages, one of TCG's. That the key is restricted to what its TPM made is the
// provider's promise: a certificate does not show it. Codes: missing, malformed, chain, expired.
func CertifiedAK(chain [][]byte, roots []*x509.Certificate, at time.Time) (*AK, error) {
	leaf, err := verifyChain(linkAK, chain, roots, at)
	if err != nil {
		return nil, err
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 || leaf.KeyUsage&notSigning != 0 {
		return nil, brokenChain(linkAK, "a certificate for signing only", fmt.Sprintf("key usage %#x", int(leaf.KeyUsage)))
	}
	if err := checkExtendedUsage(linkAK, leaf, tcgAIK(), tcgEK()); err != nil {
		return nil, err
	}
	ak, err := newAK(Certificate, leaf.PublicKey)
	if err != nil {
		return nil, err
	}
	ak.leaf, ak.notAfter = slices.Clone(leaf.Raw), leaf.NotAfter
	return ak, nil
}

const notSigning = x509.KeyUsageKeyEncipherment | x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement |
	x509.KeyUsageCertSign | x509.KeyUsageCRLSign

// The usages of TCG's certificates (EK 3.5.16). Google's authority says tcg-kp-EKCertificate for attestation keys too;
// the key usage tells the two apart.
func tcgEK() asn1.ObjectIdentifier  { return asn1.ObjectIdentifier{2, 23, 133, 8, 1} }
func tcgAIK() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 23, 133, 8, 3} }

// checkExtendedUsage refuses a certificate that names extended usages and none of those allowed.
func checkExtendedUsage(link string, leaf *x509.Certificate, allowed ...asn1.ObjectIdentifier) error {
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 {
		return nil
	}
	for _, usage := range leaf.UnknownExtKeyUsage {
		if slices.ContainsFunc(allowed, usage.Equal) {
			return nil
		}
	}
	return brokenChain(link, "a certificate for a key of a TPM (tcg-kp)", "one for other uses")
}

// verifyChain gives the leaf of a chain to one of the roots that holds at the time.
func verifyChain(link string, chain [][]byte, roots []*x509.Certificate, at time.Time) (*x509.Certificate, error) {
	if at.IsZero() {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Missing, Want: "a time to judge the certificates at", Got: "none", Next: nextTime,
		}
	}
	pool, err := rootPool(link, roots)
	if err != nil {
		return nil, err
	}
	certs, err := parseCertificates(link, chain)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	if leaf.BasicConstraintsValid && leaf.IsCA {
		return nil, brokenChain(link, "the certificate of a key, first", "one of an authority")
	}
	opts := x509.VerifyOptions{
		Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, // judged on the leaf, by checkExtendedUsage
	}
	for _, c := range certs[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(opts)
	if err != nil {
		return nil, explainChain(link, leaf, opts, err)
	}
	for _, c := range chains {
		if !slices.ContainsFunc(c, func(c *x509.Certificate) bool { return !strongKey(c.PublicKey) }) {
			return leaf, nil
		}
	}
	return nil, brokenChain(link, "RSA keys of 2048 to 4096 bits or P-256 or P-384 all along the chain", "another key")
}

func rootPool(link string, roots []*x509.Certificate) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, r := range roots {
		if r != nil {
			pool.AddCert(r)
		}
	}
	if pool.Equal(x509.NewCertPool()) {
		return nil, brokenChain(link, "a root that the caller named", "none")
	}
	return pool, nil
}

func parseCertificates(link string, chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, brokenChain(link, "a certificate for the key", "none")
	}
	if len(chain) > maxCertificates {
		return nil, badCertificate(link, fmt.Sprintf("at most %d certificates", maxCertificates), fmt.Sprintf("%d", len(chain)))
	}
	certs := make([]*x509.Certificate, 0, len(chain))
	for i, der := range chain {
		if len(der) > maxCertificateBytes {
			return nil, badCertificate(link, fmt.Sprintf("certificates of at most %d bytes", maxCertificateBytes),
				fmt.Sprintf("%d", len(der)))
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, badCertificate(link, fmt.Sprintf("an X.509 certificate at place %d", i), "something else").Because(err)
		}
		// TCG's profile puts a critical alternative name of directory attributes (manufacturer, model, version) beside an
		// empty subject (EK 3.5.11); the standard library does not read that form. It restricts nothing.
		c.UnhandledCriticalExtensions = slices.DeleteFunc(c.UnhandledCriticalExtensions,
			asn1.ObjectIdentifier{2, 5, 29, 17}.Equal)
		certs = append(certs, c)
	}
	return certs, nil
}

func badCertificate(link, want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Malformed, Want: want, Got: got, Next: nextRoots}
}

// explainChain tells an expired chain from one that never held: it held when the leaf was issued.
func explainChain(link string, leaf *x509.Certificate, opts x509.VerifyOptions, cause error) error {
	at := opts.CurrentTime
	opts.CurrentTime = leaf.NotBefore
	_, err := leaf.Verify(opts)
	var invalid x509.CertificateInvalidError
	if err == nil || errors.As(cause, &invalid) && invalid.Reason == x509.Expired {
		return (&refusal.Refusal{
			Link: link, Code: refusal.Expired, Want: "certificates that are valid at " + at.UTC().Format(time.RFC3339),
			Got:  fmt.Sprintf("a chain valid otherwise, the key's certificate ending %s", leaf.NotAfter.UTC().Format(time.RFC3339)),
			Next: nextTime,
		}).Because(cause)
	}
	return brokenChain(link, "a chain to a root that the caller named", "one that leads elsewhere or nowhere").Because(cause)
}
