// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	_ "embed" // the root is data
	"encoding/pem"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// awsRoot is the certificate "aws.nitro-enclaves" as AWS publishes it in
// https://aws-nitro-enclaves.amazonaws.com/AWS_NitroEnclaves_Root-G1.zip, in DER. A test holds its fingerprint, which AWS
// prints in its user guides.
//
//go:embed aws_nitro_enclaves_root_g1.der
var awsRoot []byte

const maxRootPEM = 16 << 10

// Root is one root that documents may lead to. The zero value is no root and matches nothing.
type Root struct {
	cert *x509.Certificate
	aws  bool
}

// AWS reports whether the root is AWS's, pinned in this program.
func (r Root) AWS() bool { return r.aws }

// Fingerprint is the SHA-256 of the root certificate in DER, zero for the zero Root.
func (r Root) Fingerprint() [32]byte {
	if r.cert == nil {
		return [32]byte{}
	}
	return sha256.Sum256(r.cert.Raw)
}

// AWSRoots gives the pinned root of AWS's commercial regions, which signs for enclaves and for NitroTPM.
func AWSRoots() ([]Root, error) {
	cert, err := x509.ParseCertificate(awsRoot)
	if err != nil {
		return nil, fmt.Errorf("reading AWS's root: %w", err)
	}
	return []Root{{cert: cert, aws: true}}, nil
}

// ParseRoots reads a private root file: one self-signed certificate in PEM, with a P-384 key and the constraints of a CA,
// and nothing else. It gives exactly one root, for which [Root.AWS] is false. Everything wrong is a [refusal.Refusal] of
// link "root"; so is a file that holds AWS's key, since a pinned root must not be relabelled as a private one.
func ParseRoots(pemBytes []byte) ([]Root, error) {
	cert, fault := parseRootPEM(pemBytes)
	if fault != nil {
		return nil, fault
	}
	for _, fault := range [...]*refusal.Refusal{checkKey(cert), checkCA(cert, 0), checkIssued(cert, cert)} {
		if fault != nil {
			return nil, badRoot(refusal.Chain, fault.Want, fault.Got).Because(fault.Cause)
		}
	}
	pinned, err := AWSRoots()
	if err != nil {
		return nil, err
	}
	if bytes.Equal(cert.RawSubjectPublicKeyInfo, pinned[0].cert.RawSubjectPublicKeyInfo) {
		return nil, badRoot(refusal.Policy, "a private root", "the key of AWS's root")
	}
	return []Root{{cert: cert}}, nil
}

// parseRootPEM reads one certificate. encoding/pem skips what it does not understand; here every byte has to belong to
// the certificate or be white space around it.
func parseRootPEM(text []byte) (*x509.Certificate, *refusal.Refusal) {
	if len(text) > maxRootPEM {
		return nil, badRoot(refusal.Malformed, fmt.Sprintf("a PEM file of at most %d bytes", maxRootPEM), fmt.Sprintf("%d", len(text)))
	}
	text = bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 ||
		!bytes.Equal(text, bytes.TrimSpace(pem.EncodeToMemory(block))) {
		return nil, badRoot(refusal.Malformed, "PEM with one certificate", "something else")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, badRoot(refusal.Malformed, "an X.509 certificate", "something else").Because(err)
	}
	return cert, nil
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
	return Root{}, brokenChain("a certificate bundle that begins with a root given", "another root")
}
