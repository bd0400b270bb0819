// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// Offsets in a paravisor's report.
const (
	atVersion     = 4
	atReportSize  = 8
	atRequest     = 12
	atStatus      = 16
	atReserved    = 28
	atArea        = 0x20
	atData        = 0x20 + 1184
	atDataVersion = atData + 4
	atKind        = atData + 8
	atHash        = atData + 12
	atRuntimeSize = atData + 16
	atRuntime     = atData + 20
)

func filled(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }

func TestHCL(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	want := w.runtime(w.rsa)
	copy(want.UserData[:], filled(64))
	for hardware, size := range map[vtpm.Hardware]int{vtpm.SNP: 1184, vtpm.TDX: 1024} {
		runtime := want.JSON()
		h, err := vtpm.ParseHCL(vtpmtest.HCL(hardware, filled(size), runtime))
		if err != nil {
			t.Fatal(err)
		}
		if h.Hardware() != hardware || !bytes.Equal(h.HardwareReport(), filled(size)) || !bytes.Equal(h.RuntimeData(), runtime) {
			t.Errorf("%v with %d bytes, %s", h.Hardware(), len(h.HardwareReport()), h.RuntimeData())
		}
		if h.ReportData() != vtpmtest.ReportData(runtime) {
			t.Errorf("report data %x", h.ReportData())
		}
		g, err := h.Bind(vtpmtest.ReportData(runtime))
		if err != nil {
			t.Fatal(err)
		}
		if g.Hardware() != hardware || !bytes.Equal(g.UserData(), filled(64)) || g.Configuration().UniqueID() != want.UniqueID {
			t.Errorf("%v %x %+v", g.Hardware(), g.UserData(), g.Configuration())
		}
		if g.AK().Fingerprint() != w.certified(t, w.rsa).Fingerprint() || g.AK().CertificateDER() != nil {
			t.Error("another key")
		}
		for _, f := range []floor.Floor{floor.Signature, floor.Default, floor.Strict} {
			if err := g.Meets(f); err != nil {
				t.Errorf("floor %v: %v", f, err)
			}
		}
		wantFirst(t, g.Meets(0), refusal.Missing)
	}
	wantFirst(t, (*vtpm.Guest)(nil).Meets(floor.Signature), refusal.Missing)
	wantFirst(t, new(vtpm.Guest).Meets(floor.Signature), refusal.Missing)
}

