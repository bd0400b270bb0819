// SPDX-License-Identifier: Apache-2.0

package tdxtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"time"
)

// The certificates of a PKI, for [Config.Change].
const (
	Root       = "Intel SGX Root CA"
	PCKCA      = "Intel SGX PCK Platform CA"
	PCKLeaf    = "Intel SGX PCK Certificate"
	TCBSigning = "Intel SGX TCB Signing"

	// NextTCBSigning is a second certificate for the same name as TCBSigning, with its own key.
	NextTCBSigning = "Intel SGX TCB Signing, the next"
)

// CRLAddress is where Intel publishes the revocation list of its root; every certificate names it.
const CRLAddress = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

// Config describes the platform and the PKI that certifies it. The zero value is a good one.
type Config struct {
	At     time.Time // start of all validities; the zero value is 2026-06-01
	Seed   string    // other keys for another seed
	FMSPC  [6]byte
	PCEID  [2]byte
	PPID   [16]byte
	SVNs   [16]byte // SGX TCB components; the zero value is [SVNs]
	PCESVN uint16   // the zero value is 11

	// Change is called with the template of each certificate before it is signed.
	Change func(name string, template *x509.Certificate)
	// Extension, when set, is the value of the SGX extension.
	Extension []byte
	// Issuers names the key that signs a certificate where that is not its issuer's.
	Issuers map[string]string
}

// SVNs gives the SGX TCB components that are up to date.
func SVNs() [16]byte { return [16]byte{2, 2, 2, 2, 3, 1, 0, 5} }

// PKI is Intel's part: five certificates and their keys.
type PKI struct {
	Config
	Certs map[string]*x509.Certificate
}

// Day is the time at which everything made by default is valid.
func (c Config) Day() time.Time { return c.At.Add(24 * time.Hour) }

// New makes a PKI.
func New(c Config) *PKI {
	if c.At.IsZero() {
		c.At = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	}
	if c.FMSPC == [6]byte{} {
		c.FMSPC = [6]byte{0xb0, 0xc0, 0x6f}
	}
	if c.SVNs == [16]byte{} {
		c.SVNs = SVNs()
	}
	if c.PCESVN == 0 {
		c.PCESVN = 11
	}
	if c.Extension == nil {
		c.Extension = SGXExtension(c)
	}
	p := &PKI{Config: c, Certs: map[string]*x509.Certificate{}}
	p.certify(Root, Root, 1)
	p.certify(PCKCA, Root, 0)
	p.certify(PCKLeaf, PCKCA, -1)
	p.certify(TCBSigning, Root, -1)
	p.certify(NextTCBSigning, Root, -1)
	return p
}

// certify makes one certificate; pathLen below 0 makes a leaf.
func (p *PKI) certify(name, issuer string, pathLen int) {
	id := sha256.Sum256([]byte(p.Seed + name))
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:8]),
		Subject: pkix.Name{
			CommonName: name, Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"},
			Province: []string{"CA"}, Country: []string{"US"},
		},
		NotBefore: p.At, NotAfter: p.At.AddDate(7, 0, 0), SubjectKeyId: id[:20],
		SignatureAlgorithm: x509.ECDSAWithSHA256, BasicConstraintsValid: true, CRLDistributionPoints: []string{CRLAddress},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
	}
	if pathLen >= 0 {
		t.IsCA, t.MaxPathLen, t.MaxPathLenZero = true, pathLen, pathLen == 0
		t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if name == NextTCBSigning {
		t.Subject.CommonName = TCBSigning
	}
	if name == PCKLeaf {
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, Value: p.Extension}}
	}
	if p.Change != nil {
		p.Change(name, t)
	}
	parent := p.Certs[issuer]
	if name == issuer {
		parent = t
	}
	var public any = &p.Key(name).PublicKey
	if t.PublicKey != nil { // a test's own
		public = t.PublicKey
	}
	der := must(x509.CreateCertificate(nil, t, parent, public, signerOf{p.Key(issuer)}))
	if other, ok := p.Issuers[name]; ok {
		der = p.resign(der, other)
	}
	p.Certs[name] = must(x509.ParseCertificate(der))
}

// resign replaces the signature of a certificate or revocation list by that of another key.
func (p *PKI) resign(der []byte, name string) []byte {
	var c struct {
		Signed    asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	must(asn1.Unmarshal(der, &c))
	digest := sha256.Sum256(c.Signed.FullBytes)
	c.Signature.Bytes = must(p.Key(name).Sign(nil, digest[:], crypto.SHA256))
	c.Signature.BitLength = 8 * len(c.Signature.Bytes)
	return must(asn1.Marshal(c))
}

// Key is the key of that name, a function of seed and name.
func (p *PKI) Key(name string) *ecdsa.PrivateKey {
	scalar := sha256.Sum256([]byte("tdxtest key " + p.Seed + "/" + name))
	return must(ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:]))
}

// signerOf signs deterministically (RFC 6979).
type signerOf struct{ key *ecdsa.PrivateKey }

// Public is the key's public half.
func (s signerOf) Public() crypto.PublicKey { return &s.key.PublicKey }

// Sign takes no randomness.
func (s signerOf) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(nil, digest, opts)
}

// Sign gives r and s of the named key's signature over the message.
func (p *PKI) Sign(name string, message []byte) []byte {
	digest := sha256.Sum256(message)
	var sig struct{ R, S *big.Int }
	must(asn1.Unmarshal(must(p.Key(name).Sign(nil, digest[:], crypto.SHA256)), &sig))
	out := make([]byte, 64)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out
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
