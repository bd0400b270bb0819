// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"errors"
	"fmt"
	"time"

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
	key, err := leaf.checkShape(f.key)
	if err != nil {
		return nil, err
	}
	root, err := findRoot(roots, line, f.key, leaf)
	if err != nil {
		return nil, err
	}
	r := &Report{fields: *f, root: root, csp: leaf.csp, leaf: leaf.cert}
	copy(r.hwid[:], leaf.hwid)
	err = errors.Join(
		validAt(at, leaf.cert, root.ask, root.ark),
		leaf.checkSpeaksFor(f, line),
		r.decodeTCBs(),
		checkSignature(report, key),
	)
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
