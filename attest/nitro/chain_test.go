// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

// change is one thing to change in a template.
type change func(t *x509.Certificate)

// constraints puts the value in the place of the basic constraints.
func constraints(critical bool, value string) change {
	return func(t *x509.Certificate) {
		t.BasicConstraintsValid = false
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: critical, Value: []byte(value)}}
	}
}

// TestChain changes one thing of one certificate; its issuer signs each.
func TestChain(t *testing.T) {
	t.Parallel()
	p256 := func(t *x509.Certificate) {
		scalar := make([]byte, 32)
		scalar[31] = 1
		key, _ := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar)
		t.PublicKey = &key.PublicKey
	}
	aKeyOfRSA := func(t *x509.Certificate) {
		t.PublicKey = &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2047, 1), E: 65537}
	}
	sha256 := func(t *x509.Certificate) { t.SignatureAlgorithm = x509.ECDSAWithSHA256 }
	unknown := func(t *x509.Certificate) {
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
	}
	names := func(t *x509.Certificate) {
		t.PermittedDNSDomainsCritical, t.PermittedDNSDomains = true, []string{"example.com"}
	}
	pathLength := func(n int) change {
		return func(t *x509.Certificate) { t.MaxPathLen, t.MaxPathLenZero = n, n == 0 }
	}
	usage := func(u x509.KeyUsage) change { return func(t *x509.Certificate) { t.KeyUsage = u } }
	identifier := func(t *x509.Certificate) {
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Value: append([]byte{0x30, 22, 0x80, 20}, make([]byte, 20)...)}}
	}
	for _, c := range []struct {
		name, of string
		change   change
		want     string
	}{
		{"leaf of P-256", nitrotest.Leaf, p256, "P-384"},
		{"leaf of RSA", nitrotest.Leaf, aKeyOfRSA, "P-384"},
		{"issuer of P-256", nitrotest.Zonal, p256, "P-384"},
		{"leaf over SHA-256", nitrotest.Leaf, sha256, "SHA-384"},
		{"issuer over SHA-256", nitrotest.Regional, sha256, "SHA-384"},
		{"leaf with an unknown critical extension", nitrotest.Leaf, unknown, "critical extensions"},
		{"issuer with an unknown critical extension", nitrotest.Zonal, unknown, "critical extensions"},
		{"issuer with critical name constraints", nitrotest.Zonal, names, "critical extensions"},
		{"issuer that is no CA", nitrotest.Instance, func(t *x509.Certificate) { t.IsCA, t.MaxPathLen, t.MaxPathLenZero = false, -1, false }, "constraints of a CA"},
		{"issuer without constraints", nitrotest.Instance, func(t *x509.Certificate) { t.BasicConstraintsValid = false }, "constraints of a CA"},
		{"issuer whose constraints are not critical", nitrotest.Instance, constraints(false, "\x30\x06\x01\x01\xff\x02\x01\x00"), "constraints of a CA"},
		{"root with too short a path", nitrotest.Root, pathLength(2), "path length of at least 3"},
		{"regional with too short a path", nitrotest.Regional, pathLength(1), "path length of at least 2"},
		{"zonal with too short a path", nitrotest.Zonal, pathLength(0), "path length of at least 1"},
		{"regional that signs no certificates", nitrotest.Regional, usage(x509.KeyUsageDigitalSignature), "keyCertSign"},
		{"issuer that signs no certificates", nitrotest.Instance, usage(x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign), "keyCertSign"},
		{"issuer without key usage", nitrotest.Instance, usage(0), "keyCertSign"},
		{"leaf that is a CA", nitrotest.Leaf, func(t *x509.Certificate) { t.IsCA = true }, "no CA"},
		{"leaf with a path length of zero", nitrotest.Leaf, constraints(true, "\x30\x03\x02\x01\x00"), "no CA"},
		{"leaf with a path length", nitrotest.Leaf, constraints(true, "\x30\x03\x02\x01\x05"), "no CA"},
		{"leaf that signs certificates", nitrotest.Leaf, usage(x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature), "no CA"},
		{"leaf that signs nothing", nitrotest.Leaf, usage(x509.KeyUsageContentCommitment), "digitalSignature"},
		{"leaf without key usage", nitrotest.Leaf, usage(0), "digitalSignature"},
		{"another key identifier", nitrotest.Zonal, identifier, "issued by the key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newScene(t, nitrotest.Config{Change: func(name string, template *x509.Certificate) {
				if name == c.of {
					c.change(template)
				}
			}})
			_, err := verify(t, p, p.Sign(p.NewDocument().Payload()))
			wantCodes(t, err, refusal.Chain)
			if r := refusal.All(err)[0]; !strings.Contains(r.Want, c.want) {
				t.Fatalf("want a word of %q: %v", c.want, r)
			}
		})
	}
}

