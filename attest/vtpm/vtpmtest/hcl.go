// SPDX-License-Identifier: Apache-2.0

package vtpmtest

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/kettle/attest/attest/vtpm"
)

// HCLSize is the size of the NV index that holds a paravisor's report.
const HCLSize = 2600

// Runtime is what a paravisor says of its virtual machine.
type Runtime struct {
	AK, EK     *rsa.PublicKey // EK may be nil
	SecureBoot bool
	Console    bool
	UniqueID   string
	UserData   [64]byte
}

// JSON gives the runtime data in the paravisor's form.
func (r Runtime) JSON() []byte {
	keys := jwk("HCLAkPub", "sign", r.AK)
	if r.EK != nil {
		keys += "," + jwk("HCLEkPub", "encrypt", r.EK)
	}
	return fmt.Appendf(nil, `{"keys":[%s],"vm-configuration":{"console-enabled":%v,"secure-boot":%v,"tpm-enabled":true,`+
		`"vmUniqueId":%q},"user-data":"%s"}`, keys, r.Console, r.SecureBoot, r.UniqueID, hex.EncodeToString(r.UserData[:]))
}

func jwk(kid, op string, key *rsa.PublicKey) string {
	return fmt.Sprintf(`{"kid":%q,"key_ops":[%q],"kty":"RSA","e":"AQAB","n":"%s"}`, kid, op,
		base64.RawURLEncoding.EncodeToString(key.N.Bytes()))
}

// ReportData is the report data of a hardware report that binds runtime data.
func ReportData(runtime []byte) [64]byte {
	var out [64]byte
	h := sha256.Sum256(runtime)
	copy(out[:], h[:])
	return out
}

// HCL gives a paravisor's report around a hardware report (an SNP report or a TDREPORT) with any runtime data, padded to
// the size of the NV index where it fits.
func HCL(hardware vtpm.Hardware, report, runtime []byte) []byte {
	const header, area, data = 0x20, 1184, 20
	size := header + area + data + len(runtime)
	blob := make([]byte, max(size, HCLSize))
	copy(blob, "HCLA")
	copy(blob[header:header+area], report)
	for at, v := range map[int]int{
		4:                  2,
		8:                  size,
		12:                 2,
		header + area:      data + len(runtime),
		header + area + 4:  1,
		header + area + 8:  int(hardware),
		header + area + 12: 1,
		header + area + 16: len(runtime),
	} {
		binary.LittleEndian.PutUint32(blob[at:], uint32(v)) //nolint:gosec // small.
	}
	copy(blob[header+area+data:], runtime)
	return blob
}
