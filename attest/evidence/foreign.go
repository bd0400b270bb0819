// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kettle/attest/internal/strict"
)

// azureDocument is the evidence of a confidential VM on Azure as Kettle and confidential-containers/trustee write it
// (trustee: deps/verifier, az-snp-vtpm and az-tdx-vtpm).
//
// Version 2 has the parts of version 1; its makers also have the quoted bytes put into the paravisor's user data, which
// adds nothing to what the chain from the hardware to the quote proves.
type azureDocument struct {
	Version  int `json:"version"`
	TPMQuote struct {
		Signature string   `json:"signature"` // hex, the bare signature
		Message   string   `json:"message"`   // hex, TPMS_ATTEST
		PCRs      []string `json:"pcrs"`      // hex, SHA-256 bank
	} `json:"tpm_quote"`
	HCLReport string `json:"hcl_report"`         // base64url
	VCEK      string `json:"vcek,omitempty"`     // base64url, DER
	TDQuote   string `json:"td_quote,omitempty"` // base64url
}

// wrapped is Kettle's outer document: the platform, then the evidence.
type wrapped struct {
	Platform string          `json:"platform"`
	Evidence json.RawMessage `json:"evidence"`
}

// fromAzure reads the document, with or without Kettle's wrapping.
func fromAzure(text []byte, raw map[string]json.RawMessage) (Evidence, error) {
	const layout = "the az-snp or az-tdx document of Kettle or trustee"
	platform := ""
	if _, ok := raw["evidence"]; ok {
		var w wrapped
		if err := decode(text, &w, "platform", "evidence"); err != nil {
			return Evidence{}, malformed(layout, "another shape").Because(err)
		}
		platform, text = w.Platform, w.Evidence
		if platform != string(AzureSNP) && platform != string(AzureTDX) {
			return Evidence{}, malformed("platform az-snp or az-tdx", fmt.Sprintf("%.20q", platform))
		}
	}
	var d azureDocument
	if err := decode(text, &d, "version", "tpm_quote", "signature", "message", "pcrs", "hcl_report", "vcek", "td_quote"); err != nil {
		return Evidence{}, malformed(layout, "another shape").Because(err)
	}
	if d.Version != 1 && d.Version != 2 {
		return Evidence{}, malformed(layout+", version 1 or 2", fmt.Sprintf("version %d", d.Version))
	}
	e := Evidence{Kind: AzureSNP}
	if d.TDQuote != "" {
		e.Kind = AzureTDX
	}
	if platform != "" && platform != string(e.Kind) {
		return Evidence{}, malformed("the parts of platform "+platform, "those of "+string(e.Kind))
	}
	return e, d.read(&e)
}

// decode is [strict.Decode] that takes keys by their exact bytes: encoding/json would take "PCRS" for "pcrs", which other
// readers of the same document do not see. names are the keys of v and of the objects in it; the values of a
// [json.RawMessage] are looked at by whoever decodes them.
func decode(text []byte, v any, names ...string) error {
	if err := strict.Decode(text, v); err != nil {
		return fmt.Errorf("reading document: %w", err)
	}
	return exact(text, names)
}

func exact(text []byte, names []string) error {
	if !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) {
		return nil // no object: it has no keys of its own, and no object of the known documents stands in a list
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return fmt.Errorf("reading document: %w", err)
	}
	for key, value := range members {
		if !slices.Contains(names, key) {
			return fmt.Errorf("reading document: unknown key %.40q", key)
		}
		if key == "evidence" {
			continue // another document
		}
		if err := exact(value, names); err != nil {
			return err
		}
	}
	return nil
}

// read decodes the parts.
func (d *azureDocument) read(e *Evidence) error {
	for _, part := range [...]struct {
		name, text string
		decode     func(string) ([]byte, error)
		to         *[]byte
	}{
		{"tpm_quote.signature", d.TPMQuote.Signature, hex.DecodeString, &e.TPMSignature},
		{"tpm_quote.message", d.TPMQuote.Message, hex.DecodeString, &e.TPMQuote},
		{"hcl_report", d.HCLReport, looseBase64, &e.HCLReport},
		{"vcek", d.VCEK, looseBase64, &e.Leaf},
		{"td_quote", d.TDQuote, looseBase64, &e.Report},
	} {
		b, err := part.decode(part.text)
		if err != nil {
			return malformed(part.name+" in its encoding", "other text").Because(err)
		}
		*part.to = b
	}
	for i, text := range d.TPMQuote.PCRs {
		v, err := hex.DecodeString(text)
		if err != nil {
			return malformed(fmt.Sprintf("tpm_quote.pcrs[%d] in hexadecimal", i), "other text").Because(err)
		}
		e.PCRs = append(e.PCRs, v)
	}
	return nil
}

// looseBase64 reads either alphabet of base64, with or without padding: makers differ. Line breaks are refused.
func looseBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, fmt.Errorf("decoding base64: a line break")
	}
	s = strings.TrimRight(s, "=")
	encoding := base64.RawURLEncoding
	if strings.ContainsAny(s, "+/") {
		encoding = base64.RawStdEncoding
	}
	b, err := encoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding base64: %w", err)
	}
	return b, nil
}

