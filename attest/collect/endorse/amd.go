// SPDX-License-Identifier: Apache-2.0

package endorse

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/collect/fetch"
)

// Line is an AMD product line as the KDS names it.
type Line string

// The product lines of the KDS. Siena and Bergamo are served as Genoa, Turin Dense as Turin (KDS, chapter 3).
const (
	Milan Line = "Milan"
	Genoa Line = "Genoa"
	Turin Line = "Turin"
)

// Places in an attestation report (AMD 56860, table "ATTESTATION_REPORT Structure"). All are read to ask for
// certificates only; nothing here is a verdict.
const (
	reportSize       = 1184
	offVersion       = 0x000
	offKeyInfo       = 0x048
	offReportedTCB   = 0x180
	offFamily        = 0x188
	offModel         = 0x189
	offChipID        = 0x1a0
	versionWithCPUID = 3
	keyInfoMaskChip  = 1 << 1
	keyInfoShift     = 2
	keyInfoMask      = 7
	signedByVLEK     = 1
	turinHWID        = 8 // bytes of the chip identifier in addresses for Turin and later (KDS, chapter 4)
)

// AMDKey names the endorsement key that signed a report.
type AMDKey struct {
	Line   Line // empty when the report does not say (version 2)
	VLEK   bool // a provider's key, which the KDS hands to the provider alone
	ChipID [64]byte
	TCB    [8]byte // REPORTED_TCB as it stands in the report
}

// ErrNoChip says that a report does not name its chip, so that nobody can ask for the chip's certificate.
var ErrNoChip = errors.New("the report does not name its chip (MASK_CHIP_KEY or CHIP_ID is set to zeros by the host)")

// ReadAMDKey reads from an SEV-SNP report which key signed it. With [ErrNoChip] the rest of the key is there.
func ReadAMDKey(report []byte) (AMDKey, error) {
	if len(report) != reportSize {
		return AMDKey{}, fmt.Errorf("reading the report's key: the report has %d bytes, want %d", len(report), reportSize)
	}
	info := binary.LittleEndian.Uint32(report[offKeyInfo:])
	k := AMDKey{
		VLEK:   info>>keyInfoShift&keyInfoMask == signedByVLEK,
		ChipID: [64]byte(report[offChipID:]), TCB: [8]byte(report[offReportedTCB:]),
	}
	if binary.LittleEndian.Uint32(report[offVersion:]) >= versionWithCPUID {
		line, ok := LineOf(report[offFamily], report[offModel])
		if !ok {
			return AMDKey{}, fmt.Errorf("reading the report's key: no product line is known for processor family %#x, model %#x", report[offFamily], report[offModel])
		}
		k.Line = line
	}
	if !k.VLEK && (info&keyInfoMaskChip != 0 || k.ChipID == [64]byte{}) {
		return k, fmt.Errorf("reading the report's key: %w", ErrNoChip)
	}
	return k, nil
}

// LineOf gives the product line of a processor by CPUID family and model (AMD 57230, "Determining the product name").
func LineOf(family, model uint8) (Line, bool) {
	switch {
	case family == 0x19 && model <= 0x0f:
		return Milan, true
	case family == 0x19 && (model >= 0x10 && model <= 0x1f || model >= 0xa0 && model <= 0xaf):
		return Genoa, true
	case family == 0x1a && model <= 0x1f:
		return Turin, true
	}
	return "", false
}

