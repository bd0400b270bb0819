// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Layout says how a file wrote its evidence down.
type Layout string

// The layouts that [Import] reads.
const (
	LayoutReport    Layout = "snp-report" // 1184 bytes, the certificate table may follow
	LayoutQuote     Layout = "tdx-quote"
	LayoutNitro     Layout = "nitro-document"
	LayoutTSM       Layout = "configfs-tsm" // provider, outblob and auxblob as one JSON object
	LayoutAzureJSON Layout = "az-json"      // the document of Kettle and trustee
	LayoutCMW       Layout = "cmw"          // a collection or record of other makers
	LayoutKettle    Layout = "cmw+json"     // a collection of this package
)

// Imported is one piece of evidence and where it stood.
type Imported struct {
	Evidence
	Layout     Layout
	Digest     string      // of the line, "sha256:…", for LayoutKettle
	Collection *Collection // for LayoutKettle
}

// Import reads the evidence in a file of at most [MaxInput] bytes; the layout is seen from the content. Only a file of
// lines, a bundle file, holds more than one piece; lines of other kinds are skipped and equal lines count once.
func Import(b []byte) ([]Imported, error) {
	switch {
	case len(b) > MaxInput:
		return nil, malformed(fmt.Sprintf("a file of at most %d bytes", MaxInput), "a larger one")
	case looksLikeReport(b):
		return one(LayoutReport, fromReport(b), nil)
	case looksLikeQuote(b):
		return one(LayoutQuote, Evidence{Kind: TDX, Report: b}, nil)
	case looksLikeNitro(b):
		return one(LayoutNitro, Evidence{Kind: Nitro, Report: b}, nil)
	}
	text := bytes.TrimSpace(b)
	if len(text) == 0 || (text[0] != '{' && text[0] != '[') {
		return nil, unknown(b)
	}
	if lines, err := importLines(b); err != nil || len(lines) > 0 {
		return lines, err
	}
	return importJSON(text)
}

func one(l Layout, e Evidence, err error) ([]Imported, error) {
	if err == nil {
		err = e.Check()
	}
	if err != nil {
		return nil, err
	}
	return []Imported{{Evidence: e, Layout: l}}, nil
}

func unknown(b []byte) error {
	return malformed("an SEV-SNP report, a TDX quote, a Nitro document, a CMW collection, an az-snp document or a bundle file",
		fmt.Sprintf("%d bytes of something else", len(b)))
}

// Sizes and marks that tell the binary layouts apart; the verifying packages judge them.
const (
	reportSize      = 1184
	maxReportFormat = 255  // the version is a small number in four bytes, little-endian
	quoteHeader     = 48   // bytes
	teeTDX          = 0x81 // at offset 4 of a quote, 4 bytes, little-endian
)

// looksLikeReport takes a quote's header for none: there the third and fourth byte name the type of key.
func looksLikeReport(b []byte) bool {
	if len(b) < reportSize || looksLikeQuote(b) {
		return false
	}
	version := binary.LittleEndian.Uint32(b)
	return version > 0 && version <= maxReportFormat
}

func looksLikeQuote(b []byte) bool {
	if len(b) < quoteHeader {
		return false
	}
	version := binary.LittleEndian.Uint16(b)
	return version > 0 && version <= maxReportFormat && binary.LittleEndian.Uint32(b[4:]) == teeTDX
}

// looksLikeNitro sees the beginning of a COSE_Sign1 structure with algorithm ES384 (RFC 9052), with or without its tag.
func looksLikeNitro(b []byte) bool {
	return bytes.HasPrefix(bytes.TrimPrefix(b, []byte{0xd2}), []byte{0x84, 0x44, 0xa1, 0x01, 0x38, 0x22})
}

// fromReport splits an extended report: what follows the report is the table that the host gave with it.
func fromReport(b []byte) Evidence {
	e := Evidence{Kind: SNP, Report: b[:reportSize:reportSize]}
	if len(b) > reportSize {
		e.CertTable = b[reportSize:]
	}
	return e
}

// importLines reads the lines of a bundle file that are collections of this package.
func importLines(b []byte) ([]Imported, error) {
	var out []Imported
	seen := map[string]bool{}
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); !Is(line) {
			continue
		}
		c, err := Parse(line)
		if err != nil {
			return nil, err
		}
		name := "sha256:" + Digest(line).String()
		if !seen[name] {
			out = append(out, Imported{Evidence: c.Evidence, Layout: LayoutKettle, Digest: name, Collection: c})
		}
		seen[name] = true
	}
	return out, nil
}

// maxDocument bounds a JSON document of another maker in bytes. The parts of one machine fill less than a tenth of it;
// decoding takes many times the memory of what is decoded.
const maxDocument = 4 << 20

// importJSON reads one JSON document of another maker.
func importJSON(text []byte) ([]Imported, error) {
	if len(text) > maxDocument {
		return nil, malformed(fmt.Sprintf("a JSON document of at most %d bytes", maxDocument), fmt.Sprintf("%d bytes", len(text)))
	}
	if text[0] == '[' {
		e, err := fromRecord(text)
		return one(LayoutCMW, e, err)
	}
	raw, err := object(text)
	if err != nil {
		return nil, err
	}
	has := func(key string) bool { _, ok := raw[key]; return ok }
	switch {
	case has("__cmwc_t"):
		e, err := fromCollection(raw)
		return one(LayoutCMW, e, err)
	case has("tpm_quote"), has("platform") && has("evidence"):
		e, err := fromAzure(text, raw)
		return one(LayoutAzureJSON, e, err)
	case has("outblob"):
		e, err := fromTSM(text)
		return one(LayoutTSM, e, err)
	}
	return nil, unknown(text)
}
