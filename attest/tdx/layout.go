// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes of the parts of a quote (QUOTE, "Quote Format" and "Quote Signature Data Structure").
const (
	headerSize   = 48
	bodySize10   = 584 // TD report of TDX 1.0
	bodySize15   = 648 // TD report of TDX 1.5
	qeReportSize = 384
	pairSize     = 64 // r and s of a signature, x and y of a key
)

// BodyType says which TD report a quote holds (QUOTE, "TD Quote Body Descriptor").
type BodyType uint16

// The body types that are read.
const (
	BodyTDX10 BodyType = 2
	BodyTDX15 BodyType = 3
)

const (
	keyTypeECDSAP256   = 2
	teeTDX             = 0x81
	certDataPCKChain   = 5
	certDataQEReport   = 6
	intelQEVendor      = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"
	chainCertificates  = 3 // PCK, its CA, root
	qeReportDataOffset = 320
)

// fields is the content of a quote, none of it verified. Slices alias the quote.
type fields struct {
	version  uint16
	bodyType BodyType
	userData [20]byte
	body

	signed    []byte // what the attestation key signs: header, descriptor and body
	signature []byte // r and s
	key       []byte // x and y of the attestation key
	qeReport  []byte
	qeSig     []byte
	qeAuth    []byte
	chain     []byte // PEM
}

// body is a TD report (QUOTE, "TD Quote Body"; MODULE, "TDINFO_STRUCT").
type body struct {
	teeTCBSVN, teeTCBSVN2              [16]byte // the second is zero below TDX 1.5
	mrSEAM, mrSignerSEAM               [48]byte
	seamAttributes                     [8]byte
	attributes                         TDAttributes
	xfam                               uint64
	mrTD                               [48]byte
	mrConfigID, mrOwner, mrOwnerConfig [48]byte
	rtmr                               [4][48]byte
	reportData                         [64]byte
	mrServiceTD                        [48]byte // zero below TDX 1.5
}

// cursor reads bytes from the front; short says that there were too few once.
type cursor struct {
	rest  []byte
	short bool
}