// VCEK gets the certificate of a chip's endorsement key in DER.
func (c *Client) VCEK(ctx context.Context, k AMDKey) ([]byte, error) {
	switch {
	case k.VLEK:
		return nil, errors.New("asking for a VCEK: the report is signed by a VLEK, whose certificate only the provider has; it comes with the report")
	case k.Line == "":
		return nil, errors.New("asking for a VCEK: the product line is not known")
	case k.ChipID == [64]byte{}:
		return nil, fmt.Errorf("asking for a VCEK: %w", ErrNoChip)
	}
	d, err := c.fetch.Get(ctx, fetch.Request{
		What: "AMD VCEK certificate", URL: c.vcekURL(k), Limit: maxCertificate,
		Accept: func(d fetch.Document) (time.Time, error) {
			if _, err := x509.ParseCertificate(d.Body); err != nil {
				return time.Time{}, fmt.Errorf("no certificate in DER: %w", err)
			}
			return c.now().Add(keepCertificate), nil
		},
		Next: "let this machine reach AMD's key distribution service, or name a proxy or a mirror of it",
	})
	return d.Body, err
}

// vcekURL is KDS, chapter 4, "GET /vcek/v1/{product_name}/{hwid}": decimal TCB parts of two digits.
func (c *Client) vcekURL(k AMDKey) string {
	base := fmt.Sprintf("%s/vcek/v1/%s/", c.kds, k.Line)
	if k.Line == Turin {
		return fmt.Sprintf("%s%s?fmcSPL=%02d&blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", base,
			hex.EncodeToString(k.ChipID[:turinHWID]), k.TCB[0], k.TCB[1], k.TCB[2], k.TCB[3], k.TCB[7])
	}
	return fmt.Sprintf("%s%s?blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", base,
		hex.EncodeToString(k.ChipID[:]), k.TCB[0], k.TCB[1], k.TCB[6], k.TCB[7])
}

// kind is the part of an address that tells the two kinds of keys apart.
func (k AMDKey) kind() string {
	if k.VLEK {
		return "vlek"
	}
	return "vcek"
}

// AMDChain gets the PEM of a product line's intermediate (ASK or ASVK) and root (ARK), in this order.
func (c *Client) AMDChain(ctx context.Context, k AMDKey) ([]byte, error) {
	d, err := c.fetch.Get(ctx, fetch.Request{
		What: "AMD certificate chain", URL: fmt.Sprintf("%s/%s/v1/%s/cert_chain", c.kds, k.kind(), k.Line), Limit: maxCertificate,
		Accept: func(d fetch.Document) (time.Time, error) {
			if n, err := countCertificates(d.Body); err != nil || n != 2 {
				return time.Time{}, fmt.Errorf("want two certificates in PEM, got %d: %w", n, orNil(err))
			}
			return c.now().Add(keepCertificate), nil
		},
		Next: "the verifier has these certificates itself; nothing is lost",
	})
	return d.Body, err
}

// AMDCRL gets the revocation list of a product line in DER, signed by its root (ARK).
func (c *Client) AMDCRL(ctx context.Context, k AMDKey) ([]byte, error) {
	d, err := c.fetch.Get(ctx, fetch.Request{
		What: "AMD revocation list", URL: fmt.Sprintf("%s/%s/v1/%s/crl", c.kds, k.kind(), k.Line), Limit: maxCRL,
		Accept: func(d fetch.Document) (time.Time, error) { return c.acceptCRL(d.Body) },
		Next:   "let this machine reach AMD's key distribution service, or name a proxy or a mirror of it",
	})
	return d.Body, err
}

func (c *Client) acceptCRL(der []byte) (time.Time, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return time.Time{}, fmt.Errorf("no revocation list in DER: %w", err)
	}
	return c.until(list.NextUpdate), nil
}

// errTrailing is what is left over after PEM blocks.
var errTrailing = errors.New("bytes that are no PEM")

func orNil(err error) error {
	if err == nil {
		return errors.New("another number of them")
	}
	return err
}

// countCertificates counts the certificates of PEM that holds nothing else.
func countCertificates(data []byte) (int, error) {
	n := 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil || block.Type != "CERTIFICATE" {
			return n, fmt.Errorf("block %d is no certificate: %w", n+1, err)
		}
		n++
	}
	if len(bytes.TrimSpace(data)) != 0 {
		return n, errTrailing
	}
	return n, nil
}
