// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"time"
)

// Intel's TD quoting enclave, by the fields of its report (PCS, "Enclave Identity" of TD_QE). The platform's PCK signs
// the report of any enclave with access to provisioning keys; only this one makes TD quotes.
const (
	quotingEnclaveSigner  = "\xdc\x9e\x2a\x7c\x6f\x94\x8f\x17\x47\x4e\x34\xa7\xfc\x43\xed\x03\x0f\x7c\x15\x63\xf1\xba\xbd\xdf\x63\x40\xc8\x2e\x0e\x54\xa8\xc5"
	quotingEnclaveProduct = 2
	enclaveInit           = 1 << 0
	enclaveDebug          = 1 << 1
)

// Verify checks a quote against the given roots at the given time. It says that Intel's TD quoting enclave on a platform
// of Intel's (or of a private root's simulator) made the quote; whether that platform is good enough is for
// [Quote.Meets].
//
// Every error is a [refusal.Refusal], or several joined when independent checks fail. Codes: malformed, chain,
// signature, expired; missing when the caller gave no time.
func Verify(quote []byte, roots []Root, at time.Time) (*Quote, error) {
	if at.IsZero() {
		return nil, noTime()
	}
	f, err := parse(quote)
	if err != nil {
		return nil, err
	}
	ders, err := strictPEM(f.chain, chainCertificates)
	if err != nil {
		return nil, malformed("a PEM chain of three certificates", err.Error()).Because(err)
	}
	root, err := findRoot(roots, ders[2])
	if err != nil {
		return nil, err
	}
	ca, err := issued(ders[1], root.cert, shape{names: []string{namePlatformCA, nameProcessorCA}, ca: true, leafs: true})
	if err != nil {
		return nil, err
	}
	leaf, err := issued(ders[0], ca, shape{names: []string{namePCK}})
	if err != nil {
		return nil, err
	}
	pck, err := readPCK(leaf)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.checkSignatures(leaf), validAt(at, leaf, ca, root.cert)); err != nil {
		return nil, err
	}
	q := &Quote{body: f.body, version: f.version, bodyType: f.bodyType, userData: f.userData, root: root, ca: ca, leaf: leaf, pck: *pck}
	copy(q.qeReport[:], f.qeReport)
	q.verified = true
	return q, nil
}

// issued reads a certificate and demands its shape and issuer.
func issued(der []byte, issuer *x509.Certificate, want shape) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, brokenChain("an X.509 certificate", "something else").Because(err)
	}
	if fault := checkCertificate(c, issuer, want); fault != nil {
		return nil, fault
	}
	return c, nil
}

// checkSignatures follows the quote back to the PCK: attestation key over the quote, QE report over the attestation key,
// PCK over the QE report (QVL, 4.1.2.4.12, .13 and .16).
func (f *fields) checkSignatures(pck *x509.Certificate) error {
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, f.key...))
	if err != nil {
		return unsigned("an attestation key on P-256", "no point of the curve").Because(err)
	}
	if !signedBy(key, f.signed, f.signature) {
		return unsigned("the attestation key's signature over the quote", "another signature, or changed bytes")
	}
	digest := sha256.New()
	digest.Write(f.key)
	digest.Write(f.qeAuth)
	if string(digest.Sum(nil)) != string(f.qeReport[320:352]) {
		return unsigned("a QE report that binds the attestation key", "one that binds something else")
	}
	pckKey, ok := pck.PublicKey.(*ecdsa.PublicKey)
	if !ok || !signedBy(pckKey, f.qeReport, f.qeSig) {
		return unsigned("the PCK's signature over the QE report", "another signature, or changed bytes")
	}
	if flags := f.qeReport[48]; string(f.qeReport[128:160]) != quotingEnclaveSigner || flags&enclaveInit == 0 || flags&enclaveDebug != 0 ||
		binary.LittleEndian.Uint16(f.qeReport[256:]) != quotingEnclaveProduct {
		return brokenChain("a quote by Intel's TD quoting enclave in production mode", "a quote by another enclave")
	}
	return nil
}

// signedBy verifies an ECDSA signature given as r and s, big-endian, over SHA-256 of the message.
func signedBy(key *ecdsa.PublicKey, message, signature []byte) bool {
	if len(signature) != pairSize {
		return false
	}
	digest := sha256.Sum256(message)
	r, s := new(big.Int).SetBytes(signature[:pairSize/2]), new(big.Int).SetBytes(signature[pairSize/2:])
	return ecdsa.Verify(key, digest[:], r, s)
}