func (c *cursor) take(n uint32) []byte {
	if c.short || uint64(n) > uint64(len(c.rest)) {
		c.short = true
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) fill(to []byte) {
	if len(to) > len(c.rest) {
		c.short = true
	}
	if !c.short {
		c.rest = c.rest[copy(to, c.rest):]
	}
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// parse reads a quote and refuses everything that the format does not allow in one, signed or not. Behind the signature
// data only zeros may stand: the buffer of the quoting interface is longer than the quote and some platforms hand over
// all of it, but nobody has signed that it is there.
func parse(quote []byte) (*fields, error) {
	f := &fields{}
	c := &cursor{rest: quote}
	if err := f.readHeader(c); err != nil {
		return nil, err
	}
	size, err := f.readDescriptor(c)
	if err != nil {
		return nil, err
	}
	b := &cursor{rest: c.take(size), short: c.short}
	if f.read(b, f.bodyType); b.short {
		return nil, malformed("a whole quote", fmt.Sprintf("%d bytes, cut in its body", len(quote)))
	}
	f.signed = quote[:len(quote)-len(c.rest)]
	sig := &cursor{rest: c.take(c.uint32()), short: c.short}
	if c.short {
		return nil, malformed("a whole quote", fmt.Sprintf("%d bytes, cut in its signature data", len(quote)))
	}
	if !allZero(c.rest) {
		return nil, malformed("nothing but zeros behind the quote", fmt.Sprintf("%d other bytes", len(c.rest)))
	}
	if err := f.readSignature(sig); err != nil {
		return nil, err
	}
	if !allZero(f.mrSignerSEAM[:]) || !allZero(f.seamAttributes[:]) {
		return nil, malformed("an Intel TDX module (MRSIGNERSEAM and SEAMATTRIBUTES zero)", "another SEAM module")
	}
	return f, nil
}

func (f *fields) readHeader(c *cursor) error {
	f.version = c.uint16()
	keyType, tee, reserved, vendor := c.uint16(), c.uint32(), c.uint32(), c.take(16)
	c.fill(f.userData[:])
	switch {
	case c.short:
		return malformed(fmt.Sprintf("a header of %d bytes", headerSize), "fewer")
	case f.version != 4 && f.version != 5:
		return malformed("a quote of version 4 or 5", fmt.Sprintf("version %d", f.version))
	case keyType != keyTypeECDSAP256:
		return malformed("attestation key type 2 (ECDSA P-256)", fmt.Sprintf("type %d", keyType))
	case tee != teeTDX:
		return malformed("TEE type 0x81 (TDX)", fmt.Sprintf("type %#x", tee))
	case reserved != 0:
		return malformed("zeros in bytes 8 to 11 of the header", fmt.Sprintf("%#x", reserved))
	case string(vendor) != intelQEVendor:
		return malformed("Intel's QE vendor identifier", fmt.Sprintf("%x", vendor))
	}
	return nil
}

// readDescriptor gives the size of the body, which version 4 fixes and version 5 writes down.
func (f *fields) readDescriptor(c *cursor) (uint32, error) {
	if f.version == 4 {
		f.bodyType = BodyTDX10
		return bodySize10, nil
	}
	f.bodyType = BodyType(c.uint16())
	size := c.uint32()
	switch {
	case c.short:
		return 0, malformed("a body descriptor", "fewer bytes")
	case f.bodyType == BodyTDX10 && size == bodySize10, f.bodyType == BodyTDX15 && size == bodySize15:
		return size, nil
	}
	return 0, malformed("a body of type 2 with 584 bytes or type 3 with 648", fmt.Sprintf("type %d with %d", f.bodyType, size))
}

func (b *body) read(c *cursor, t BodyType) {
	c.fill(b.teeTCBSVN[:])
	c.fill(b.mrSEAM[:])
	c.fill(b.mrSignerSEAM[:])
	c.fill(b.seamAttributes[:])
	b.attributes = TDAttributes(c.uint64())
	b.xfam = c.uint64()
	for _, to := range [...][]byte{
		b.mrTD[:], b.mrConfigID[:], b.mrOwner[:], b.mrOwnerConfig[:],
		b.rtmr[0][:], b.rtmr[1][:], b.rtmr[2][:], b.rtmr[3][:], b.reportData[:],
	} {
		c.fill(to)
	}
	if t == BodyTDX15 {
		c.fill(b.teeTCBSVN2[:])
		c.fill(b.mrServiceTD[:])
	}
}

// readSignature reads the signature data: every length has to end exactly where the part around it ends.
func (f *fields) readSignature(c *cursor) error {
	f.signature, f.key = c.take(pairSize), c.take(pairSize)
	kind := c.uint16()
	qe := &cursor{rest: c.take(c.uint32()), short: c.short}
	switch {
	case c.short:
		return malformed("whole signature data", "fewer bytes")
	case kind != certDataQEReport:
		return malformed("certification data of type 6 (QE report)", fmt.Sprintf("type %d", kind))
	case len(c.rest) != 0:
		return malformed("signature data that ends with its certification data", fmt.Sprintf("%d more bytes", len(c.rest)))
	}
	f.qeReport, f.qeSig = qe.take(qeReportSize), qe.take(pairSize)
	f.qeAuth = qe.take(uint32(qe.uint16()))
	kind = qe.uint16()
	f.chain = qe.take(qe.uint32())
	switch {
	case qe.short:
		return malformed("whole QE certification data", "fewer bytes")
	case kind != certDataPCKChain:
		return malformed("QE certification data of type 5 (PCK certificate chain)", fmt.Sprintf("type %d", kind))
	case len(qe.rest) != 0:
		return malformed("QE certification data that ends with its chain", fmt.Sprintf("%d more bytes", len(qe.rest)))
	}
	f.chain = bytes.TrimRight(f.chain, "\x00") // the text may end in NUL
	return f.checkQEReserved()
}

// checkQEReserved demands zero wherever an enclave's report has to be zero (Intel SDM, table "REPORT"), the half of the
// report data that nothing is bound to included.
func (f *fields) checkQEReserved() error {
	for _, r := range [...]struct{ from, to int }{{20, 48}, {96, 128}, {160, 256}, {260, 320}, {352, qeReportSize}} {
		if !allZero(f.qeReport[r.from:r.to]) {
			return malformed(fmt.Sprintf("zeros in bytes %d to %d of the QE report", r.from, r.to-1), "other bytes")
		}
	}
	return nil
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}
