// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/refusal"
)

// A structure of each kind; the keys are nobody's.
var (
	seedAttest = "ff5443478018" + "0022000b" + strings.Repeat("5a", 32) + "00096368616c6c656e6765" + "000000000000abcd0000000100000000" +
		"01" + "2020031200120003" + "00000001000b03ffffff" + "0020" + strings.Repeat("3c", 32)
	seedRuntime = `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"` +
		base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{0xc1}, 256)) + `"}],"vm-configuration":{"console-enabled":true,` +
		`"secure-boot":true,"tpm-enabled":true,"vmUniqueId":"x"},"user-data":""}`
)

const (
	seedECCSignature = "0018000b0002010200020304"
	// The base point of P-256 as a restricted signing key.
	seedECCPublic = "0023000b00050072000000100018000b0003001000206b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296" +
		"00204fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)

// captured gives messages and paravisor's reports of captured evidence, where there is any: more to start from.
func captured(f *testing.F) (messages, reports [][]byte) {
	dir := os.Getenv("KETTLE_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	files, err := filepath.Glob(filepath.Join(dir, "tee", "az-*", "evidence.json"))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		var e struct {
			Evidence struct {
				Quote struct{ Message string } `json:"tpm_quote"`
				HCL   string                   `json:"hcl_report"`
			} `json:"evidence"`
		}
		raw, err := os.ReadFile(name)
		if err != nil || json.Unmarshal(raw, &e) != nil {
			f.Fatalf("%s: %v", name, err)
		}
		report, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(e.Evidence.HCL, "="))
		if err != nil {
			f.Fatal(err)
		}
		messages, reports = append(messages, unhex(e.Evidence.Quote.Message)), append(reports, report)
	}
	return messages, reports
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// FuzzAttest: what is accepted, go-tpm reads the same way and writes back to the same bytes.
func FuzzAttest(f *testing.F) {
	seed := unhex(seedAttest)
	f.Add(seed)
	f.Add(seed[:100])
	f.Add(append(bytes.Clone(seed), 0))
	messages, _ := captured(f)
	for _, m := range messages {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := parseAttest(raw)
		if err != nil {
			mustRefuse(t, err)
			return
		}
		again, err := tpm2.Unmarshal[tpm2.TPMSAttest](raw)
		if err != nil {
			t.Fatalf("go-tpm refuses it: %v", err)
		}
		q, err := again.Attested.Quote()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tpm2.Marshal(again), raw) || !bytes.Equal(again.ExtraData.Buffer, a.extraData) ||
			!bytes.Equal(q.PCRDigest.Buffer, a.pcrDigest) || again.FirmwareVersion != a.firmware {
			t.Fatal("go-tpm reads it differently")
		}
		if n := len(a.indices()); n == 0 || n > MaxPCRs {
			t.Fatalf("%d registers", n)
		}
	})
}

// FuzzSignature: what is accepted, go-tpm writes back to the same bytes.
func FuzzSignature(f *testing.F) {
	f.Add(unhex(seedECCSignature))
	f.Add(append([]byte{0, 0x14, 0, 0x0b, 1, 0}, make([]byte, 256)...))
	f.Add([]byte{0, 0x10})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := parseSignature(raw); err != nil {
			mustRefuse(t, err)
			return
		}
		again, err := tpm2.Unmarshal[tpm2.TPMTSignature](raw)
		if err != nil || !bytes.Equal(tpm2.Marshal(again), raw) {
			t.Fatalf("go-tpm reads it differently: %v", err)
		}
	})
}

