// SPDX-License-Identifier: Apache-2.0

package endorse

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
)

// The parts of a TCB in a VCEK or VLEK certificate are extensions of 1.3.6.1.4.1.3704.1.3 (KDS, table "VCEK Certificate
// Fields").
const (
	extBootLoader = 1
	extTEE        = 2
	extSNP        = 3
	extMicrocode  = 8
	extFMC        = 9
)

// Fits reports, as nil, that a certificate speaks for the key's TCB. Hosts keep certificates in caches that firmware
// updates leave behind; asking AMD again is then better than sending evidence that nobody can verify.
func (k AMDKey) Fits(leafDER []byte) error {
	cert, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return fmt.Errorf("reading an endorsement key certificate: %w", err)
	}
	place := map[int]int{extBootLoader: 0, extTEE: 1, extSNP: 6, extMicrocode: 7}
	if k.Line == Turin {
		place = map[int]int{extFMC: 0, extBootLoader: 1, extTEE: 2, extSNP: 3, extMicrocode: 7}
	}
	base := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 3}
	found := 0
	for _, e := range cert.Extensions {
		if len(e.Id) < len(base)+1 || !e.Id[:len(base)].Equal(base) {
			continue
		}
		at, known := place[e.Id[len(base)]]
		if !known || len(e.Id) > len(base)+1 {
			continue
		}
		var spl int
		if rest, err := asn1.Unmarshal(e.Value, &spl); err != nil || len(rest) != 0 {
			return fmt.Errorf("reading an endorsement key certificate: extension %v is no number", e.Id)
		}
		if spl != int(k.TCB[at]) {
			return fmt.Errorf("the certificate is for another TCB: extension %v is %d, the report says %d", e.Id, spl, k.TCB[at])
		}
		found++
	}
	if found != len(place) {
		return fmt.Errorf("the certificate names %d of the TCB's %d parts", found, len(place))
	}
	return nil
}
