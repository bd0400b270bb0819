// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// oidSGX is 1.2.840.113741.1.13.1, the SGX extension of PCK certificates, in DER.
const oidSGX = "\x2a\x86\x48\x86\xf8\x4d\x01\x0d\x01"

// Arcs below the SGX extension (PCK, "SGX Extensions").
const (
	arcPPID = iota + 1
	arcTCB
	arcPCEID
	arcFMSPC
	arcSGXType
	arcInstance
	arcConfiguration

	arcPCESVN = 17 // below arcTCB, after the 16 components
	arcCPUSVN = 18

	arcsRequired = 1<<arcPPID | 1<<arcTCB | 1<<arcPCEID | 1<<arcFMSPC | 1<<arcSGXType
)

// SGXType says how a platform protects memory (PCK, "SGX Type").
type SGXType uint8

// The SGX types.
const (
	SGXStandard              SGXType = 0
	SGXScalable              SGXType = 1
	SGXScalableWithIntegrity SGXType = 2
)

// PCK is what a PCK certificate says of a platform.
type PCK struct {
	PPID       [16]byte // identifies the processor package to Intel
	Components [16]byte // SVNs of the 16 SGX TCB components
	PCESVN     uint16
	CPUSVN     [16]byte
	PCEID      [2]byte
	FMSPC      [6]byte // family, model, stepping, platform and custom SKU
	Type       SGXType

	// Multi-package platforms only; Instance is nil elsewhere.
	Instance      *[16]byte
	Configuration *Configuration
}

// Configuration is how a multi-package platform was set up at registration (PCK, "Configuration").
type Configuration struct {
	Dynamic    bool // packages may be added
	CachedKeys bool // Intel keeps the platform's root keys
	SMT        bool // simultaneous multithreading was on
}

func malformedPCK(got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: linkEndorsements, Code: refusal.Malformed, Want: "the SGX extension of a PCK certificate", Got: got, Next: nextFreshQuote,
	}
}

// readPCK reads the one SGX extension of a PCK certificate.
func readPCK(c *x509.Certificate) (*PCK, error) {
	var value []byte
	for i := range c.Extensions {
		if !c.Extensions[i].Id.Equal(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}) {
			continue
		}
		if value != nil {
			return nil, malformedPCK("two of them")
		}
		value = c.Extensions[i].Value
	}
	if value == nil {
		return nil, malformedPCK("none")
	}
	return parseSGXExtension(value)
}

// parseSGXExtension reads the value of the extension: every entry at most once, every required one present, in DER,
// nothing unknown.
func parseSGXExtension(value []byte) (*PCK, error) {
	p := &PCK{}
	seen, ok := entries(value, oidSGX, arcConfiguration, p.entry)
	switch {
	case !ok:
		return nil, malformedPCK("one that does not follow the profile")
	case seen&arcsRequired != arcsRequired:
		return nil, malformedPCK(fmt.Sprintf("one without required entries (has %#x)", seen))
	}
	return p, nil
}

// entries walks a SEQUENCE of SEQUENCE {OID, value}, each OID being prefix and one arc between 1 and last, none twice.
func entries(value []byte, prefix string, last byte, read func(arc byte, v der) bool) (seen uint32, ok bool) {
	outer := der{value}
	content, ok := outer.only(tagSequence)
	for list := (der{content}); ok && len(list.rest) > 0; {
		var item, oid []byte
		if item, ok = list.next(tagSequence); !ok {
			break
		}
		pair := der{item}
		if oid, ok = pair.next(tagOID); !ok {
			break
		}
		arc, found := bytes.CutPrefix(oid, []byte(prefix))
		if !found || len(arc) != 1 || arc[0] == 0 || arc[0] > last || seen&(1<<arc[0]) != 0 {
			return seen, false
		}
		seen |= 1 << arc[0]
		ok = read(arc[0], pair)
	}
	return seen, ok
}

func (p *PCK) entry(arc byte, v der) bool {
	switch arc {
	case arcPPID:
		return v.octets(p.PPID[:])
	case arcTCB:
		const all = 1<<(arcCPUSVN+1) - 2
		seen, ok := entries(v.rest, oidSGX+"\x02", arcCPUSVN, p.tcbEntry)
		return ok && seen == all
	case arcPCEID:
		return v.octets(p.PCEID[:])
	case arcFMSPC:
		return v.octets(p.FMSPC[:])
	case arcSGXType:
		n, ok := v.unsigned(tagEnumerated)
		p.Type = SGXType(n) //nolint:gosec // at most two, by the next line
		return ok && n <= uint16(SGXScalableWithIntegrity)
	case arcInstance:
		p.Instance = new([16]byte)
		return v.octets(p.Instance[:])
	case arcConfiguration:
		p.Configuration = &Configuration{}
		_, ok := entries(v.rest, oidSGX+"\x07", 3, p.Configuration.entry)
		return ok
	}
	return false
}

func (p *PCK) tcbEntry(arc byte, v der) bool {
	switch arc {
	case arcCPUSVN:
		return v.octets(p.CPUSVN[:])
	case arcPCESVN:
		n, ok := v.unsigned(tagInteger)
		p.PCESVN = n
		return ok
	}
	n, ok := v.unsigned(tagInteger)
	p.Components[arc-1] = byte(n) //nolint:gosec // at most 255, by the next line
	return ok && n <= 0xff
}

func (c *Configuration) entry(arc byte, v der) (ok bool) {
	switch arc {
	case 1:
		c.Dynamic, ok = v.boolean()
	case 2:
		c.CachedKeys, ok = v.boolean()
	case 3:
		c.SMT, ok = v.boolean()
	}
	return ok
}