func TestRefusedHCL(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	runtime := w.runtime(w.rsa).JSON()
	put := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], v); return b }
	}
	n := uint32(len(runtime))
	for name, tt := range map[string]struct {
		hardware vtpm.Hardware
		change   func([]byte) []byte
		code     refusal.Code
	}{
		"empty":               {vtpm.SNP, func([]byte) []byte { return nil }, refusal.Malformed},
		"cut in the header":   {vtpm.SNP, func(b []byte) []byte { return b[:20] }, refusal.Malformed},
		"cut in the data":     {vtpm.SNP, func(b []byte) []byte { return b[:atRuntime-1] }, refusal.Malformed},
		"cut in runtime data": {vtpm.SNP, func(b []byte) []byte { return b[:atRuntime+100] }, refusal.Malformed},
		"huge":                {vtpm.SNP, func(b []byte) []byte { return append(b, make([]byte, 64<<10)...) }, refusal.Malformed},
		"magic":               {vtpm.SNP, put(0, 0x414c4349), refusal.Malformed},
		"version 0":           {vtpm.SNP, put(atVersion, 0), refusal.Malformed},
		"version 3":           {vtpm.SNP, put(atVersion, 3), refusal.Malformed},
		"report size":         {vtpm.SNP, put(atReportSize, 2600), refusal.Malformed},
		"request":             {vtpm.SNP, put(atRequest, 1), refusal.Malformed},
		"status":              {vtpm.SNP, put(atStatus, 1), refusal.Malformed},
		"reserved":            {vtpm.SNP, put(atReserved, 1<<31), refusal.Malformed},
		"data size":           {vtpm.SNP, put(atData, 21+n), refusal.Malformed},
		"data version 0":      {vtpm.SNP, put(atDataVersion, 0), refusal.Malformed},
		"data version 3":      {vtpm.SNP, put(atDataVersion, 3), refusal.Malformed},
		"no hash":             {vtpm.SNP, put(atHash, 0), refusal.Malformed},
		"hash 4":              {vtpm.SNP, put(atHash, 4), refusal.Malformed},
		"no runtime data":     {vtpm.SNP, put(atRuntimeSize, 0), refusal.Malformed},
		"less runtime data":   {vtpm.SNP, put(atRuntimeSize, n-1), refusal.Malformed},
		"more runtime data":   {vtpm.SNP, put(atRuntimeSize, n+1), refusal.Malformed},
		"endless":             {vtpm.SNP, put(atRuntimeSize, 0xffffffff), refusal.Malformed},
		"after the end":       {vtpm.SNP, func(b []byte) []byte { b[len(b)-1] = 1; return b }, refusal.Malformed},
		"after the TDREPORT":  {vtpm.TDX, func(b []byte) []byte { b[atArea+1024] = 1; return b }, refusal.Malformed},
		"VBS":                 {1, func(b []byte) []byte { return b }, refusal.Chain},
		"trusted launch":      {3, func(b []byte) []byte { return b }, refusal.Chain},
		"invalid":             {0, func(b []byte) []byte { return b }, refusal.Chain},
		"future":              {5, func(b []byte) []byte { return b }, refusal.Chain},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := vtpm.ParseHCL(tt.change(vtpmtest.HCL(tt.hardware, filled(1024), runtime)))
			wantFirst(t, err, tt.code)
			if h != nil {
				t.Error("a report besides the refusal")
			}
		})
	}
	_, err := (*vtpm.HCL)(nil).Bind([64]byte{})
	wantFirst(t, err, refusal.Malformed)
	_, err = new(vtpm.HCL).Bind(new(vtpm.HCL).ReportData())
	wantFirst(t, err, refusal.Malformed)
}