// tsmReport is one answer of configfs-tsm as ratsd writes it (media type application/vnd.veraison.configfs-tsm+json).
type tsmReport struct {
	Provider string  `json:"provider"`
	OutBlob  string  `json:"outblob"`
	AuxBlob  string  `json:"auxblob,omitempty"`
	Manifest *string `json:"manifestblob,omitempty"`
}

func fromTSM(text []byte) (Evidence, error) {
	var t tsmReport
	if err := decode(text, &t, "provider", "outblob", "auxblob", "manifestblob"); err != nil {
		return Evidence{}, malformed("a configfs-tsm report: provider, outblob, auxblob", "another shape").Because(err)
	}
	if t.Manifest != nil {
		return Evidence{}, malformed("a report of the guest itself", "one of an SVSM service, which is not supported")
	}
	out, err := looseBase64(t.OutBlob)
	if err != nil {
		return Evidence{}, malformed("outblob in base64", "other text").Because(err)
	}
	aux, err := looseBase64(t.AuxBlob)
	if err != nil {
		return Evidence{}, malformed("auxblob in base64", "other text").Because(err)
	}
	return Triple(t.Provider, out, aux)
}

// Triple makes evidence of what configfs-tsm gave: the text of provider and the bytes of outblob and auxblob
// (Documentation/ABI/testing/configfs-tsm-report in the Linux kernel).
func Triple(provider string, outBlob, auxBlob []byte) (Evidence, error) {
	switch strings.TrimSuffix(provider, "\n") {
	case "sev_guest":
		if len(outBlob) != reportSize {
			return Evidence{}, malformed(fmt.Sprintf("an outblob of %d bytes", reportSize), fmt.Sprintf("%d bytes", len(outBlob)))
		}
		return Evidence{Kind: SNP, Report: outBlob, Endorsements: Endorsements{CertTable: auxBlob}}, nil
	case "tdx_guest":
		if len(auxBlob) != 0 {
			return Evidence{}, malformed("no auxblob from tdx_guest", fmt.Sprintf("%d bytes", len(auxBlob)))
		}
		return Evidence{Kind: TDX, Report: outBlob}, nil
	}
	return Evidence{}, malformed("provider sev_guest or tdx_guest", fmt.Sprintf("%.40q", provider))
}

// Media types of records that other makers write.
const (
	mediaTable    = "application/vnd.amd.ghcb.guid-table"
	mediaIntelTDX = "application/vnd.intel.tdx-quote"
	mediaTSM      = "application/vnd.veraison.configfs-tsm+json"
	mediaTSMOther = "application/vnd.veraison.tsm-report+json" // the registered name of the same document
)

// fromRecord reads a CMW record: [media type, base64url value] with or without an indicator.
func fromRecord(text []byte) (Evidence, error) {
	if err := strict.Unique(text); err != nil {
		return Evidence{}, malformed("a CMW record", "broken JSON").Because(err)
	}
	m, err := parseRecord(text)
	if err != nil {
		return Evidence{}, malformed("a CMW record: [media type, base64url value, indicator]", "another shape").Because(err)
	}
	var e Evidence
	if known, err := e.take(m); !known || err != nil {
		return Evidence{}, orElse(err, malformed("a CMW record of a report or quote", fmt.Sprintf("type %.80q", m.mediaType)))
	}
	return e, nil
}

// fromCollection reads a CMW collection of another maker: every record of a type that is known counts, each part once;
// records of other types are not evidence of this kind and are passed over.
func fromCollection(raw map[string]json.RawMessage) (Evidence, error) {
	var e Evidence
	found := false
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		m, err := parseRecord(raw[name])
		if err != nil {
			continue // the type, or a nested collection
		}
		known, err := e.take(m)
		if err != nil {
			return Evidence{}, err
		}
		found = found || known
	}
	if !found || e.Kind == "" {
		return Evidence{}, malformed("a CMW collection that holds a report or quote", "none in it")
	}
	return e, nil
}

// take adds one record and reports whether it is of a known type. A second report is refused.
func (e *Evidence) take(m monad) (bool, error) {
	var part Evidence
	switch m.mediaType {
	case mediaTable:
		if len(e.CertTable) > 0 {
			return true, malformed("one certificate table", "two")
		}
		e.CertTable = m.value
		return true, nil
	case mediaSNP:
		part = Evidence{Kind: SNP, Report: m.value}
	case mediaTDX, mediaIntelTDX:
		part = Evidence{Kind: TDX, Report: m.value}
	case mediaTSM, mediaTSMOther:
		var err error
		if part, err = fromTSM(m.value); err != nil {
			return true, err
		}
	default:
		return false, nil
	}
	if e.Kind != "" || (len(e.CertTable) > 0 && len(part.CertTable) > 0) {
		return true, malformed("one report or quote", "two")
	}
	e.Kind, e.Report = part.Kind, part.Report
	if len(part.CertTable) > 0 {
		e.CertTable = part.CertTable
	}
	return true, nil
}

// parseRecord is [parseMonad] where the indicator may be left out, as the draft allows.
func parseRecord(raw json.RawMessage) (monad, error) {
	var record []json.RawMessage
	if err := json.Unmarshal(raw, &record); err != nil {
		return monad{}, fmt.Errorf("decoding record: %w", err)
	}
	if len(record) == 2 {
		record = append(record, json.RawMessage("0"))
		raw, _ = json.Marshal(record)
	}
	return parseMonad(raw)
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
