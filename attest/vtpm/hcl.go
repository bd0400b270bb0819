// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"
	"crypto"
	_ "crypto/sha512" // SHA-384 and SHA-512 behind crypto.Hash
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/kettle/attest/attest/refusal"
)

// The layout of the paravisor's report (HCL, IgvmAttestRequestBase): all integers are little-endian.
const (
	hclMagic      = "HCLA"
	hclHeaderSize = 0x20
	hclReportSize = 1184                          // the area of the hardware's report, as large as an SNP report
	hclDataOffset = hclHeaderSize + hclReportSize // IgvmAttestRequestData
	hclDataSize   = 20
	hclExtSize    = 4 // IgvmAttestRequestDataExt, from version 2 of the data on
	hclAKRequest  = 2 // AK_CERT_REQUEST, the only request whose bytes are put into the TPM

	tdReportSize = 1024

	maxHCL         = 64 << 10 // the NV index has 2,600 bytes
	maxRuntimeData = 16 << 10
)

// Hardware says which hardware report a paravisor's report carries.
type Hardware uint32

// The kinds that prove something. VBS (1), a trusted VM without hardware report (3) and all others are refused.
const (
	SNP Hardware = 2
	TDX Hardware = 4
)

// String gives "snp" or "tdx".
func (h Hardware) String() string {
	switch h {
	case SNP:
		return "snp"
	case TDX:
		return "tdx"
	}
	return "none"
}

// HCL is the report of Azure's paravisor, as read: nothing in it is proven yet, [HCL.Bind] does that.
type HCL struct {
	hardware Hardware
	report   []byte
	hash     crypto.Hash
	runtime  []byte
}

// ParseHCL reads the bytes of NV index 0x01400001 strictly: every size has to agree with every other, reserved bytes and
// all bytes after the runtime data have to be zero. Refusals have the code malformed, or chain if the report carries no
// hardware report that proves anything.
func ParseHCL(blob []byte) (*HCL, error) {
	if len(blob) < hclDataOffset+hclDataSize || len(blob) > maxHCL {
		return nil, malformedHCL(fmt.Sprintf("%d to %d bytes", hclDataOffset+hclDataSize, maxHCL), fmt.Sprintf("%d", len(blob)))
	}
	if string(blob[:len(hclMagic)]) != hclMagic {
		return nil, malformedHCL("a paravisor's report, which starts with HCLA", fmt.Sprintf("%x", blob[:len(hclMagic)]))
	}
	h := &HCL{}
	data := blob[hclDataOffset:]
	size, err := h.readData(data)
	if err != nil {
		return nil, err
	}
	if err := checkHeader(blob[:hclHeaderSize], hclDataOffset+size); err != nil {
		return nil, err
	}
	if !zero(data[size:]) {
		return nil, malformedHCL("zeros after the runtime data", "other bytes")
	}
	area := blob[hclHeaderSize:hclDataOffset]
	if h.hardware == TDX {
		if !zero(area[tdReportSize:]) {
			return nil, malformedHCL("zeros after the TDREPORT", "other bytes")
		}
		area = area[:tdReportSize]
	}
	h.report, h.runtime = bytes.Clone(area), bytes.Clone(h.runtime)
	return h, nil
}

// readData reads the request data and gives its size with the runtime data.
func (h *HCL) readData(data []byte) (int, error) {
	field := func(i int) uint32 { return binary.LittleEndian.Uint32(data[4*i:]) }
	dataSize, version, kind, hash, runtimeSize := field(0), field(1), field(2), field(3), field(4)
	start := hclDataSize
	switch version {
	case 1:
	case 2:
		start += hclExtSize
	default:
		return 0, malformedHCL("version 1 or 2 of the runtime data", fmt.Sprintf("%d", version))
	}
	if runtimeSize == 0 || runtimeSize > maxRuntimeData || start+int(runtimeSize) > len(data) {
		return 0, malformedHCL(fmt.Sprintf("1 to %d bytes of runtime data, all of them there", maxRuntimeData),
			fmt.Sprintf("%d announced", runtimeSize))
	}
	size := start + int(runtimeSize)
	if int64(dataSize) != int64(size) {
		return 0, malformedHCL(fmt.Sprintf("a data size of %d", size), fmt.Sprintf("%d", dataSize))
	}
	switch hash {
	case 1:
		h.hash = crypto.SHA256
	case 2:
		h.hash = crypto.SHA384
	case 3:
		h.hash = crypto.SHA512
	default:
		return 0, malformedHCL("runtime data hashed by SHA-256, SHA-384 or SHA-512", fmt.Sprintf("hash type %d", hash))
	}
	h.hardware = Hardware(kind)
	if h.hardware != SNP && h.hardware != TDX {
		return 0, &refusal.Refusal{
			Link: linkHCL, Code: refusal.Chain, Want: "the report of a confidential VM: SNP (2) or TDX (4)",
			Got: fmt.Sprintf("report type %d", kind), Next: nextTrustAK,
		}
	}
	h.runtime = data[start:size]
	return size, nil
}

func checkHeader(header []byte, size int) error {
	field := func(i int) uint32 { return binary.LittleEndian.Uint32(header[4*i:]) }
	if v := field(1); v != 1 && v != 2 {
		return malformedHCL("version 1 or 2", fmt.Sprintf("%d", v))
	}
	if s := field(2); int64(s) != int64(size) {
		return malformedHCL(fmt.Sprintf("a report size of %d", size), fmt.Sprintf("%d", s))
	}
	if r := field(3); r != hclAKRequest {
		return malformedHCL(fmt.Sprintf("request type %d", hclAKRequest), fmt.Sprintf("%d", r))
	}
	if !zero(header[16:]) {
		return malformedHCL("zeros in status and reserved bytes", fmt.Sprintf("%x", header[16:]))
	}
	return nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// Hardware says which hardware report there is.
func (h *HCL) Hardware() Hardware { return h.hardware }

// HardwareReport is the hardware's report: 1184 bytes of an SNP report, or the 1024 bytes of a TDREPORT. A TDREPORT
// carries a MAC that only its own machine can check: it is what a TD quote is asked with, and proves nothing here.
func (h *HCL) HardwareReport() []byte { return bytes.Clone(h.report) }

// RuntimeData is the exact bytes that the hardware's report binds.
func (h *HCL) RuntimeData() []byte { return bytes.Clone(h.runtime) }

// ReportData is the report data that binds the runtime data: their hash, then zeros.
func (h *HCL) ReportData() [64]byte {
	var out [64]byte
	if h.hash == 0 { // no report
		return out
	}
	copy(out[:], digest(h.hash, h.runtime))
	return out
}

// Bind compares all 64 bytes of the report data of a verified hardware report, of an SNP report or of a TD quote, with
// the runtime data's, and reads the runtime data. The caller vouches for the report data: whoever makes it up trusts
// whatever is in h. Codes: binding, malformed.
func (h *HCL) Bind(reportData [64]byte) (*Guest, error) {
	if h == nil || len(h.runtime) == 0 {
		return nil, malformedHCL("a paravisor's report", "none")
	}
	want := h.ReportData()
	if subtle.ConstantTimeCompare(want[:], reportData[:]) != 1 {
		return nil, &refusal.Refusal{
			Link: linkHCL, Code: refusal.Binding, Want: fmt.Sprintf("a hardware report with report data %x", want),
			Got: fmt.Sprintf("%x", reportData), Next: "bring report and hardware report of the same moment",
		}
	}
	return readRuntime(h.hardware, h.runtime)
}
