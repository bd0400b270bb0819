// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"

	"github.com/kettle/attest/attest/refusal"
)

// Arcs below 1.3.6.1.4.1.3704.1 (KDS, table "VCEK certificate extensions").
const (
	arcStructure   = 1
	arcProductName = 2
	arcSPL         = 3
	arcHWID        = 4
	arcCSPID       = 5
)

// Arcs below 1.3.6.1.4.1.3704.1.3.
const (
	splBootloader = 1
	splTEE        = 2
	splSNP        = 3
	splMicrocode  = 8
	splFMC        = 9
)

const (
	hwidSize      = 64
	hwidSizeTurin = 8

	maxStructure = 1 // 0 on Milan and Genoa, 1 with Turin's parts
)

// endorsement is an endorsement key certificate and what its extensions say.
type endorsement struct {
	cert    *x509.Certificate
	product string
	csp     string
	hwid    []byte
	spl     map[int]uint8
}

func parseEndorsement(der []byte) (*endorsement, error) {
	if len(der) == 0 {
		return nil, &refusal.Refusal{
			Link: linkEndorsements, Code: refusal.EndorsementsMissing, Want: "the VCEK or VLEK certificate in DER",
			Got: "nothing", Next: nextRightLeaf,
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, malformedLeaf("exactly one X.509 certificate in DER", "something else").Because(err)
	}
	e := &endorsement{cert: cert, spl: map[int]uint8{}}
	for _, x := range cert.Extensions {
		if err := e.readExtension(x.Id, x.Value); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *endorsement) readExtension(id asn1.ObjectIdentifier, value []byte) error {
	amd := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	if len(id) <= len(amd) || !id[:len(amd)].Equal(amd) {
		return nil
	}
	arcs := id[len(amd):]
	switch {
	case len(arcs) == 1 && arcs[0] == arcStructure:
		var n int
		if rest, err := asn1.Unmarshal(value, &n); err != nil || len(rest) != 0 || n < 0 || n > maxStructure {
			return malformedLeaf("extensions of structure version 0 or 1", "another value in extension "+id.String())
		}
	case len(arcs) == 1 && arcs[0] == arcProductName:
		return readIA5(value, "product name", &e.product)
	case len(arcs) == 1 && arcs[0] == arcCSPID:
		return readIA5(value, "CSP identifier", &e.csp)
	case len(arcs) == 1 && arcs[0] == arcHWID:
		e.hwid = unwrapHWID(value)
	case len(arcs) == 2 && arcs[0] == arcSPL:
		var n int
		if rest, err := asn1.Unmarshal(value, &n); err != nil || len(rest) != 0 || n < 0 || n > 255 {
			return malformedLeaf("security patch levels from 0 to 255", "another value in extension "+id.String())
		}
		e.spl[arcs[1]] = uint8(n)
	}
	return nil
}

func readIA5(value []byte, what string, out *string) error {
	rest, err := asn1.UnmarshalWithParams(value, out, "ia5")
	if err != nil || len(rest) != 0 {
		return malformedLeaf("an IA5String as "+what, "something else")
	}
	return nil
}

// unwrapHWID takes the bare bytes that AMD writes, or the OCTET STRING that its specification announces.
func unwrapHWID(value []byte) []byte {
	var octets []byte
	if rest, err := asn1.Unmarshal(value, &octets); err == nil && len(rest) == 0 &&
		(len(octets) == hwidSize || len(octets) == hwidSizeTurin) {
		return octets
	}
	return value
}

// tcb composes the TCB_VERSION that the certificate is for, in the report's byte order. Every level has to be there.
func (e *endorsement) tcb(l Line) (tcbBytes, error) {
	arcs := [8]int{splBootloader, splTEE, 4, 5, 6, 7, splSNP, splMicrocode}
	if l == Turin {
		arcs = [8]int{splFMC, splBootloader, splTEE, splSNP, 5, 6, 7, splMicrocode}
	}
	var b tcbBytes
	for i, arc := range arcs {
		v, ok := e.spl[arc]
		if !ok {
			return b, malformedLeaf("a certificate that names its whole TCB", fmt.Sprintf("none of extension 1.3.6.1.4.1.3704.1.3.%d", arc))
		}
		b[i] = v
	}
	return b, nil
}

// productLine gives the line of the product name, such as Milan for "Milan-B0".
func (e *endorsement) productLine() Line {
	name, _, _ := strings.Cut(e.product, "-")
	switch name {
	case string(Milan):
		return Milan
	case string(Genoa), "Bergamo", "Siena":
		return Genoa
	case string(Turin):
		return Turin
	}
	return ""
}

// checkShape demands what KDS says of every VCEK and VLEK, whoever signed it, and gives its key.
func (e *endorsement) checkShape(k keyKind) (*ecdsa.PublicKey, error) {
	c := e.cert
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	switch {
	case c.Subject.CommonName != "SEV-"+k.String():
		return nil, brokenChain("a certificate named SEV-"+k.String(), quote(c.Subject.CommonName))
	case !namesAMD(c.Subject):
		return nil, brokenChain("a certificate for Advanced Micro Devices, Engineering, Santa Clara, CA, US", "one for another place")
	case !ok || pub.Curve != elliptic.P384():
		return nil, brokenChain("an endorsement key on P-384", "another key")
	case c.SignatureAlgorithm != x509.SHA384WithRSAPSS:
		return nil, brokenChain("an endorsement key signed with RSASSA-PSS and SHA-384", c.SignatureAlgorithm.String())
	case c.IsCA:
		return nil, brokenChain("an endorsement key that is no authority", "a certificate authority")
	case len(c.UnhandledCriticalExtensions) != 0:
		return nil, brokenChain("no unknown critical extension", c.UnhandledCriticalExtensions[0].String())
	}
	return pub, nil
}

// namesAMD reports whether the name has, beside a common name, exactly what KDS says that all its certificates have.
func namesAMD(n pkix.Name) bool {
	only := func(have []string, want string) bool { return len(have) == 1 && have[0] == want }
	return only(n.Country, "US") && only(n.Locality, "Santa Clara") && only(n.Province, "CA") &&
		only(n.Organization, "Advanced Micro Devices") && only(n.OrganizationalUnit, "Engineering")
}

// checkSigned demands that the intermediate of r issued the certificate.
func (e *endorsement) checkSigned(r Root) error {
	if !bytes.Equal(e.cert.RawIssuer, r.ask.RawSubject) {
		fingerprint := r.Fingerprint()
		return brokenChain(fmt.Sprintf("an endorsement key issued by %s under root sha256:%x…", r.ask.Subject.CommonName, fingerprint[:6]),
			quote(e.cert.Issuer.CommonName)+" of another authority")
	}
	if err := e.cert.CheckSignatureFrom(r.ask); err != nil {
		return brokenChain("an endorsement key signed by "+r.ask.Subject.CommonName, "another signature").Because(err)
	}
	return nil
}

// checkSpeaksFor demands that the certificate is for the reported TCB and, a VCEK, for the reporting chip.
func (e *endorsement) checkSpeaksFor(f *fields, l Line) error {
	want, err := e.tcb(l)
	if err != nil {
		return err
	}
	if want != f.reported {
		return mismatch(fmt.Sprintf("a report with the certificate's TCB %x", want), fmt.Sprintf("reported TCB %x", f.reported))
	}
	if f.key == vlek {
		if e.csp == "" || e.hwid != nil {
			return malformedLeaf("a VLEK that names a provider and no chip", "another certificate")
		}
		return nil
	}
	size := hwidSize
	if l == Turin {
		size = hwidSizeTurin
	}
	if len(e.hwid) != size || e.csp != "" {
		return malformedLeaf(fmt.Sprintf("a VCEK that names a chip in %d bytes and no provider", size), fmt.Sprintf("%d bytes", len(e.hwid)))
	}
	var chip [64]byte
	copy(chip[:], e.hwid)
	// A host may mask the report's chip to zeros (ABI, "MASK_CHIP_ID"). The key is still that of the certificate's chip.
	if masked := f.chipID == [64]byte{}; chip == [64]byte{} || chip != f.chipID && !masked {
		return mismatch(fmt.Sprintf("a report by the certificate's chip %x…", chip[:8]), fmt.Sprintf("chip %x…", f.chipID[:8]))
	}
	return nil
}
