// SPDX-License-Identifier: Apache-2.0

package vtpmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// Authority is a provider's or manufacturer's: a root and an authority under it.
type Authority struct {
	root, issuer *x509.Certificate
	issuerKey    *ecdsa.PrivateKey
	from, to     time.Time
}

// NewAuthority makes one whose certificates are valid from one time to the other.
func NewAuthority(from, to time.Time) (*Authority, error) {
	a := &Authority{from: from, to: to}
	rootKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a root key: %w", err)
	}
	if a.issuerKey, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("making an issuer's key: %w", err)
	}
	authority := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root := authority("test TPM root")
	if a.root, err = a.sign(root, root, rootKey.Public(), rootKey); err != nil {
		return nil, err
	}
	a.issuer, err = a.sign(authority("test TPM issuer"), a.root, a.issuerKey.Public(), rootKey)
	return a, err
}

// Root is the certificate to trust.
func (a *Authority) Root() *x509.Certificate { return a.root }

// AK gives the chain for an attestation key, its own certificate first, without the root.
func (a *Authority) AK(key crypto.PublicKey) ([][]byte, error) {
	return a.Issue(key, &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 3}},
	})
}

// EK gives the chain for an endorsement key.
func (a *Authority) EK(key crypto.PublicKey) ([][]byte, error) {
	usage := x509.KeyUsageKeyEncipherment
	if _, ok := key.(*ecdsa.PublicKey); ok {
		usage = x509.KeyUsageKeyAgreement
	}
	return a.Issue(key, &x509.Certificate{
		KeyUsage: usage, UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
	})
}

// Issue gives a chain for a key after a template; validity and serial number are filled in where they are missing.
func (a *Authority) Issue(key crypto.PublicKey, template *x509.Certificate) ([][]byte, error) {
	leaf, err := a.sign(template, a.issuer, key, a.issuerKey)
	if err != nil {
		return nil, err
	}
	return [][]byte{leaf.Raw, a.issuer.Raw}, nil
}

func (a *Authority) sign(template, parent *x509.Certificate, key crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = a.from, a.to
	}
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(1)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading an issued certificate: %w", err)
	}
	return c, nil
}
