// SPDX-License-Identifier: Apache-2.0

package snptest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/snp"
)

// Template is a certificate with AMD's subject, valid an hour around [Time].
func Template(name string, ca bool) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(7),
		Subject: pkix.Name{
			Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
			Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"}, CommonName: name,
		},
		NotBefore: Time().Add(-time.Hour), NotAfter: Time().Add(time.Hour),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	if ca {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	return c
}

// ARKDER gives the root certificate.
func (m *Machine) ARKDER(t testing.TB) []byte {
	t.Helper()
	return Certificate(t, m.ARK, m.ARK, &m.ARKKey.PublicKey, m.ARKKey)
}

// ASKDER gives the intermediate certificate, an ASVK under a VLEK.
func (m *Machine) ASKDER(t testing.TB) []byte {
	t.Helper()
	return Certificate(t, m.ASK, m.ARK, &m.ASKKey.PublicKey, m.ARKKey)
}

// RootsPEM gives intermediate and root in the order of AMD's cert_chain.
func (m *Machine) RootsPEM(t testing.TB) []byte {
	t.Helper()
	return slices.Concat(PEM(m.ASKDER(t)), PEM(m.ARKDER(t)))
}

// unchanged roots are signed and parsed once, which most of the tests' time would go to otherwise.
var unchanged sync.Map // of line and key: []snp.Root

// Roots gives the parsed roots that a verifier is to be given.
func (m *Machine) Roots(t testing.TB) []snp.Root {
	t.Helper()
	if m.RootsOf != nil {
		return m.RootsOf.Roots(t)
	}
	fresh, k := New(m.Line, m.Key), keys()
	same := reflect.DeepEqual(m.ARK, fresh.ARK) && reflect.DeepEqual(m.ASK, fresh.ASK) && m.ARKKey == k.ark && m.ASKKey == k.ask
	if same {
		made, _ := unchanged.Load(m.Line + m.Key)
		if roots, ok := made.([]snp.Root); ok {
			return roots
		}
	}
	r, err := snp.ParseRoots(m.RootsPEM(t))
	if err != nil {
		t.Fatal(err)
	}
	if same {
		unchanged.Store(m.Line+m.Key, r)
	}
	return r
}

// LeafDER gives the endorsement key certificate with the extensions of AMD 57230.
func (m *Machine) LeafDER(t testing.TB) []byte {
	t.Helper()
	c := *m.Leaf
	add := func(value any, params string, arcs ...int) {
		if value == nil {
			return
		}
		raw, isRaw := value.(asn1.RawContent)
		if !isRaw {
			var err error
			if raw, err = asn1.MarshalWithParams(value, params); err != nil {
				t.Fatal(err)
			}
		}
		c.ExtraExtensions = append(c.ExtraExtensions, Extension(raw, arcs...))
	}
	add(m.Structure, "", 1)
	add(m.Product, "ia5", 2)
	add(m.CSP, "ia5", 5)
	if m.HWID != nil {
		c.ExtraExtensions = append(c.ExtraExtensions, Extension(m.HWID, 4))
	}
	for _, arc := range slices.Sorted(maps.Keys(m.SPL)) {
		add(m.SPL[arc], "", 3, arc)
	}
	c.ExtraExtensions = append(c.ExtraExtensions, m.Extra...)
	return Certificate(t, &c, m.ASK, m.LeafPublic, m.ASKKey)
}

// Extension is one below AMD's arc 1.3.6.1.4.1.3704.1, its value as given.
func Extension(value []byte, arcs ...int) pkix.Extension {
	return pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs...), Value: value}
}

// Certificate signs a certificate and gives it in DER.
func Certificate(t testing.TB, template, parent *x509.Certificate, public, signer any) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// PEM writes a certificate in PEM.
func PEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// CRL gives the ARK's revocation list in DER, current from CRLFrom to CRLEnd, with the given serial numbers on it.
func (m *Machine) CRL(t testing.TB, revoked ...*big.Int) []byte {
	t.Helper()
	return m.CRLBy(t, m.ARKKey, x509.SHA384WithRSAPSS, revoked...)
}

// CRLBy is [Machine.CRL] with another key or algorithm.
func (m *Machine) CRLBy(t testing.TB, key *rsa.PrivateKey, algorithm x509.SignatureAlgorithm, revoked ...*big.Int) []byte {
	t.Helper()
	list := &x509.RevocationList{
		SignatureAlgorithm: algorithm, Number: big.NewInt(1), ThisUpdate: m.CRLFrom, NextUpdate: m.CRLEnd, ExtraExtensions: m.CRLExtra,
	}
	for _, serial := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: m.CRLFrom})
	}
	issuer := *m.ARK
	issuer.PublicKey, issuer.SubjectKeyId = &key.PublicKey, []byte{1}
	issuer.KeyUsage |= x509.KeyUsageCRLSign
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
