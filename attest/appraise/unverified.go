// SPDX-License-Identifier: Apache-2.0

package appraise

import (
	"bytes"
	"encoding/binary"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/snp"
)

// Places of what was quoted in evidence that nobody verified yet.
const (
	snpReportData   = 0x50                // AMD 56860, table "ATTESTATION_REPORT Structure"
	tdxReportDataV4 = 48 + 0x208          // TD quote body behind the header
	tdxReportDataV5 = tdxReportDataV4 + 6 // and behind type and size of the body
	tpmExtraData    = 6                   // TPMS_ATTEST: behind magic and type, a sized name stands before it
)

// UnverifiedPayloadDigest gives the first half of the report data as it stands in the evidence, for finding the
// statement that a quote belongs to; false where a TPM speaks, whose extra data holds only a digest of it. Nothing may
// be concluded from it: [Quote.Binds] demands it of a verified quote.
func UnverifiedPayloadDigest(e *evidence.Evidence) (binding.Digest, bool) {
	at := -1
	switch {
	case e.Kind == evidence.SNP && len(e.Report) == snp.ReportSize:
		at = snpReportData
	case e.Kind == evidence.TDX && len(e.Report) > tdxReportDataV5 && e.Report[0] == 5:
		at = tdxReportDataV5
	case e.Kind == evidence.TDX:
		at = tdxReportDataV4
	}
	size := len(binding.Digest{})
	if at < 0 || len(e.Report) < at+size {
		return binding.Digest{}, false
	}
	return binding.Digest(e.Report[at:][:size]), true
}

// UnverifiedQuotes reports whether the evidence says that it quotes the payload with this digest. Nothing may be
// concluded from it either.
func UnverifiedQuotes(c *evidence.Collection, payload binding.Digest) bool {
	if d, ok := UnverifiedPayloadDigest(&c.Evidence); ok {
		return d == payload
	}
	rest := c.TPMQuote
	if len(rest) < tpmExtraData {
		return false
	}
	_, rest, ok := sized(rest[tpmExtraData:])
	extra, _, ok2 := sized(rest)
	if !ok || !ok2 {
		return false
	}
	bound := binding.Sum(c.Binding)
	want := binding.Sum(append(payload[:], bound[:]...))
	return bytes.Equal(extra, want[:])
}

// sized takes a value behind its two-byte length.
func sized(b []byte) (value, rest []byte, ok bool) {
	const prefix = 2
	if len(b) < prefix {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < prefix+n {
		return nil, nil, false
	}
	return b[prefix : prefix+n], b[prefix+n:], true
}
