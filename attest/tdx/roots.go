// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	_ "embed" // the root is data
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// intelRoot is the certificate "Intel SGX Root CA" as Intel publishes it at
// https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer. A test holds its
// fingerprint.
//
//go:embed intel_sgx_root_ca.der
var intelRoot []byte

// Root is one root that PCK certificates and collateral may lead to. The zero value is no root and matches nothing.
type Root struct {
	cert  *x509.Certificate
	intel bool
}

// Intel reports whether the root is Intel's, pinned in this program.
func (r Root) Intel() bool { return r.intel }

// Fingerprint is the SHA-256 of the root certificate in DER, zero for the zero Root.
func (r Root) Fingerprint() [32]byte {
	if r.cert == nil {
		return [32]byte{}
	}
	return sha256.Sum256(r.cert.Raw)
}

// IntelRoots gives the pinned root of Intel.
func IntelRoots() ([]Root, error) {
	cert, err := x509.ParseCertificate(intelRoot)
	if err != nil {
		return nil, fmt.Errorf("reading Intel's root: %w", err)
	}
	return []Root{{cert: cert, intel: true}}, nil
}

// ParseRoots reads a private root file: one self-signed certificate in PEM and nothing else. It gives exactly one root,
// for which [Root.Intel] is false. Everything wrong is a [refusal.Refusal] of link "root"; so is a file that holds
// Intel's key, since a pinned root must not be relabelled as a private one.
func ParseRoots(pemBytes []byte) ([]Root, error) {
	ders, err := strictPEM(bytes.TrimSpace(pemBytes), 1)
	if err != nil {
		return nil, badRoot(refusal.Malformed, "PEM with one certificate", err.Error())
	}
	cert, err := x509.ParseCertificate(ders[0])
	if err != nil {
		return nil, badRoot(refusal.Malformed, "an X.509 certificate", "something else").Because(err)
	}
	if fault := checkCertificate(cert, cert, shape{ca: true}); fault != nil {
		return nil, badRoot(refusal.Chain, fault.Want, fault.Got).Because(fault.Cause)
	}
	pinned, err := IntelRoots()
	if err != nil {
		return nil, err
	}
	if bytes.Equal(cert.RawSubjectPublicKeyInfo, pinned[0].cert.RawSubjectPublicKeyInfo) {
		return nil, badRoot(refusal.Policy, "a private root", "the key of Intel's root")
	}
	return []Root{{cert: cert}}, nil
}

func badRoot(code refusal.Code, want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkRoot, Code: code, Want: want, Got: got, Next: "give a PEM file with the root certificate alone",
	}
}

// findRoot picks the root that der is, among those of the caller.
func findRoot(roots []Root, der []byte) (Root, error) {
	for _, r := range roots {
		if r.cert != nil && bytes.Equal(r.cert.Raw, der) {
			return r, nil
		}
	}
	return Root{}, brokenChain("a certificate chain that ends in a root given", "another root")
}
