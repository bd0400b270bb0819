// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	sigbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"github.com/kettle/attest/attest/refusal"
)

// Verify checks one certificate-signed bundle: bundle v0.3, one signature over an in-toto payload by a certificate that an
// instance of t issued, with everything that this instance demands, at an authenticated time at which the certificate was
// valid. It returns the exact payload and the signer only after all of that. Whether this signer may sign this payload is
// not judged. Every refusal is a [*refusal.Refusal].
func (t *Trust) Verify(line []byte) (payload []byte, signer Signer, err error) {
	b, leaf, err := openCertified(line)
	if err != nil {
		return nil, Signer{}, err
	}
	i := t.instanceOf(leaf)
	if i == nil {
		return nil, Signer{}, unknownInstance(leaf)
	}
	if signer, err = readSigner(leaf); err != nil {
		return nil, Signer{}, err
	}
	if signer.SignedOn, err = i.verify(b, leaf); err != nil {
		return nil, Signer{}, err
	}
	return bytes.Clone(b.GetDsseEnvelope().GetPayload()), signer, nil
}

// Claimed gives what a certificate-signed bundle says, and who its certificate says signed it. Nothing of it is verified:
// it is for showing a file to people. A line of another kind is a [*refusal.Refusal].
func Claimed(line []byte) (payload []byte, signer Signer, err error) {
	b, leaf, err := openCertified(line)
	if err != nil {
		return nil, Signer{}, err
	}
	if signer, err = readSigner(leaf); err != nil {
		return nil, Signer{}, err
	}
	return bytes.Clone(b.GetDsseEnvelope().GetPayload()), signer, nil
}

// openCertified reads a line whose verification material is one certificate for signing code.
func openCertified(line []byte) (*sigbundle.Bundle, *x509.Certificate, error) {
	b, err := open(line)
	if err != nil {
		return nil, nil, err
	}
	raw := b.GetVerificationMaterial().GetCertificate().GetRawBytes()
	if len(raw) == 0 {
		return nil, nil, malformed("a certificate as verification material", "another material", errForeign)
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, nil, malformed("an X.509 certificate", "bytes that do not decode", err)
	}
	if err := checkLeaf(leaf); err != nil {
		return nil, nil, err
	}
	return b, leaf, nil
}

// verify checks a bundle whose certificate this instance issued and gives the earliest authenticated time.
func (i *instance) verify(b *sigbundle.Bundle, leaf *x509.Certificate) (time.Time, error) {
	if err := errors.Join(i.complete(b, leaf), i.checkEntries(b)); err != nil {
		return time.Time{}, err
	}
	// The artifact and the identity are compared by the caller, who is given both.
	res, err := i.verifier.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), verify.WithoutIdentitiesUnsafe()))
	if err != nil {
		return time.Time{}, i.why(b, leaf, err)
	}
	if len(res.VerifiedTimestamps) == 0 {
		return time.Time{}, i.missing("an authenticated time")
	}
	earliest := slices.MinFunc(res.VerifiedTimestamps, func(a, b verify.TimestampVerificationResult) int { return a.Timestamp.Compare(b.Timestamp) })
	on := earliest.Timestamp.UTC()
	if err := i.logsValid(b, on); err != nil {
		return time.Time{}, err
	}
	return on, nil
}

// complete demands that everything is there which a bundle of this instance carries.
func (i *instance) complete(b *sigbundle.Bundle, leaf *x509.Certificate) error {
	m := b.GetVerificationMaterial()
	stamps := len(m.GetTimestampVerificationData().GetRfc3161Timestamps())
	promised := false
	for _, e := range m.GetTlogEntries() {
		promised = promised || len(e.GetInclusionPromise().GetSignedEntryTimestamp()) > 0
	}
	var errs []error
	if i.demands.log && len(m.GetTlogEntries()) == 0 {
		errs = append(errs, i.missing("an entry of the instance's transparency log"))
	}
	if i.demands.sct && !hasSCTs(leaf) {
		errs = append(errs, i.missing("the certificate's own entry in a certificate transparency log"))
	}
	if stamps == 0 && (i.demands.tsa || !promised) {
		errs = append(errs, i.missing("a signed timestamp"))
	}
	return errors.Join(errs...)
}

func hasSCTs(leaf *x509.Certificate) bool {
	for _, e := range leaf.Extensions {
		if e.Id.String() == oidSCTs {
			return true
		}
	}
	return false
}

// checkEntries demands of every entry of a log of this instance that it is of one generation of the log as a whole. A
// library that tells the generation once by the body and once by the checkpoint compares less where the two disagree.
func (i *instance) checkEntries(b *sigbundle.Bundle) error {
	for _, raw := range b.GetVerificationMaterial().GetTlogEntries() {
		log, known := i.root.RekorLogs()[fmt.Sprintf("%x", raw.GetLogId().GetKeyId())]
		if !known {
			continue
		}
		e, err := tlog.ParseTransparencyLogEntry(raw)
		if err != nil {
			return malformed("a log entry that decodes", "one that does not", err)
		}
		promised := len(raw.GetInclusionPromise().GetSignedEntryTimestamp()) > 0
		if e.IsRekorV2() {
			u, err := url.Parse(log.BaseURL)
			origin, _, _ := strings.Cut(raw.GetInclusionProof().GetCheckpoint().GetEnvelope(), "\n")
			if err != nil || promised || raw.GetIntegratedTime() != 0 || origin != u.Hostname() {
				return malformed("a log entry of Rekor v2 with the checkpoint of its log", "a mixture of generations", err)
			}
		} else if !promised || raw.GetIntegratedTime() <= 0 || raw.GetInclusionProof() == nil {
			return malformed("a log entry of Rekor v1 with promise, time and proof", "one without", nil)
		}
	}
	return nil
}

