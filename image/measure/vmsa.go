// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"encoding/binary"

	"github.com/kettle/attest/image/measure/ovmf"
)

// resetVector is where the first processor starts.
const resetVector = 0xfffffff0

// Offsets into the save area (AMD64 Architecture Programmer's Manual, volume 2, table B-4).
const (
	vmsaEFER     = 0x0d0
	vmsaCR4      = 0x148
	vmsaCR0      = 0x158
	vmsaDR7      = 0x160
	vmsaDR6      = 0x168
	vmsaRFLAGS   = 0x170
	vmsaRIP      = 0x178
	vmsaPAT      = 0x268
	vmsaRDX      = 0x310
	vmsaFeatures = 0x3b0
	vmsaXCR0     = 0x3e8
	vmsaMXCSR    = 0x408
	vmsaFCW      = 0x410
)

// registers are those that the virtual machine monitors set each in their own way.
type registers struct {
	cs, ss, tr uint16 // attributes of the segments
	pat        uint64
	rdx        uint64 // the signature of the processor, as after a reset
	mxcsr      uint32
	fcw        uint16
}

func startRegisters(l SNPLaunch, eip uint32) registers {
	switch l.VMM {
	case EC2, EC2V1:
		r := registers{cs: 0x9b, ss: 0x92, tr: 0x83, pat: 0x7040600070406}
		if eip == resetVector {
			r.cs = 0x9a
		}
		if l.VMM == EC2 {
			r.rdx = 0x600
		}
		return r
	case GCE:
		return registers{cs: 0x9b, ss: 0x93, tr: 0x8b, pat: 0x70106, rdx: 0x600}
	case QEMU:
	}
	return registers{cs: 0x9b, ss: 0x93, tr: 0x8b, pat: 0x7040600070406, rdx: uint64(l.CPU.Signature), mxcsr: 0x1f80, fcw: 0x37f}
}

// vmsa gives the page with the state in which a processor starts at eip.
func vmsa(l SNPLaunch, eip uint32) []byte {
	r := startRegisters(l, eip)
	page := make([]byte, ovmf.PageSize)
	le := binary.LittleEndian
	// Segments from offset 0, 16 bytes each: ES CS SS DS FS GS GDTR LDTR IDTR TR.
	for i, attributes := range []uint16{0x93, r.cs, r.ss, 0x93, 0x93, 0x93, 0, 0x82, 0, r.tr} {
		segment := page[16*i:]
		le.PutUint16(segment[2:], attributes)
		le.PutUint32(segment[4:], 0xffff)
	}
	cs := page[16:]
	le.PutUint16(cs, 0xf000)
	le.PutUint64(cs[8:], uint64(eip&0xffff0000))
	le.PutUint64(page[vmsaEFER:], 0x1000) // SVME
	le.PutUint64(page[vmsaCR4:], 0x40)    // MCE
	le.PutUint64(page[vmsaCR0:], 0x10)
	le.PutUint64(page[vmsaDR7:], 0x400)
	le.PutUint64(page[vmsaDR6:], 0xffff0ff0)
	le.PutUint64(page[vmsaRFLAGS:], 0x2)
	le.PutUint64(page[vmsaRIP:], uint64(eip&0xffff))
	le.PutUint64(page[vmsaPAT:], r.pat)
	le.PutUint64(page[vmsaRDX:], r.rdx)
	le.PutUint64(page[vmsaFeatures:], l.GuestFeatures)
	le.PutUint64(page[vmsaXCR0:], 0x1)
	le.PutUint32(page[vmsaMXCSR:], r.mxcsr)
	le.PutUint16(page[vmsaFCW:], r.fcw)
	return page
}
