// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-sev-guest/abi"
	"github.com/google/go-sev-guest/kds"
	"github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/refusal"
)

// Verify checks a report of exactly [ReportSize] bytes with its endorsement key certificate in DER, against the given
// roots, at the given time. It says that the secure processor of an AMD chip (or of a private root's simulator) made
// the report; whether that platform is good enough is for [Report.Meets].
//
// Every error is a [refusal.Refusal], or several joined when independent checks fail. Codes: malformed,
// endorsements-missing, chain, expired, endorsements-mismatch, tcb, signature; missing when the caller gave no time.
func Verify(report, leafDER []byte, roots []Root, at time.Time) (*Report, error) {
	if at.IsZero() {
		return nil, &refusal.Refusal{
			Link: linkEndorsements, Code: refusal.Missing, Want: "a time to judge the certificates at", Got: "none",
			Next: "give the proved time of the evidence",
		}
	}
	f, err := parse(report)
	if err != nil {
		return nil, err
	}
	leaf, err := parseEndorsement(leafDER)
	if err != nil {
		return nil, err
	}
	line, err := productLine(f, leaf)
	if err != nil {
		return nil, err
	}
	if err := leaf.checkShape(f.key); err != nil {
		return nil, err
	}
	root, err := findRoot(roots, line, f.key, leaf)
	if err != nil {
		return nil, err
	}
	r := &Report{fields: *f, root: root, csp: leaf.csp, notAfter: leaf.cert.NotAfter}
	expired := validAt(at, leaf.cert, root.ask, root.ark)
	signed := signatureOnly
	if expired == nil && libraryKnows(f, line) {
		signed = func(report []byte, leaf *endorsement) error { return signatureTwice(report, leaf, root, at) }
	}
	err = errors.Join(expired, leaf.checkSpeaksFor(f, line), r.decodeTCBs(), signed(report, leaf))
	if err != nil {
		return nil, err
	}
	r.verified = true
	return r, nil
}

// productLine names the line by the processor that the report names, or below version 3 by the certificate.
func productLine(f *fields, leaf *endorsement) (Line, error) {
	line, got := f.cpu.line(), f.cpu.String()
	if f.version < cpuidVersion {
		line, got = leaf.productLine(), quote(leaf.product)
	}
	if line == "" {
		return "", brokenChain("a processor of the Milan, Genoa or Turin line", got)
	}
	return line, nil
}

// findRoot picks the root that signed the leaf among those for its line and key kind. Roots come from the caller
// alone.
func findRoot(roots []Root, line Line, key keyKind, leaf *endorsement) (Root, error) {
	var last error
	for _, r := range roots {
		if r.line != line || r.key != key { // the zero Root has no line
			continue
		}
		if last = leaf.checkSigned(r); last == nil {
			return r, nil
		}
	}
	if last == nil {
		last = brokenChain(fmt.Sprintf("a root for %s of the %s line", key, line), "none among the roots given")
	}
	return Root{}, last
}

// signatureTwice demands the leaf's signature over the report's bytes and go-sev-guest's consent: it verifies chain and
// signature on its own reading of the same bytes, with the one root that was found.
func signatureTwice(report []byte, leaf *endorsement, root Root, at time.Time) error {
	proto, err := abi.ReportToProto(report)
	if err != nil {
		return malformed("a report that go-sev-guest reads", "one it refuses").Because(err)
	}
	again, err := abi.ReportToAbiBytes(proto)
	if err != nil || !bytes.Equal(again, report) {
		return malformed("a report that reads the same twice", "one that go-sev-guest reads differently").Because(err)
	}
	chain, certs := &sevsnp.CertificateChain{}, &trust.ProductCerts{Ark: root.ark}
	if root.key == vlek {
		chain.VlekCert, certs.Asvk = leaf.cert.Raw, root.ask
	} else {
		chain.VcekCert, certs.Ask = leaf.cert.Raw, root.ask
	}
	pinned := trust.AMDRootCertsProduct(string(root.line))
	pinned.ProductCerts = certs
	err = verify.SnpAttestation(&sevsnp.Attestation{Report: proto, CertificateChain: chain}, &verify.Options{
		DisableCertFetching: true,
		Getter:              closedGetter{},
		Now:                 at,
		TrustedRoots:        map[string][]*trust.AMDRootCerts{string(root.line): {pinned}},
	})
	if err == nil {
		return nil
	}
	if unsigned := signatureOnly(report, leaf); unsigned != nil {
		return unsigned // the plainer reason
	}
	return brokenChain("a chain that go-sev-guest accepts too", "one that it refuses").Because(err)
}

// libraryKnows reports whether go-sev-guest v0.15.0 reads this product. It lacks Turin's certificates (FMC level,
// 8-byte chip identifier) and the processor models of Siena, Bergamo and Milan or Genoa beyond the first.
func libraryKnows(f *fields, line Line) bool {
	if line == Turin {
		return false
	}
	if f.version < cpuidVersion {
		return true
	}
	return kds.ProductLineFromFms(abi.FmsToCpuid1Eax(f.cpu.Family, f.cpu.Model, f.cpu.Stepping)) == string(line)
}

func signatureOnly(report []byte, leaf *endorsement) error {
	if err := verify.SnpReportSignature(report, leaf.cert); err != nil {
		return (&refusal.Refusal{
			Link: linkReport, Code: refusal.Signature, Want: "the endorsement key's signature over the report",
			Got: "another signature, or changed bytes", Next: nextFreshReport,
		}).Because(err)
	}
	return nil
}

// closedGetter answers nothing: verification has no network.
type closedGetter struct{}

// Get always fails.
func (closedGetter) Get(string) ([]byte, error) {
	return nil, errors.New("no network in verification")
}
