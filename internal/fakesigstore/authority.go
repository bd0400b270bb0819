// SPDX-License-Identifier: Apache-2.0

package fakesigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// authority is a root and a certificate that it issued: an intermediate authority for code signing, or a signer of
// timestamps.
type authority struct {
	root, signer *x509.Certificate
	key          *ecdsa.PrivateKey // the signer's
}

// purpose is what an authority's second certificate is for.
type purpose int

const (
	codeSigning purpose = iota
	timeStamping
)

func newAuthority(cfg Config, name string, p purpose) (authority, error) {
	rootKey, err := newKey()
	if err != nil {
		return authority{}, err
	}
	root := template(cfg, name+" root")
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	root, err = issue(root, root, rootKey.Public(), rootKey)
	if err != nil {
		return authority{}, err
	}
	key, err := newKey()
	if err != nil {
		return authority{}, err
	}
	signer := template(cfg, name)
	if p == codeSigning {
		signer.IsCA, signer.BasicConstraintsValid, signer.MaxPathLenZero = true, true, true
		signer.KeyUsage, signer.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	} else {
		purposes, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
		if err != nil {
			return authority{}, fmt.Errorf("encoding key usage: %w", err)
		}
		// RFC 3161 section 2.3: exactly this one purpose, and critical, which ExtKeyUsage would not be.
		signer.KeyUsage = x509.KeyUsageDigitalSignature
		signer.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: purposes}}
	}
	if signer, err = issue(signer, root, key.Public(), rootKey); err != nil {
		return authority{}, err
	}
	return authority{root: root, signer: signer, key: key}, nil
}

func template(cfg Config, name string) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: name, Organization: []string{cfg.Organization}},
		NotBefore: cfg.Now().Add(-before), NotAfter: cfg.Now().Add(after),
	}
}

func issue(template, parent *x509.Certificate, public crypto.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	if template.SerialNumber == nil {
		var err error
		if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 159)); err != nil {
			return nil, fmt.Errorf("making serial number: %w", err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("issuing certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	return c, nil
}

// chain gives the certificates as a trusted root lists them, the root last.
func (a authority) chain() []*x509.Certificate { return []*x509.Certificate{a.signer, a.root} }

// certify issues a leaf to a key, as Fulcio does: valid for ten minutes, one URI, the identity's extensions and, unless
// the instance or the options have none, the proof that a certificate transparency log took it.
func (i *Instance) certify(public crypto.PublicKey, o Options) (*x509.Certificate, error) {
	san, err := url.Parse(o.Identity.SAN())
	if err != nil {
		return nil, fmt.Errorf("reading subject: %w", err)
	}
	now := i.cfg.Now()
	leaf := &x509.Certificate{
		NotBefore: now, NotAfter: now.Add(lifetime), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, URIs: []*url.URL{san},
	}
	if leaf.ExtraExtensions, err = o.Identity.extensions(); err != nil {
		return nil, err
	}
	if o.Template != nil {
		o.Template(leaf)
	}
	// The log signs the certificate as it is without the proof and before its signature (RFC 6962 section 3.2).
	bare, err := issue(leaf, i.fulcio.signer, public, i.fulcio.key)
	if err != nil || i.cfg.WithoutCT || o.WithoutSCT {
		return bare, err
	}
	proof, err := i.sct(bare.RawTBSCertificate, now)
	if err != nil {
		return nil, err
	}
	leaf.ExtraExtensions = append(leaf.ExtraExtensions, proof)
	return issue(leaf, i.fulcio.signer, public, i.fulcio.key)
}

// sct makes the extension with one signed certificate timestamp (RFC 6962 sections 3.2 and 3.3).
func (i *Instance) sct(tbs []byte, at time.Time) (pkix.Extension, error) {
	_, id, err := keyID(i.ct)
	if err != nil {
		return pkix.Extension{}, err
	}
	issuer := sha256.Sum256(i.fulcio.signer.RawSubjectPublicKeyInfo)
	stamp := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))

	signed := append([]byte{0, 0}, stamp...) // version 1, a certificate timestamp
	signed = append(signed, 0, 1)            // of a precertificate
	signed = append(signed, issuer[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs))) //nolint:gosec // a certificate has no 16 MiB.
	signed = append(signed, tbs...)
	signed = append(signed, 0, 0) // no extensions
	sum := sha256.Sum256(signed)
	sig, err := ecdsa.SignASN1(rand.Reader, i.ct, sum[:])
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("signing certificate timestamp: %w", err)
	}

	one := append([]byte{0}, id[:]...)
	one = append(one, stamp...)
	one = append(one, 0, 0, 4, 3) // no extensions; SHA-256 with ECDSA
	one = append(one, length(sig)...)
	one = append(one, sig...)
	list := append(length(one), one...)
	value, err := asn1.Marshal(append(length(list), list...))
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encoding certificate timestamp: %w", err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value}, nil
}

// length gives the two bytes that stand before a short vector of TLS.
func length(b []byte) []byte {
	return []byte{byte(len(b) >> 8), byte(len(b))} //nolint:gosec // one signature in its frame.
}
