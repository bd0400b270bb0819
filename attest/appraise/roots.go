// SPDX-License-Identifier: Apache-2.0

package appraise

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/vtpm"
)

// Roots are what quotes may lead to. The zero Roots accept nothing.
type Roots struct {
	AMD   []snp.Root
	Intel []tdx.Root
	AWS   []nitro.Root
	TPM   []*x509.Certificate // of providers that certify attestation keys; none is pinned

	Activated []*vtpm.AK // attestation keys for which the caller completed an activation
}

// Empty reports whether nothing could lead to them.
func (r Roots) Empty() bool {
	return len(r.AMD) == 0 && len(r.Intel) == 0 && len(r.AWS) == 0 && len(r.TPM) == 0 && len(r.Activated) == 0
}

// Pinned gives the roots of AMD, Intel and AWS that this program holds.
func Pinned() (Roots, error) {
	amd, err := snp.AMDRoots()
	if err != nil {
		return Roots{}, fmt.Errorf("reading AMD's pinned roots: %w", err)
	}
	intel, err := tdx.IntelRoots()
	if err != nil {
		return Roots{}, fmt.Errorf("reading Intel's pinned root: %w", err)
	}
	aws, err := nitro.AWSRoots()
	if err != nil {
		return Roots{}, fmt.Errorf("reading AWS's pinned root: %w", err)
	}
	return Roots{AMD: amd, Intel: intel, AWS: aws}, nil
}

// WithPrivate adds a simulator's or private root: PEM with ASK, then ARK for SEV-SNP, or with one certificate for TDX
// (P-256) or Nitro (P-384). Everything that leads to it is of platform "sim".
func (r Roots) WithPrivate(text []byte) (Roots, error) {
	const perAMD = 2
	switch n := bytes.Count(text, []byte("-----BEGIN CERTIFICATE-----")); n {
	case 1:
		more, err := tdx.ParseRoots(text)
		aws, other := nitro.ParseRoots(text)
		if err != nil && other != nil { // Intel's kind of key is no root of AWS's kind, nor the other way round
			return Roots{}, fmt.Errorf("reading private root: %w", errors.Join(err, other))
		}
		r.Intel, r.AWS = append(r.Intel[:len(r.Intel):len(r.Intel)], more...), append(r.AWS[:len(r.AWS):len(r.AWS)], aws...)
	case perAMD:
		more, err := snp.ParseRoots(text)
		if err != nil {
			return Roots{}, fmt.Errorf("reading private root: %w", err)
		}
		r.AMD = append(r.AMD[:len(r.AMD):len(r.AMD)], more...)
	default:
		return Roots{}, &refusal.Refusal{
			Link: "root", Code: refusal.Malformed, Want: "PEM with ASK and ARK, or with the one root of a TDX simulator",
			Got: fmt.Sprintf("%d certificates", n), Next: "name the root file that the simulator wrote",
		}
	}
	return r, nil
}

// WithTPM adds the root certificates of a provider that certifies attestation keys, in PEM.
func (r Roots) WithTPM(text []byte) (Roots, error) {
	ders, err := certificates(text)
	if err != nil {
		return Roots{}, err
	}
	if len(ders) == 0 {
		return Roots{}, &refusal.Refusal{
			Link: "root", Code: refusal.Missing, Want: "a provider's root certificate in PEM", Got: "nothing", Next: "name the provider's root file",
		}
	}
	r.TPM = r.TPM[:len(r.TPM):len(r.TPM)]
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return Roots{}, (&refusal.Refusal{
				Link: "root", Code: refusal.Malformed, Want: "X.509 certificates", Got: "something else", Next: "name the provider's root file",
			}).Because(err)
		}
		r.TPM = append(r.TPM, c)
	}
	return r, nil
}
