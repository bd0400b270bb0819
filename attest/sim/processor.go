// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"sync"
	"time"
)

// What every simulated processor claims to be: the parts of its TCB are those of a Milan B1 with current firmware, as
// of the TCB table of attest/snp.
const (
	productName   = "Milan-B1"
	tcbBootloader = 4
	tcbTEE        = 0
	tcbSNP        = 24
	tcbMicrocode  = 0xdb
)

// Processor is one simulated secure processor with one guest on it. It is safe for concurrent use.
type Processor struct {
	key          *ecdsa.PrivateKey // the VCEK
	endorsements []byte
	launchDigest [48]byte
	chipID       [64]byte
	reportID     [32]byte

	mu       sync.Mutex
	register [32]byte // guarded by mu; only ever extended
}

// NewProcessor makes a processor for one guest whose launch the caller measured as launchDigest (SHA-384). VCEK, chip
// identifier and report identifier are fresh and random. A digest of zeros is refused: nothing was measured.
func (a *Authority) NewProcessor(launchDigest [48]byte, now time.Time) (*Processor, error) {
	if launchDigest == [48]byte{} {
		return nil, errors.New("making a simulated processor: the launch digest is all zeros")
	}
	p := &Processor{launchDigest: launchDigest}
	for _, id := range [][]byte{p.chipID[:], p.reportID[:]} {
		if _, err := rand.Read(id); err != nil {
			return nil, fmt.Errorf("choosing an identifier: %w", err)
		}
	}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		return nil, fmt.Errorf("making the VCEK: %w", err)
	}
	template := &x509.Certificate{
		Subject:            amdName("SEV-VCEK"),
		NotBefore:          now.Add(-backdate),
		NotAfter:           now.Add(leafLife),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
	}
	if template.ExtraExtensions, err = vcekExtensions(p.chipID); err != nil {
		return nil, err
	}
	cert, err := sign(template, a.ask, &p.key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the VCEK: %w", err)
	}
	p.endorsements = append(certPEM(cert), certPEM(a.ask)...)
	return p, nil
}

// Endorsements gives the certificates in PEM: VCEK, then ASK.
func (p *Processor) Endorsements() []byte { return append([]byte(nil), p.endorsements...) }

// Extend makes the register SHA-256(old ‖ digest) and gives the new value. The register starts as 32 zero bytes.
func (p *Processor) Extend(digest [32]byte) [32]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.register = sha256.Sum256(append(p.register[:], digest[:]...))
	return p.register
}

// Register gives the value of the register, which reports carry as HOST_DATA.
func (p *Processor) Register() [32]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.register
}

// vcekExtensions writes what AMD's key distribution service writes into a VCEK (AMD 57230, "VCEK certificate
// extensions"), the chip identifier without a type as AMD does.
func vcekExtensions(chipID [64]byte) ([]pkix.Extension, error) {
	name, err := asn1.MarshalWithParams(productName, "ia5")
	if err != nil {
		return nil, fmt.Errorf("encoding the product name: %w", err)
	}
	arc := func(last ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, last...)
	}
	extensions := []pkix.Extension{{Id: arc(2), Value: name}, {Id: arc(4), Value: chipID[:]}}
	for _, n := range [...]struct {
		id    asn1.ObjectIdentifier
		value int
	}{
		{arc(1), 1}, // version of the structure
		{arc(3, 1), tcbBootloader}, {arc(3, 2), tcbTEE}, {arc(3, 3), tcbSNP}, {arc(3, 4), 0},
		{arc(3, 5), 0}, {arc(3, 6), 0}, {arc(3, 7), 0}, {arc(3, 8), tcbMicrocode},
	} {
		value, err := asn1.Marshal(n.value)
		if err != nil {
			return nil, fmt.Errorf("encoding extension %v: %w", n.id, err)
		}
		extensions = append(extensions, pkix.Extension{Id: n.id, Value: value})
	}
	return extensions, nil
}