// TestHCLVersions reads what newer paravisors may write: request data of version 2 with its extension, other hashes.
func TestHCLVersions(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	runtime := w.runtime(w.rsa).JSON()
	blob := vtpmtest.HCL(vtpm.SNP, nil, append([]byte{7, 0, 0, 0}, runtime...))
	binary.LittleEndian.PutUint32(blob[atDataVersion:], 2)
	binary.LittleEndian.PutUint32(blob[atRuntimeSize:], uint32(len(runtime)))
	h, err := vtpm.ParseHCL(blob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Bind(vtpmtest.ReportData(runtime)); err != nil {
		t.Error(err)
	}
	blob = vtpmtest.HCL(vtpm.SNP, nil, runtime)
	blob[atHash] = 3
	if h, err = vtpm.ParseHCL(blob); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Bind(sha512.Sum512(runtime)); err != nil {
		t.Error(err)
	}
	_, err = h.Bind(vtpmtest.ReportData(runtime))
	wantFirst(t, err, refusal.Binding)
	blob[atHash] = 2
	if h, err = vtpm.ParseHCL(blob); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(runtime)
	if _, err := h.Bind([64]byte(append(sum[:], make([]byte, 16)...))); err != nil {
		t.Error(err)
	}
}

// bind gives the verdict on runtime data that hardware binds.
func bind(t testing.TB, runtime string) (*vtpm.Guest, error) {
	t.Helper()
	h, err := vtpm.ParseHCL(vtpmtest.HCL(vtpm.SNP, nil, []byte(runtime)))
	if err != nil {
		t.Fatal(err)
	}
	return h.Bind(vtpmtest.ReportData([]byte(runtime)))
}

func TestRefusedRuntimeData(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	good := string(w.runtime(w.rsa).JSON())
	if _, err := bind(t, good); err != nil {
		t.Fatal(err)
	}
	key := good[strings.Index(good, `{"kid":"HCLAkPub"`):strings.Index(good, `,{"kid":"HCLEkPub"`)]
	other := string(w.runtime(w.otherRSA).JSON())
	otherKey := other[strings.Index(other, `{"kid":"HCLAkPub"`):strings.Index(other, `,{"kid":"HCLEkPub"`)]
	replace := func(old, now string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in the runtime data", old)
		}
		return strings.Replace(good, old, now, 1)
	}
	for name, runtime := range map[string]string{
		"no JSON":                "runtime data",
		"array":                  "[]",
		"null":                   "null",
		"trailing":               good + "{}",
		"trailing zero":          good + "\x00",
		"not UTF-8":              replace("11111111", "\xff\xfe"),
		"deep":                   strings.Repeat("[", 5000),
		"no keys":                replace(`"keys"`, `"keyz"`),
		"keys null":              `{"keys":null,"vm-configuration":{},"user-data":""}`,
		"keys empty":             `{"keys":[],"vm-configuration":{},"user-data":""}`,
		"keys object":            `{"keys":{},"vm-configuration":{},"user-data":""}`,
		"many keys":              replace(key, key+strings.Repeat(`,{"kid":"x"}`, 9)),
		"keys in capitals":       replace(`"keys"`, `"KEYS"`),
		"keys in both":           replace(`"keys"`, `"KEYS":[],"keys"`),
		"keys twice":             replace(`"keys"`, `"keys":[`+otherKey+`],"keys"`),
		"two AKs":                replace(key, key+","+otherKey),
		"the AK twice":           replace(key, key+","+key),
		"AK name in lower case":  replace("HCLAkPub", "hclakpub"),
		"two AKs by case":        replace(key, key+","+strings.Replace(otherKey, "HCLAkPub", "HCLAKPUB", 1)),
		"AK only as EK":          replace(key+",", ""),
		"two EKs":                replace(key, key+","+strings.Replace(otherKey, "HCLAkPub", "HCLEkPub", 1)),
		"no kid":                 replace(`"kid":"HCLAkPub",`, ""),
		"kid a number":           replace(`"HCLAkPub"`, "1"),
		"kid null":               replace(`"HCLAkPub"`, "null"),
		"kid twice":              replace(`"kid":"HCLAkPub"`, `"kid":"x","kid":"HCLAkPub"`),
		"kid in both cases":      replace(`"kid":"HCLAkPub"`, `"Kid":"x","kid":"HCLAkPub"`),
		"key not an object":      replace(key, `"HCLAkPub"`),
		"kty EC":                 replace(`"kty":"RSA"`, `"kty":"EC"`),
		"no kty":                 replace(`"kty":"RSA",`, ""),
		"exponent 3":             replace(`"e":"AQAB"`, `"e":"Aw"`),
		"exponent padded":        replace(`"e":"AQAB"`, `"e":"AAEAAQ"`),
		"no modulus":             replace(`"n":`, `"m":`),
		"N for n":                replace(`"n":`, `"N":`),
		"modulus empty":          replace(`"n":"`, `"n":"","o":"`),
		"modulus not base64url":  replace(`"n":"`, `"n":"+`),
		"modulus with a newline": replace(`"n":"`, `"n":"\n`),
		"modulus with zero":      replace(`"n":"`, `"n":"AAAA`),
		"no configuration":       replace(`"vm-configuration"`, `"vm-config"`),
		"configuration null":     `{"keys":[` + key + `],"vm-configuration":null,"user-data":""}`,
		"configuration array":    `{"keys":[` + key + `],"vm-configuration":[],"user-data":""}`,
		"configuration by case":  replace(`"vm-configuration"`, `"VM-Configuration":{"secure-boot":true},"vm-configuration"`),
		"secure boot a word":     replace(`"secure-boot":true`, `"secure-boot":"true"`),
		"secure boot null":       replace(`"secure-boot":true`, `"secure-boot":null`),
		"secure boot twice":      replace(`"secure-boot":true`, `"secure-boot":false,"secure-boot":true`),
		"secure boot by case":    replace(`"secure-boot":true`, `"Secure-Boot":true`),
		"secure boot, long s":    replace(`"secure-boot":true`, `"\u017fecure-boot":true,"secure-boot":false`),
		"unique id a number":     replace(`"vmUniqueId":"`, `"vmUniqueId":1,"x":"`),
		"user data odd":          replace(`"user-data":"0`, `"user-data":"`),
		"user data short":        replace(`"user-data":"00`, `"user-data":"`),
		"user data null":         replace(`"user-data":"`, `"user-data":null,"x":"`),
		"user data no hex":       replace(`"user-data":"0`, `"user-data":"z`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := bind(t, runtime)
			wantFirst(t, err, refusal.Malformed)
			if g != nil {
				t.Error("a guest besides the refusal")
			}
		})
	}
	_, err := bind(t, replace(`"n":"`, `"n":"AQAB","o":"`))
	wantFirst(t, err, refusal.Chain) // a key too short to trust
}

