// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/kettle/attest/image/measure/ovmf"
)

// PageOrder is the order in which a host adds and measures the pages of a trust domain. Both are used, and MRTD differs.
type PageOrder string

// The page orders.
const (
	SinglePass PageOrder = "single-pass" // each page is measured as soon as it was added: Linux 6.16 and later
	TwoPass    PageOrder = "two-pass"    // all pages of a section are added, then measured: Linux before TDX was merged
)

// PageOrders lists the page orders.
func PageOrders() []PageOrder { return []PageOrder{SinglePass, TwoPass} }

// MRTD gives the measurement of a trust domain's initial contents (Intel TDX Module Base Architecture Specification,
// section "MRTD: Build-Time Measurement Register"; TDH.MEM.PAGE.ADD, TDH.MR.EXTEND). It depends on the firmware and the page
// order only, neither on memory nor on the number of processors.
func MRTD(f *ovmf.Firmware, order PageOrder) (Digest, error) {
	sections, err := f.TDX()
	if err != nil {
		return Digest{}, fmt.Errorf("predicting MRTD: %w", err)
	}
	if order != SinglePass && order != TwoPass {
		return Digest{}, fmt.Errorf("predicting MRTD: unknown page order %.20q", string(order))
	}
	m := domainMeasurement{h: sha512.New384()}
	for _, s := range sections {
		for offset := uint64(0); offset < s.Size; offset += ovmf.PageSize {
			m.add(s.GPA + offset)
			if s.Extend && order == SinglePass {
				m.extend(s, offset)
			}
		}
		for offset := uint64(0); s.Extend && order == TwoPass && offset < s.Size; offset += ovmf.PageSize {
			m.extend(s, offset)
		}
	}
	return Digest(m.h.Sum(nil)), nil
}

// domainMeasurement is the running digest of the TDX module.
type domainMeasurement struct {
	h   hash.Hash
	buf [128]byte
}

// operation starts a record: the name of the operation in the first 16 bytes, the address in the next 8, then zeros.
func (m *domainMeasurement) operation(name string, gpa uint64) {
	clear(m.buf[:])
	copy(m.buf[:16], name)
	binary.LittleEndian.PutUint64(m.buf[16:], gpa)
	m.h.Write(m.buf[:])
}

// add measures that a page is there.
func (m *domainMeasurement) add(gpa uint64) { m.operation("MEM.PAGE.ADD", gpa) }

// extend measures the contents of a page, in chunks of 256 bytes.
func (m *domainMeasurement) extend(s ovmf.TDXSection, offset uint64) {
	const chunk = 256
	for end := offset + ovmf.PageSize; offset < end; offset += chunk {
		m.operation("MR.EXTEND", s.GPA+offset)
		m.h.Write(s.Data[offset : offset+chunk])
	}
}