// TestWrongSigner has each certificate signed by a key that is not its issuer's, under the issuer's name.
func TestWrongSigner(t *testing.T) {
	t.Parallel()
	for _, name := range []string{nitrotest.Regional, nitrotest.Zonal, nitrotest.Instance, nitrotest.Leaf} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScene(t, nitrotest.Config{Issuers: map[string]string{name: "somebody else"}})
			_, err := verify(t, p, p.Sign(p.NewDocument().Payload()))
			wantCodes(t, err, refusal.Chain)
		})
	}
}

// TestOtherName puts a certificate of the right key in the issuer's place, under a name that is not the issuer's.
func TestOtherName(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	other := nitrotest.New(nitrotest.Config{Change: func(name string, template *x509.Certificate) {
		if name == nitrotest.Zonal {
			template.Subject.CommonName = "another zone"
		}
	}})
	bundle := nitrotest.Array(
		nitrotest.Bytes(p.Certs[nitrotest.Root].Raw), nitrotest.Bytes(p.Certs[nitrotest.Regional].Raw),
		nitrotest.Bytes(other.Certs[nitrotest.Zonal].Raw), nitrotest.Bytes(p.Certs[nitrotest.Instance].Raw),
	)
	_, err := verify(t, p, p.Sign(p.NewDocument().With("cabundle", bundle).Payload()))
	wantCodes(t, err, refusal.Chain)
}

// TestOrder gives the right certificates in wrong places.
func TestOrder(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	const root, regional, zonal, instance = nitrotest.Root, nitrotest.Regional, nitrotest.Zonal, nitrotest.Instance
	for name, bundle := range map[string][]string{
		"backwards":         {instance, zonal, regional, root},
		"without root":      {regional, zonal, instance},
		"without regional":  {root, zonal, instance},
		"without instance":  {root, regional, zonal},
		"root alone":        {root},
		"two changed":       {root, zonal, regional, instance},
		"root twice":        {root, root, regional, zonal, instance},
		"instance twice":    {root, regional, zonal, instance, instance},
		"the leaf as well":  {root, regional, zonal, instance, nitrotest.Leaf},
		"the leaf as first": {nitrotest.Leaf},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := verify(t, p, p.Sign(p.NewDocument().With("cabundle", p.Bundle(bundle...)).Payload()))
			wantCodes(t, err, refusal.Chain)
		})
	}
}

// TestValidity lets each certificate alone be invalid at the time.
func TestValidity(t *testing.T) {
	t.Parallel()
	for _, of := range []string{nitrotest.Root, nitrotest.Regional, nitrotest.Zonal, nitrotest.Instance, nitrotest.Leaf} {
		for name, change := range map[string]func(t *x509.Certificate, day time.Time){
			"expired":   func(t *x509.Certificate, day time.Time) { t.NotAfter = day.Add(-time.Second) },
			"not begun": func(t *x509.Certificate, day time.Time) { t.NotBefore = day.Add(time.Second) },
		} {
			t.Run(of+" "+name, func(t *testing.T) {
				t.Parallel()
				start := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
				p := newScene(t, nitrotest.Config{At: start, Change: func(name string, template *x509.Certificate) {
					if name == of {
						change(template, start.Add(time.Hour))
					}
				}})
				_, err := verify(t, p, p.Sign(p.NewDocument().Payload()))
				wantCodes(t, err, refusal.Expired)
			})
		}
	}
	p := newScene(t, nitrotest.Config{})
	doc := p.Sign(p.NewDocument().Payload())
	for at, want := range map[time.Time]bool{
		p.At: true, p.At.Add(-time.Second): false, p.At.Add(3 * time.Hour): true, p.At.Add(3*time.Hour + time.Second): false,
	} {
		if _, err := nitro.Verify(doc, p.roots, at); (err == nil) != want {
			t.Errorf("at %s: %v", at, err)
		}
	}
}