// TestRuntimeDataGrows: Azure adds members; what is not known is passed over and what is missing is not made up.
func TestRuntimeDataGrows(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	good := string(w.runtime(w.rsa).JSON())
	full := strings.Replace(good, `"tpm-enabled":true`, `"tpm-enabled":true,"tpm-persisted":false,"interactive-console-enabled":false,`+
		`"filtered-vpci-devices-allowed":true,"root-cert-thumbprint":"AAAA","hardware-sealing-policy":"signer","current-time":1`, 1)
	full = strings.Replace(full, `"user-data"`, `"later":{"Keys":[1]},"user-data"`, 1)
	full = strings.Replace(full, `{"kid":"HCLEkPub"`, `{"kid":"HCLLaterKey","later":[]},{"kid":"HCLEkPub"`, 1)
	g, err := bind(t, full)
	if err != nil {
		t.Fatal(err)
	}
	c := g.Configuration()
	for name, tt := range map[string]struct {
		of   func() (on, known bool)
		want bool
	}{
		"secure boot": {c.SecureBoot, true}, "console": {c.Console, false}, "interactive console": {c.InteractiveConsole, false},
		"tpm": {c.TPM, true}, "tpm persisted": {c.TPMPersisted, false}, "filtered devices": {c.FilteredDevices, true},
	} {
		if on, known := tt.of(); on != tt.want || !known {
			t.Errorf("%s: %v %v", name, on, known)
		}
	}
	if c.RootCertThumbprint() != "AAAA" {
		t.Errorf("thumbprint %q", c.RootCertThumbprint())
	}
	without := good[:strings.Index(good, `,"user-data"`)] + "}"
	if g, err = bind(t, without); err != nil || g.UserData() != nil {
		t.Errorf("without user data: %v", err)
	}
	if _, known := g.Configuration().InteractiveConsole(); known {
		t.Error("a switch that was not stated")
	}
}

// TestAttackWeakConfiguration: a paravisor that says so, or says nothing, of a machine without secure boot or with a console.
func TestAttackWeakConfiguration(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	good := string(w.runtime(w.rsa).JSON())
	for name, tt := range map[string]struct {
		old, now        string
		byDefault, hard bool
	}{
		"secure boot off":        {`"secure-boot":true`, `"secure-boot":false`, true, true},
		"secure boot not stated": {`"secure-boot":true,`, ``, true, true},
		"tpm off":                {`"tpm-enabled":true`, `"tpm-enabled":false`, true, true},
		"tpm not stated":         {`"tpm-enabled":true,`, ``, true, true},
		"console on":             {`"console-enabled":false`, `"console-enabled":true`, false, true},
		"console not stated":     {`"console-enabled":false,`, ``, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := bind(t, strings.Replace(good, tt.old, tt.now, 1))
			if err != nil {
				t.Fatal(err)
			}
			if err := g.Meets(floor.Signature); err != nil {
				t.Errorf("floor signature: %v", err)
			}
			for f, refused := range map[floor.Floor]bool{floor.Default: tt.byDefault, floor.Strict: tt.hard} {
				if refused {
					wantFirst(t, g.Meets(f), refusal.Policy)
				} else if err := g.Meets(f); err != nil {
					t.Errorf("floor %v: %v", f, err)
				}
			}
		})
	}
}
