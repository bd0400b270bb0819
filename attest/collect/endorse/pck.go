// SPDX-License-Identifier: Apache-2.0

package endorse

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
)

// PCK names the platform that a TDX quote comes from.
type PCK struct {
	FMSPC [6]byte
	CA    CA
}

// oidSGX is the certificate extension that describes an SGX platform, and the places in it (Intel "SGX PCK Certificate
// and CRL Profile Specification", section 1.3.5).
func oidSGX() asn1.ObjectIdentifier   { return asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1} }
func oidFMSPC() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1, 4} }

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	maxLeaf  = 32 << 10 // of the text that is looked at; a PCK certificate has under 3 KiB
)

// ReadPCK reads from a TDX quote which platform made it. The quote carries its PCK certificate, leaf first, as PEM
// (certification data type 5). Only the certificate is looked for, wherever it stands: what a quote must look like is
// for the verifier to say, and an odd one should still reach it.
func ReadPCK(quote []byte) (PCK, error) {
	_, after, found := bytes.Cut(quote, []byte(pemBegin))
	if !found {
		return PCK{}, errors.New("reading the quote's platform: there is no PCK certificate in the quote")
	}
	block, _ := pem.Decode(append([]byte(pemBegin), after[:min(len(after), maxLeaf)]...))
	if block == nil {
		return PCK{}, errors.New("reading the quote's platform: the quote's PCK certificate is not in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return PCK{}, fmt.Errorf("reading the quote's platform: %w", err)
	}
	ca, err := caOf(cert)
	if err != nil {
		return PCK{}, fmt.Errorf("reading the quote's platform: %w", err)
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSGX()) {
			fmspc, err := fmspcOf(e.Value)
			return PCK{fmspc, ca}, err
		}
	}
	return PCK{}, errors.New("reading the quote's platform: the PCK certificate has no SGX extension")
}

// fmspcOf finds the FMSPC, an octet string, in the extension's sequence of identifier and value.
func fmspcOf(extension []byte) ([6]byte, error) {
	var parts []asn1.RawValue
	if rest, err := asn1.Unmarshal(extension, &parts); err != nil || len(rest) != 0 {
		return [6]byte{}, errors.New("reading the quote's platform: the SGX extension is not one sequence")
	}
	for _, p := range parts {
		var id asn1.ObjectIdentifier
		rest, err := asn1.Unmarshal(p.Bytes, &id)
		if err != nil || !id.Equal(oidFMSPC()) {
			continue
		}
		var value []byte
		if rest, err = asn1.Unmarshal(rest, &value); err != nil || len(rest) != 0 || len(value) != 6 {
			return [6]byte{}, errors.New("reading the quote's platform: the FMSPC is not six bytes")
		}
		return [6]byte(value), nil
	}
	return [6]byte{}, errors.New("reading the quote's platform: the SGX extension has no FMSPC")
}