// logsValid demands that each log that vouches was in service when the signature was made.
func (i *instance) logsValid(b *sigbundle.Bundle, on time.Time) error {
	for _, e := range b.GetVerificationMaterial().GetTlogEntries() {
		log, known := i.root.RekorLogs()[fmt.Sprintf("%x", e.GetLogId().GetKeyId())]
		if known && (on.Before(log.ValidityPeriodStart) || !log.ValidityPeriodEnd.IsZero() && on.After(log.ValidityPeriodEnd)) {
			return expired("a log that was in service when the signature was made", "signed on "+on.Format(time.RFC3339))
		}
	}
	return nil
}

// why says which check of sigstore-go refused. The decision is made: this only names it, in our words.
func (i *instance) why(b *sigbundle.Bundle, leaf *x509.Certificate, cause error) error {
	content, contentErr := b.SignatureContent()
	material, materialErr := b.VerificationContent()
	if contentErr != nil || materialErr != nil {
		return malformed("a bundle with signature and certificate", "one that does not decode", cause)
	}
	if err := verify.VerifySignature(content, material, i.root); err != nil {
		return &refusal.Refusal{
			Link: link, Code: refusal.Signature, Want: "a signature by the key of the certificate", Got: "a signature that this key did not make",
			Next: "the statement was altered; " + nextForeign, Cause: cause,
		}
	}
	times, refused := i.times(b, leaf, cause)
	if refused != nil {
		return refused
	}
	var chains [][]*x509.Certificate
	for _, on := range times {
		var err error
		if chains, err = verify.VerifyLeafCertificate(on, leaf, i.root); err != nil {
			return i.broken("a certificate whose chain was valid when it signed", "signed on "+on.UTC().Format(time.RFC3339), cause)
		}
	}
	if i.demands.sct && verify.VerifySignedCertificateTimestamp(chains, 1, i.root) != nil {
		return i.broken("the certificate's entry in a certificate transparency log of the instance", "one that no such log signed", cause)
	}
	return malformed("an in-toto statement", "a payload that is none", cause)
}

// times gives the authenticated times, or the refusal of the check that yields them.
func (i *instance) times(b *sigbundle.Bundle, leaf *x509.Certificate, cause error) ([]time.Time, error) {
	var times []time.Time
	stamps, _, err := verify.VerifySignedTimestamp(b, i.root)
	if err != nil {
		return nil, i.broken("signed timestamps", "a list that is not acceptable", cause)
	}
	for _, s := range stamps {
		times = append(times, s.Time)
	}
	var logged []root.Timestamp
	if i.demands.log {
		if logged, err = verify.VerifyTlogEntry(b, i.root, 1, !i.demands.tsa); err != nil {
			for _, e := range b.GetVerificationMaterial().GetTlogEntries() {
				if on := time.Unix(e.GetIntegratedTime(), 0); e.GetIntegratedTime() != 0 && outside(on, leaf) {
					return nil, expired("a certificate that was valid when the log took the signature", "logged on "+on.UTC().Format(time.RFC3339))
				}
			}
			return nil, i.broken("an entry of the instance's log for this very signature", "one that does not prove that", cause)
		}
	}
	for _, s := range logged {
		times = append(times, s.Time)
	}
	if len(times) == 0 {
		return nil, i.broken("a timestamp of the instance's authority over this signature", "none that verifies", cause)
	}
	for _, on := range times {
		if outside(on, leaf) {
			return nil, expired("a certificate that was valid when it signed", "signed on "+on.UTC().Format(time.RFC3339))
		}
	}
	return times, nil
}

func outside(on time.Time, leaf *x509.Certificate) bool {
	return on.Before(leaf.NotBefore) || on.After(leaf.NotAfter)
}

func (i *instance) missing(want string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Missing, Want: want + ", as every bundle of this instance has", Got: "none",
		Next: nextForeign + "; without it nobody could have seen the signature being made",
	}
}

func (i *instance) broken(want, got string, cause error) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Chain, Want: want, Got: got, Next: nextForeign, Cause: cause}
}

func expired(want, got string) *refusal.Refusal {
	return &refusal.Refusal{Link: link, Code: refusal.Expired, Want: want, Got: got, Next: nextForeign}
}

// Certified gives the lines of a JSON Lines text that are certificate-signed bundles over an in-toto payload, in its
// order and without judging them. Other lines, and certificates of other kinds, are skipped, as the in-toto bundle format
// asks; a broken line is refused, and so is a text without any. The lines share the text's memory; they are for [Trust.Verify].
func Certified(text []byte) ([][]byte, error) {
	if len(text) > MaxFile {
		return nil, malformed(fmt.Sprintf("a bundle file of at most %d bytes", MaxFile), fmt.Sprintf("%d bytes", len(text)), nil)
	}
	var out [][]byte
	n := 0
	for line := range bytes.Lines(text) {
		if n++; n > MaxLines {
			return nil, malformed(fmt.Sprintf("a bundle file of at most %d lines", MaxLines), "more", nil)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || !Is(line) && line[0] == '{' && json.Valid(line) {
			continue
		}
		_, _, err := openCertified(line)
		if errors.Is(err, errForeign) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		out = append(out, line)
	}
	if len(out) == 0 {
		return nil, &refusal.Refusal{
			Link: link, Code: refusal.Missing, Want: "at least one bundle with a certificate", Got: "none",
			Next: "name the file with the attestations of the release",
		}
	}
	return out, nil
}