// FuzzPublic: what is accepted, go-tpm gives the same name and the same key.
func FuzzPublic(f *testing.F) {
	f.Add(unhex(seedECCPublic))
	rsa := append(unhex("0001000b00050072000000100014000b0800000000000100"), bytes.Repeat([]byte{0xc1}, 256)...)
	f.Add(rsa)
	f.Add(tpm2.Marshal(tpm2.RSAEKTemplate))
	f.Add(tpm2.Marshal(tpm2.ECCEKTemplate))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePublic(linkAK, raw)
		if err != nil {
			mustRefuse(t, err)
			return
		}
		again, err := tpm2.Unmarshal[tpm2.TPMTPublic](raw)
		if err != nil {
			t.Fatalf("go-tpm refuses it: %v", err)
		}
		name, err := tpm2.ObjectName(again)
		if err != nil || !bytes.Equal(name.Buffer, p.name) {
			t.Fatalf("go-tpm names it %x, not %x: %v", name, p.name, err)
		}
		key, err := tpm2.Pub(*again)
		if err != nil {
			t.Fatal(err)
		}
		if same, ok := p.key.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(key) {
			t.Fatal("go-tpm reads another key")
		}
		_, _ = p.checkAttestationKey(), p.checkEndorsementKey()
	})
}

// FuzzHCL: whatever is accepted is bound by its own report data and by no other.
func FuzzHCL(f *testing.F) {
	f.Add(seedHCL([]byte(seedRuntime)))
	f.Add(seedHCL([]byte("{}"))[:1237])
	_, reports := captured(f)
	for _, r := range reports {
		f.Add(r)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := ParseHCL(raw)
		if err != nil {
			mustRefuse(t, err)
			return
		}
		data := h.ReportData()
		if _, err := h.Bind(data); err != nil {
			mustRefuse(t, err)
		}
		data[63] ^= 1
		if _, err := h.Bind(data); err == nil {
			t.Fatal("bound by other report data")
		}
	})
}

// FuzzRuntime: runtime data that is accepted has exactly one attestation key, a strong one.
func FuzzRuntime(f *testing.F) {
	f.Add([]byte(seedRuntime))
	f.Add([]byte(`{"keys":[],"vm-configuration":{}}`))
	_, reports := captured(f)
	for _, r := range reports {
		if h, err := ParseHCL(r); err == nil {
			f.Add(h.runtime)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := readRuntime(SNP, raw)
		if err != nil {
			mustRefuse(t, err)
			return
		}
		if !strongKey(g.ak.key) || g.ak.origin != Paravisor {
			t.Fatal("no attestation key")
		}
	})
}

// seedHCL is a paravisor's report of an SNP machine around runtime data.
func seedHCL(runtime []byte) []byte {
	blob := make([]byte, hclDataOffset+hclDataSize, hclDataOffset+hclDataSize+len(runtime))
	copy(blob, hclMagic)
	blob = append(blob, runtime...)
	for at, v := range map[int]int{
		4: 2, 8: len(blob), 12: hclAKRequest, hclDataOffset: hclDataSize + len(runtime), hclDataOffset + 4: 1,
		hclDataOffset + 8: int(SNP), hclDataOffset + 12: 1, hclDataOffset + 16: len(runtime),
	} {
		binary.LittleEndian.PutUint32(blob[at:], uint32(v))
	}
	return blob
}

// TestSeeds: a fuzz target that starts from what is refused would find nothing.
func TestSeeds(t *testing.T) {
	t.Parallel()
	_, attest := parseAttest(unhex(seedAttest))
	_, signature := parseSignature(unhex(seedECCSignature))
	_, public := parsePublic(linkAK, unhex(seedECCPublic))
	h, hcl := ParseHCL(seedHCL([]byte(seedRuntime)))
	if err := errors.Join(attest, signature, public, hcl); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Bind(sha256Of([]byte(seedRuntime))); err != nil {
		t.Fatal(err)
	}
}

func sha256Of(b []byte) (out [64]byte) {
	sum := sha256.Sum256(b)
	copy(out[:], sum[:])
	return out
}

func mustRefuse(t *testing.T, err error) {
	t.Helper()
	for _, r := range refusal.All(err) {
		if r.Link == "" || !r.Code.Valid() || r.Want == "" || r.Got == "" || r.Next == "" || len(r.Error()) > 1<<10 {
			t.Fatalf("a refusal with a gap or without bound: %+v", r)
		}
	}
	if len(refusal.All(err)) == 0 {
		t.Fatalf("no refusal: %v", err)
	}
}
