// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

const (
	maxCRLBytes = 4 << 20
	nextNewCRL  = "get the current list from AMD's key distribution service: /vcek/v1/<line>/crl, or /vlek/v1/<line>/crl for a VLEK"
)

// NotRevoked reports, as nil, that a list of the report's own ARK, in DER, was current at the given time and names none
// of the report's certificates.
//
// A list of AMD's names certificates that the ARK signed: itself, ASK and ASVK (KDS, "Certificate revocation list").
// A VCEK or VLEK cannot be named by it, since AMD gives all of them the serial number 0: what answers a broken chip or
// firmware is the TCB floor. An entry that has the leaf's serial number nevertheless refuses it, whatever it means.
// Nothing in the two lists of one line tells them apart: give the one of the report's kind of key.
//
// Codes: endorsements-missing for no list; malformed; endorsements-mismatch for a list of another line or authority;
// chain for another signature; revoked, and joined to it expired for a list that is not current; missing when the caller gave no time, or
// for an unverified report.
func (r *Report) NotRevoked(crlDER []byte, at time.Time) error {
	switch {
	case r == nil || !r.verified:
		return crlRefusal(refusal.Missing, "a verified report", "none")
	case at.IsZero():
		return crlRefusal(refusal.Missing, "a time to judge the revocation list at", "none")
	case len(crlDER) == 0:
		return crlRefusal(refusal.EndorsementsMissing, "a revocation list of "+r.root.ark.Subject.CommonName, "nothing")
	}
	list, err := parseCRL(crlDER)
	if err != nil {
		return err
	}
	if err := r.root.checkCRL(list); err != nil {
		return err
	}
	return errors.Join(r.named(list), current(list, at))
}

// named refuses a list that names a certificate of the report. Nothing takes a revocation back, so a list that is not
// current says it too.
func (r *Report) named(list *x509.RevocationList) error {
	for i := range list.RevokedCertificateEntries {
		for _, c := range []*x509.Certificate{r.root.ark, r.root.ask, r.leaf} {
			if entry := &list.RevokedCertificateEntries[i]; entry.SerialNumber.Cmp(c.SerialNumber) == 0 {
				return crlRefusal(refusal.Revoked, c.Subject.CommonName+" not revoked",
					fmt.Sprintf("serial number %#x revoked on %s", c.SerialNumber, entry.RevocationTime.UTC().Format(time.DateOnly)))
			}
		}
	}
	return nil
}

func current(list *x509.RevocationList, at time.Time) error {
	if at.Before(list.ThisUpdate) || at.After(list.NextUpdate) {
		return crlRefusal(refusal.Expired, "a revocation list that is current at "+at.UTC().Format(time.RFC3339),
			"one for "+list.ThisUpdate.UTC().Format(time.RFC3339)+" to "+list.NextUpdate.UTC().Format(time.RFC3339))
	}
	return nil
}

// parseCRL reads exactly one complete list. A critical extension changes what a list says: a delta, a part of the
// certificates, entries of other issuers. None is known here, so each is refused.
func parseCRL(der []byte) (*x509.RevocationList, error) {
	if len(der) > maxCRLBytes {
		return nil, crlRefusal(refusal.Malformed, fmt.Sprintf("a revocation list of at most %d bytes", maxCRLBytes), fmt.Sprintf("%d bytes", len(der)))
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, crlRefusal(refusal.Malformed, "an X.509 revocation list in DER", "something else").Because(err)
	}
	if len(list.Raw) != len(der) {
		return nil, crlRefusal(refusal.Malformed, "exactly one revocation list", "bytes after it")
	}
	if list.NextUpdate.IsZero() {
		return nil, crlRefusal(refusal.Malformed, "a revocation list that says when the next one comes", "one without end")
	}
	extensions := list.Extensions
	for i := range list.RevokedCertificateEntries {
		extensions = append(extensions, list.RevokedCertificateEntries[i].Extensions...)
	}
	for _, x := range extensions {
		if x.Critical {
			return nil, crlRefusal(refusal.Malformed, "a revocation list without critical extensions", x.Id.String())
		}
	}
	return list, nil
}

// checkCRL demands that the root's ARK made the list.
func (r Root) checkCRL(list *x509.RevocationList) error {
	switch {
	case !bytes.Equal(list.RawIssuer, r.ark.RawSubject):
		return crlRefusal(refusal.EndorsementsMismatch, "a revocation list of "+r.ark.Subject.CommonName, "one of "+quote(list.Issuer.CommonName))
	case list.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		return crlRefusal(refusal.Chain, "a revocation list signed with RSASSA-PSS and SHA-384", list.SignatureAlgorithm.String())
	}
	if err := list.CheckSignatureFrom(r.ark); err != nil {
		return crlRefusal(refusal.Chain, "a revocation list signed by "+r.ark.Subject.CommonName, "another signature").Because(err)
	}
	return nil
}

func crlRefusal(code refusal.Code, want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: linkEndorsements, Code: code, Want: want, Got: got, Next: nextNewCRL}
}
