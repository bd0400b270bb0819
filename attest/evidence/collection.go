// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// Type is the collection type: an absolute URI, as the draft demands.
const Type = "tag:github.com,2026:kettle/attest/evidence/v1"

// MediaType is the registered media type of the container.
const MediaType = "application/cmw+json"

// MaxLine bounds one evidence line in bytes. The largest part is a boot log, 64 KiB on most machines.
const MaxLine = 1 << 20

// Media types of a report, which tell the kinds apart.
const (
	mediaSNP = "application/vnd.amd.sev-snp.attestation-report"
	mediaTDX = "application/vnd.kettle.tdx-quote"
)

// CMW indicator bits (draft-ietf-rats-msg-wrap, section 3.1).
const (
	indicatorEndorsements = 1 << 1
	indicatorEvidence     = 1 << 2
)

// Collection is the evidence of one quote with what an environment of Kettle adds.
type Collection struct {
	Evidence
	Binding   []byte // canonical context, see package binding
	PublicKey []byte // DER SubjectPublicKeyInfo of the key that signed the quoted statement
	EventLog  []byte // JSON Lines, see package eventlog
}

// item fixes name, media type and indicator of one item.
type item struct {
	name, mediaType string
	indicator       uint32
	value           *[]byte
}

// items lists the items in the order in which they are written, each with its place in c. pcrs is the list of PCR
// values as one string.
func (c *Collection) items(reportType string, pcrs *[]byte) []item {
	return []item{
		{"report", reportType, indicatorEvidence, &c.Report},
		{"hcl-report", "application/vnd.kettle.azure-hcl-report", indicatorEvidence, &c.HCLReport},
		{"tpm-quote", "application/vnd.kettle.tpms-attest", indicatorEvidence, &c.TPMQuote},
		{"tpm-signature", "application/vnd.kettle.tpmt-signature", indicatorEvidence, &c.TPMSignature},
		{"tpm-pcrs", "application/vnd.kettle.tpm-pcrs+sha256", indicatorEvidence, pcrs},
		{"boot-log", "application/vnd.kettle.tcg-event-log", indicatorEvidence, &c.BootLog},
		{"endorsements", "application/pkix-cert", indicatorEndorsements, &c.Leaf},
		{"certificate-table", mediaTable, indicatorEndorsements, &c.CertTable},
		{"crl", "application/pkix-crl", indicatorEndorsements, &c.CRL},
		{"collateral", "application/vnd.kettle.tdx-collateral+json", indicatorEndorsements, &c.Collateral},
		{"ak-certificates", "application/pem-certificate-chain", indicatorEndorsements, &c.AKCertificates},
		{"binding", "application/json", indicatorEvidence, &c.Binding},
		{"public-key", "application/vnd.kettle.spki", indicatorEvidence, &c.PublicKey},
		{"event-log", "application/vnd.kettle.event-log+jsonl", indicatorEvidence, &c.EventLog},
	}
}

// check is [Evidence.Check] and the three items that every collection has.
func (c *Collection) check() error {
	for _, it := range []item{{name: "binding", value: &c.Binding}, {name: "public-key", value: &c.PublicKey}, {name: "event-log", value: &c.EventLog}} {
		if len(*it.value) == 0 {
			return missing("item " + it.name)
		}
	}
	if c.Kind == Nitro {
		return malformed("evidence of a machine of Kettle's", "a document of AWS, which has no place in a collection")
	}
	return c.Check()
}

