// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/x509"
	"errors"
	"math/big"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// parseCRL reads a whole, direct revocation list (PCK, "Certificate Revocation List"). Critical extensions make a list
// mean something else (a delta, a part, somebody else's certificates) and are refused.
func parseCRL(der []byte) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	switch {
	case err != nil:
		return nil, err
	case len(list.Raw) != len(der):
		return nil, errors.New("bytes behind the list")
	case list.NextUpdate.IsZero() || !list.NextUpdate.After(list.ThisUpdate):
		return nil, errors.New("no time of the next update")
	case list.Number == nil || len(list.AuthorityKeyId) == 0:
		return nil, errors.New("no number or no key identifier of the issuer")
	}
	for _, e := range list.Extensions {
		if e.Critical {
			return nil, errors.New("a critical extension")
		}
	}
	for i := range list.RevokedCertificateEntries {
		for _, e := range list.RevokedCertificateEntries[i].Extensions {
			if e.Critical {
				return nil, errors.New("a critical extension of an entry")
			}
		}
	}
	return list, nil
}

// checkCRL demands that the issuer signed the list.
func checkCRL(list *x509.RevocationList, issuer *x509.Certificate) error {
	name := printable(issuer.Subject.CommonName)
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) || !bytes.Equal(list.AuthorityKeyId, issuer.SubjectKeyId) {
		return endorsements(refusal.EndorsementsMismatch, "the revocation list of "+name, "one of "+printable(list.Issuer.CommonName))
	}
	if list.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return endorsements(refusal.Signature, "ECDSA with SHA-256 over the revocation list of "+name, list.SignatureAlgorithm.String())
	}
	if err := issuer.CheckSignature(list.SignatureAlgorithm, list.RawTBSRevocationList, list.Signature); err != nil {
		return endorsements(refusal.Signature, "the signature of "+name+" over its revocation list", "another signature, or changed bytes").Because(err)
	}
	return nil
}

// checkRevoked refuses a certificate that stands in its issuer's list, for whatever reason and since whatever time.
func checkRevoked(list *x509.RevocationList, serial *big.Int, name string) error {
	for i := range list.RevokedCertificateEntries {
		e := &list.RevokedCertificateEntries[i]
		if e.SerialNumber.Cmp(serial) == 0 {
			return endorsements(refusal.Revoked, "a "+name+" that is not revoked", "one revoked at "+e.RevocationTime.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
