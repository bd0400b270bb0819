// SPDX-License-Identifier: Apache-2.0

package nitrotest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"time"
)

// The certificates of a PKI, for [Config.Change], from the root to the one that signs documents.
const (
	Root     = "sim.nitro-enclaves"
	Regional = "0123456789abcdef.us-east-2.sim.nitro-enclaves"
	Zonal    = "fedcba9876543210.zonal.us-east-2.sim.nitro-enclaves"
	Instance = "i-0123456789abcdef0.us-east-2.sim.nitro-enclaves"
	Leaf     = "i-0123456789abcdef0-enc0123456789abcdef.us-east-2.sim"
)

// Config describes the PKI. The zero value is a good one.
type Config struct {
	At   time.Time // start of all validities; the zero value is 2026-06-01
	Seed string    // other keys for another seed

	Short bool // the root itself issues the leaf

	// Change is called with the template of each certificate before it is signed.
	Change func(name string, template *x509.Certificate)
	// Issuers names the key that signs a certificate where that is not its issuer's.
	Issuers map[string]string
}

// PKI is AWS's part: five certificates and their keys.
type PKI struct {
	Config
	Certs map[string]*x509.Certificate
}

// Day is a time at which everything made by default is valid.
func (c Config) Day() time.Time { return c.At.Add(time.Hour) }

// New makes a PKI.
func New(c Config) *PKI {
	if c.At.IsZero() {
		c.At = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	}
	p := &PKI{Config: c, Certs: map[string]*x509.Certificate{}}
	const day = 24 * time.Hour
	p.certify(Root, Root, -1, 30*365*day)
	if c.Short {
		p.certify(Leaf, Root, -1, 3*time.Hour)
		return p
	}
	p.certify(Regional, Root, 2, 20*day)
	p.certify(Zonal, Regional, 1, 6*day)
	p.certify(Instance, Zonal, 0, day)
	p.certify(Leaf, Instance, -1, 3*time.Hour)
	return p
}

// certify makes one certificate with the extensions that AWS gives it; pathLen below 0 is none.
func (p *PKI) certify(name, issuer string, pathLen int, lives time.Duration) {
	id := sha256.Sum256([]byte(p.Seed + name))
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:8]),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Simulator"}, OrganizationalUnit: []string{"Tests"}, Country: []string{"US"}},
		NotBefore:    p.At, NotAfter: p.At.Add(lives), SubjectKeyId: id[:20],
		SignatureAlgorithm: x509.ECDSAWithSHA384, BasicConstraintsValid: true,
		IsCA: true, MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	switch name {
	case Instance:
		t.KeyUsage = x509.KeyUsageCertSign
	case Leaf:
		t.IsCA, t.SubjectKeyId = false, nil
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	}
	if p.Change != nil {
		p.Change(name, t)
	}
	parent := *t
	if name != issuer {
		parent = *p.Certs[issuer]
	}
	parent.PublicKey = nil // a test's own does not have to be the one that signs
	var public any = &p.Key(name).PublicKey
	if t.PublicKey != nil { // a test's own
		public = t.PublicKey
	}
	der := must(x509.CreateCertificate(nil, t, &parent, public, signerOf{p.Key(issuer)}))
	if other, ok := p.Issuers[name]; ok {
		der = p.resign(der, other)
	}
	p.Certs[name] = must(x509.ParseCertificate(der))
}

// resign replaces the signature of a certificate by that of another key.
func (p *PKI) resign(der []byte, name string) []byte {
	var c struct {
		Signed    asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	must(asn1.Unmarshal(der, &c))
	digest := sha512.Sum384(c.Signed.FullBytes)
	c.Signature.Bytes = must(p.Key(name).Sign(nil, digest[:], crypto.SHA384))
	c.Signature.BitLength = 8 * len(c.Signature.Bytes)
	return must(asn1.Marshal(c))
}

// Key is the key of that name, a function of seed and name.
func (p *PKI) Key(name string) *ecdsa.PrivateKey {
	scalar := sha512.Sum384([]byte("nitrotest key " + p.Seed + "/" + name))
	scalar[0] = 0 // below the order of the curve
	return must(ecdsa.ParseRawPrivateKey(elliptic.P384(), scalar[:]))
}

// signerOf signs deterministically (RFC 6979).
type signerOf struct{ key *ecdsa.PrivateKey }

// Public is the key's public half.
func (s signerOf) Public() crypto.PublicKey { return &s.key.PublicKey }

// Sign takes no randomness.
func (s signerOf) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(nil, digest, opts)
}

// PEM writes the named certificates one after the other.
func (p *PKI) PEM(names ...string) []byte {
	var out []byte
	for _, name := range names {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certs[name].Raw})...)
	}
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