// Line encodes the collection as one line without the newline. Two calls give the same bytes.
func (c *Collection) Line() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	reportType := mediaSNP
	if c.Kind != SNP {
		reportType = mediaTDX
	}
	pcrs := bytes.Join(c.PCRs, nil)
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"__cmwc_t":%q`, Type)
	for _, it := range c.items(reportType, &pcrs) {
		if len(*it.value) > 0 {
			fmt.Fprintf(&b, `,%q:[%q,%q,%d]`, it.name, it.mediaType, base64.RawURLEncoding.EncodeToString(*it.value), it.indicator)
		}
	}
	b.WriteByte('}')
	if b.Len() > MaxLine {
		return nil, malformed(fmt.Sprintf("evidence of at most %d bytes", MaxLine), fmt.Sprintf("%d bytes", b.Len()))
	}
	return b.Bytes(), nil
}

// Is reports whether a JSON line says that it is a collection of this package's type, without judging it. Collections
// of other types are lines of another kind.
func Is(line []byte) bool {
	if len(line) < len(Type) { // cannot hold it, however it is written: a file may have millions of such lines
		return false
	}
	var probe struct {
		Type string `json:"__cmwc_t"`
	}
	return json.Unmarshal(line, &probe) == nil && probe.Type == Type
}

// Parse reads one line. Unknown, duplicate and missing items, other media types and trailing data are refused.
func Parse(line []byte) (*Collection, error) {
	if len(line) > MaxLine {
		return nil, malformed(fmt.Sprintf("evidence of at most %d bytes", MaxLine), fmt.Sprintf("%d bytes", len(line)))
	}
	raw, err := object(line)
	if err != nil {
		return nil, err
	}
	var typ string
	if err := json.Unmarshal(raw["__cmwc_t"], &typ); err != nil || typ != Type {
		return nil, malformed("collection type "+Type, fmt.Sprintf("%.60q", typ)).Because(err)
	}
	delete(raw, "__cmwc_t")
	return readItems(raw)
}

// readItems takes every item of a collection out of raw and leaves nothing there.
func readItems(raw map[string]json.RawMessage) (*Collection, error) {
	c, reportType, pcrs := new(Collection), mediaSNP, []byte(nil)
	if m, err := parseMonad(raw["report"]); err == nil && m.mediaType == mediaTDX {
		reportType = mediaTDX
	}
	for _, it := range c.items(reportType, &pcrs) {
		r, ok := raw[it.name]
		if !ok {
			continue
		}
		m, err := parseMonad(r)
		if err != nil {
			return nil, malformed("item "+it.name+" as [media type, base64url without padding, indicator]", "another shape").Because(err)
		}
		if m.mediaType != it.mediaType || m.indicator != it.indicator {
			return nil, malformed(fmt.Sprintf("item %s of type %s, indicator %d", it.name, it.mediaType, it.indicator),
				fmt.Sprintf("%.80q, %d", m.mediaType, m.indicator))
		}
		if len(m.value) == 0 {
			return nil, missing("item " + it.name)
		}
		*it.value = m.value
		delete(raw, it.name)
	}
	if len(pcrs)%pcrSize != 0 {
		return nil, malformed(fmt.Sprintf("PCR values of %d bytes", pcrSize), fmt.Sprintf("%d bytes", len(pcrs)))
	}
	for ; len(pcrs) > 0; pcrs = pcrs[pcrSize:] {
		c.PCRs = append(c.PCRs, pcrs[:pcrSize:pcrSize])
	}
	c.Kind = c.look(reportType)
	if err := c.check(); err != nil {
		return nil, err
	}
	for name := range raw {
		return nil, malformed("only the items of "+Type, fmt.Sprintf("item %.40q", name))
	}
	return c, nil
}

// look names the kind by the parts that are there.
func (c *Collection) look(reportType string) Kind {
	switch {
	case len(c.HCLReport) > 0 && len(c.Report) > 0:
		if reportType != mediaTDX {
			return "" // an SEV-SNP report stands inside the HCL report
		}
		return AzureTDX
	case len(c.HCLReport) > 0:
		return AzureSNP
	case len(c.Report) == 0 && len(c.TPMQuote) > 0:
		return VTPM
	case reportType == mediaTDX:
		return TDX
	}
	return SNP
}

// monad is one CMW record: [media type, base64url value, indicator].
type monad struct {
	mediaType string
	value     []byte
	indicator uint32
}

func parseMonad(raw json.RawMessage) (monad, error) {
	var record []json.RawMessage
	if err := json.Unmarshal(raw, &record); err != nil {
		return monad{}, fmt.Errorf("decoding record: %w", err)
	}
	if len(record) != 3 {
		return monad{}, fmt.Errorf("decoding record: %d elements", len(record))
	}
	var m monad
	var value string
	for i, dst := range []any{&m.mediaType, &value, &m.indicator} {
		if err := json.Unmarshal(record[i], dst); err != nil {
			return monad{}, fmt.Errorf("decoding record: %w", err)
		}
	}
	var err error
	m.value, err = unbase64(value)
	return m, err
}

// unbase64 decodes base64url without padding in its one encoding; the decoder alone skips line breaks.
func unbase64(s string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding base64url: %w", err)
	}
	if base64.RawURLEncoding.EncodeToString(b) != s {
		return nil, errors.New("not the canonical base64url")
	}
	return b, nil
}
