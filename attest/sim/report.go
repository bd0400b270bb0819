// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
)

// The layout and the fixed values of a report (AMD 56860, table "ATTESTATION_REPORT Structure"). A golden test holds
// them; a change would be another processor.
const (
	reportSize    = 1184
	signedSize    = 0x2a0
	signatureHalf = 72

	reportVersion   = 3
	guestPolicy     = 1<<17 | 0x1f // ABI 0.31 or newer; no SMT, no migration agent, no debugging
	ecdsaP384SHA384 = 1
	platformInfo    = 1<<2 | 1<<5 // ECC memory, alias check complete; SMT off
	firmwareBuild   = 31
	firmwareMinor   = 55
	firmwareMajor   = 1
	cpuFamily       = 0x19
	cpuModel        = 0x01
	cpuStepping     = 0x01
)

// Report signs a report of 1184 bytes over reportData. Everything else in it is the processor's.
func (p *Processor) Report(reportData [64]byte) ([]byte, error) {
	register := p.Register()
	tcb := [8]byte{tcbBootloader, tcbTEE, 0, 0, 0, 0, tcbSNP, tcbMicrocode}
	build := []byte{firmwareBuild, firmwareMinor, firmwareMajor}

	r := make([]byte, reportSize)
	binary.LittleEndian.PutUint32(r[0x000:], reportVersion)
	binary.LittleEndian.PutUint64(r[0x008:], guestPolicy)
	binary.LittleEndian.PutUint32(r[0x034:], ecdsaP384SHA384)
	copy(r[0x038:], tcb[:]) // CURRENT_TCB
	binary.LittleEndian.PutUint64(r[0x040:], platformInfo)
	copy(r[0x050:], reportData[:])
	copy(r[0x090:], p.launchDigest[:])
	copy(r[0x0c0:], register[:]) // HOST_DATA
	copy(r[0x140:], p.reportID[:])
	for i := 0x160; i < 0x180; i++ {
		r[i] = 0xff // REPORT_ID_MA: no migration agent
	}
	copy(r[0x180:], tcb[:]) // REPORTED_TCB
	copy(r[0x188:], []byte{cpuFamily, cpuModel, cpuStepping})
	copy(r[0x1a0:], p.chipID[:])
	copy(r[0x1e0:], tcb[:]) // COMMITTED_TCB
	copy(r[0x1e8:], build)  // current
	copy(r[0x1ec:], build)  // committed
	copy(r[0x1f0:], tcb[:]) // LAUNCH_TCB
	return r, p.sign(r)
}

// sign writes R and S, each little-endian in 72 bytes, over the SHA-384 of what stands before them.
func (p *Processor) sign(r []byte) error {
	digest := sha512.Sum384(r[:signedSize])
	der, err := ecdsa.SignASN1(rand.Reader, p.key, digest[:])
	if err != nil {
		return fmt.Errorf("signing a report: %w", err)
	}
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &signature); err != nil {
		return fmt.Errorf("reading a signature back: %w", err)
	}
	for i, n := range []*big.Int{signature.R, signature.S} {
		half := r[signedSize+i*signatureHalf:][:signatureHalf]
		n.FillBytes(half)
		for a, b := 0, len(half)-1; a < b; a, b = a+1, b-1 {
			half[a], half[b] = half[b], half[a]
		}
	}
	return nil
}
