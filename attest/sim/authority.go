// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

const (
	rsaBits       = 4096 // as AMD's own
	backdate      = 24 * time.Hour
	authorityLife = 25 * 365 * 24 * time.Hour
	leafLife      = 7 * 365 * 24 * time.Hour
)

// Authority is a throw-away root of simulated processors: ARK, ASK and the ASK's key. The ARK's key signs the ASK and
// is then forgotten.
type Authority struct {
	ark, ask *x509.Certificate
	key      *rsa.PrivateKey // of the ASK
}

// NewAuthority makes an authority that is valid from a day before now for 25 years. It takes about a second: the keys
// are RSA with 4096 bits, as AMD's.
func NewAuthority(now time.Time) (*Authority, error) {
	type made struct {
		key *rsa.PrivateKey
		err error
	}
	second := make(chan made, 1)
	go func() {
		k, err := rsa.GenerateKey(rand.Reader, rsaBits)
		second <- made{k, err}
	}()
	arkKey, err := rsa.GenerateKey(rand.Reader, rsaBits)
	ask := <-second
	if err != nil {
		return nil, fmt.Errorf("making the ARK's key: %w", err)
	}
	if ask.err != nil {
		return nil, fmt.Errorf("making the ASK's key: %w", ask.err)
	}
	a := &Authority{key: ask.key}
	arkTemplate := authorityTemplate("ARK-Milan", now)
	if a.ark, err = sign(arkTemplate, arkTemplate, &arkKey.PublicKey, arkKey); err != nil {
		return nil, fmt.Errorf("signing the ARK: %w", err)
	}
	askTemplate := authorityTemplate("SEV-Milan", now)
	askTemplate.MaxPathLenZero = true
	if a.ask, err = sign(askTemplate, a.ark, &ask.key.PublicKey, arkKey); err != nil {
		return nil, fmt.Errorf("signing the ASK: %w", err)
	}
	return a, nil
}

// RootsPEM gives ASK, then ARK, the order of AMD's cert_chain: the file that --root takes.
func (a *Authority) RootsPEM() []byte {
	return append(certPEM(a.ask), certPEM(a.ark)...)
}

func authorityTemplate(name string, now time.Time) *x509.Certificate {
	subject := amdName(name)
	// Readers of the certificate learn from its name what it is; verifiers learn it from its key.
	subject.SerialNumber = "Kettle simulator"
	return &x509.Certificate{
		Subject:               subject,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// amdName has the attributes that AMD's key distribution service writes into every certificate, and that verifiers of
// the genuine chain demand.
func amdName(common string) pkix.Name {
	return pkix.Name{
		Country:            []string{"US"},
		Locality:           []string{"Santa Clara"},
		Province:           []string{"CA"},
		Organization:       []string{"Advanced Micro Devices"},
		OrganizationalUnit: []string{"Engineering"},
		CommonName:         common,
	}
}

// sign makes a certificate with a random serial number and reads it back.
func sign(template, parent *x509.Certificate, public any, key *rsa.PrivateKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("choosing a serial number: %w", err)
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("creating a certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading a certificate back: %w", err)
	}
	return cert, nil
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
