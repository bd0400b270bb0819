// SPDX-License-Identifier: Apache-2.0

package binding

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"

	"github.com/kettle/attest/attest/refusal"
)

const build = "https://github.com/acme/widget/actions/runs/1/attempts/2/job/3"

func digest(n byte) (d Digest) {
	for i := range d {
		d[i] = n
	}
	return d
}

func contexts() map[Purpose]Context {
	return map[Purpose]Context{
		Boot:      {V: 1, Purpose: Boot, EnvironmentKey: digest(1)},
		Admission: {V: 1, Purpose: Admission, EnvironmentKey: digest(1), Nonce: digest(2), HPKEKey: digest(3)},
		Dispatch:  {V: 1, Purpose: Dispatch, EnvironmentKey: digest(1), Nonce: digest(2), BuildID: build, BootEvidence: digest(4)},
		Response: {V: 1, Purpose: Response, EnvironmentKey: digest(1), BuildID: build, StatementKey: digest(5), Dispatch: digest(6),
			Sequence: 7, EventLogHead: digest(8)},
		Final: {V: 1, Purpose: Final, EnvironmentKey: digest(1), BuildID: build, StatementKey: digest(5), Dispatch: digest(6),
			EventLogHead: digest(8)},
	}
}

func rep(hexByte string) string { return strings.Repeat(hexByte, 32) }

// TestGolden holds the bytes of version 1. It may never change: quotes of the past carry them. They were computed by
// another program, in another language. A change of any of them is version 2.
func TestGolden(t *testing.T) {
	t.Parallel()
	tests := map[Purpose]struct{ context, reportData string }{
		Boot: {
			`{"environmentKey":"` + rep("01") + `","purpose":"boot","v":1}`,
			"0fe97a55b7d989edcdd61cac4b34fd03445818a30c16b5d7242bcb136eff3460f216076887822f831974c26674cae6991a6a5501f3bffd4c4ca850cbb72d4cae",
		},
		Admission: {
			`{"environmentKey":"` + rep("01") + `","hpkeKey":"` + rep("03") + `","nonce":"` + rep("02") + `","purpose":"admission","v":1}`,
			"0e2c8b214d43b4179fc6cad7b8cc6bdd896b13323332d74fd2289905222e2a5bbdca80066e009e6d97f7297cc42ffd9e442be8a2316db324a60df74e4baa7f01",
		},
		Dispatch: {
			`{"bootEvidence":"` + rep("04") + `","buildId":"` + build + `","environmentKey":"` + rep("01") + `","nonce":"` + rep("02") +
				`","purpose":"dispatch","v":1}`,
			"df7b6e8a9dacf29bc59e951960e14d16c76b54c8dc40edaa52dddc59faab814b9b726660b6a9ea0992e64dd9eaf5079fb82ef04702da3d9694a4f5c4cdeae245",
		},
		Response: {
			`{"buildId":"` + build + `","dispatch":"` + rep("06") + `","environmentKey":"` + rep("01") + `","eventLogHead":"` + rep("08") +
				`","purpose":"response","sequence":7,"statementKey":"` + rep("05") + `","v":1}`,
			"9d2ccab541b861104a0bef976a4aae7f0f08c76af05ce66b36b3fc052933abcc959927eae31a3803079f746802b6910b0d6623a40788984df1c29c13642c65f7",
		},
		Final: {
			`{"buildId":"` + build + `","dispatch":"` + rep("06") + `","environmentKey":"` + rep("01") + `","eventLogHead":"` + rep("08") +
				`","purpose":"final","statementKey":"` + rep("05") + `","v":1}`,
			"6f2990393d14e35ecbdaa2d590b8ece0ecb82c12881e7a60076096eb16d01c8c1309cf8429dad180ee66f44e3c8dafa76f78a4212e00c08b710b90e9410164b0",
		},
	}
	for purpose, tc := range tests {
		c := contexts()[purpose]
		b, err := c.Canonical()
		if err != nil || string(b) != tc.context {
			t.Errorf("%s: %s, %v; want %s", purpose, b, err, tc.context)
		}
		rd := ReportData([]byte("payload of "+string(purpose)), b)
		if got := hex.EncodeToString(rd[:]); got != tc.reportData {
			t.Errorf("%s: report data %s, want %s", purpose, got, tc.reportData)
		}
		back, err := Parse([]byte(tc.context))
		if err != nil || back != c {
			t.Errorf("%s: parsed %+v, %v", purpose, back, err)
		}
		other, err := jsoncanonicalizer.Transform(b)
		if err != nil || !bytes.Equal(other, b) {
			t.Errorf("%s: another implementation of RFC 8785 gives %s, %v", purpose, other, err)
		}
	}
}

// TestExactFields blanks each field that a purpose has, and sets each that it has not: both are refused.
func TestExactFields(t *testing.T) {
	t.Parallel()
	fields := map[string]struct{ blank, set func(*Context) }{
		"nonce":  {func(c *Context) { c.Nonce = Digest{} }, func(c *Context) { c.Nonce = digest(9) }},
		"hpke":   {func(c *Context) { c.HPKEKey = Digest{} }, func(c *Context) { c.HPKEKey = digest(9) }},
		"build":  {func(c *Context) { c.BuildID = "" }, func(c *Context) { c.BuildID = build }},
		"boot":   {func(c *Context) { c.BootEvidence = Digest{} }, func(c *Context) { c.BootEvidence = digest(9) }},
		"signer": {func(c *Context) { c.StatementKey = Digest{} }, func(c *Context) { c.StatementKey = digest(9) }},
		"job":    {func(c *Context) { c.Dispatch = Digest{} }, func(c *Context) { c.Dispatch = digest(9) }},
		"seq":    {func(c *Context) { c.Sequence = 0 }, func(c *Context) { c.Sequence = 1 }},
		"head":   {func(c *Context) { c.EventLogHead = Digest{} }, func(c *Context) { c.EventLogHead = digest(9) }},
	}
	has := map[Purpose]string{
		Boot: "", Admission: "nonce hpke", Dispatch: "nonce build boot", Response: "build signer job seq head", Final: "build signer job head",
	}
	refused := func(name string, c Context) {
		t.Helper()
		if b, err := c.Canonical(); !errors.Is(err, refusal.ErrMalformed) || b != nil {
			t.Errorf("%s: %+v accepted: %v", name, c, err)
		}
	}
	for purpose, whole := range contexts() {
		for name, f := range fields {
			c, change := whole, f.set
			if strings.Contains(has[purpose], name) {
				change = f.blank
			}
			change(&c)
			refused(string(purpose)+", "+name, c)
		}
		for name, change := range map[string]func(*Context){
			"no version": func(c *Context) { c.V = 0 }, "version 2": func(c *Context) { c.V = 2 },
			"no purpose": func(c *Context) { c.Purpose = "" }, "other purpose": func(c *Context) { c.Purpose = "other" },
			"no key": func(c *Context) { c.EnvironmentKey = Digest{} }, "negative": func(c *Context) { c.Sequence = -1 },
		} {
			c := whole
			change(&c)
			refused(string(purpose)+", "+name, c)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := `{"environmentKey":"` + rep("01") + `","purpose":"boot","v":1}`
	long := strings.Replace(good, "boot", strings.Repeat("b", MaxContext), 1)
	response, err := contexts()[Response].Canonical()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]string{
		"empty":           "",
		"not JSON":        "{",
		"null":            "null",
		"array":           "[" + good + "]",
		"trailing":        good + "{}",
		"trailing space":  good + " ",
		"newline":         good + "\n",
		"leading space":   " " + good,
		"white space":     strings.Replace(good, ",", ", ", 1),
		"order":           `{"purpose":"boot","environmentKey":"` + rep("01") + `","v":1}`,
		"repeated":        strings.Replace(good, `"v":1`, `"v":1,"v":1`, 1),
		"unknown":         strings.Replace(good, `"v":1`, `"v":1,"x":1`, 1),
		"null field":      strings.Replace(good, `"v":1`, `"nonce":null,"v":1`, 1),
		"zero field":      strings.Replace(good, `"purpose"`, `"nonce":"`+rep("00")+`","purpose"`, 1),
		"case":            strings.Replace(good, `"v"`, `"V"`, 1),
		"number as text":  strings.Replace(good, `"v":1`, `"v":"1"`, 1),
		"float":           strings.Replace(good, `"v":1`, `"v":1.0`, 1),
		"upper case":      strings.Replace(good, rep("01"), rep("AB"), 1),
		"short digest":    strings.Replace(good, rep("01"), "01", 1),
		"not hexadecimal": strings.Replace(good, rep("01"), rep("zz"), 1),
		"version":         strings.Replace(good, `"v":1`, `"v":2`, 1),
		"escape":          strings.Replace(good, "boot", `b\u006fot`, 1),
		"too long":        long,
		"build ID":        strings.Replace(string(response), build, build+`\u003c`, 1),
		"negative":        strings.Replace(string(response), `:7,`, `:-7,`, 1),
		"huge sequence":   strings.Replace(string(response), `:7,`, `:2147483648,`, 1),
	} {
		if c, err := Parse([]byte(b)); !errors.Is(err, refusal.ErrMalformed) || c != (Context{}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for _, id := range []string{"a b", "a\n", "a\"b", `a\b`, "a<b", "a>b", "a&b", "é", "\x7f"} {
		c := contexts()[Dispatch]
		if c.BuildID = id; c.Validate() == nil {
			t.Errorf("build ID %q accepted", id)
		}
	}
	c := contexts()[Response]
	if c.Sequence = MaxSequence; c.Validate() != nil {
		t.Errorf("sequence %d refused", c.Sequence)
	}
}

// TestExtraData holds the bytes for a TPM. They were computed by another program.
func TestExtraData(t *testing.T) {
	t.Parallel()
	b, err := contexts()[Boot].Canonical()
	if err != nil {
		t.Fatal(err)
	}
	rd, x := ReportData([]byte("payload"), b), ExtraData([]byte("payload"), b)
	if x != Sum(rd[:]) || x.String() != "18dd8cbd2232e63b1ab370336b8cac8d37d1fa8a739d7d2add68e6599b71d552" {
		t.Errorf("extra data %s over %x", x, rd)
	}
}

// TestCheck shows that a quote is only ever taken for what it was made for.
func TestCheck(t *testing.T) {
	t.Parallel()
	payload := []byte("payload")
	for made, c := range contexts() {
		b, err := c.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		rd := ReportData(payload, b)
		for demanded := range contexts() {
			got, err := Check(rd, payload, b, demanded)
			if made == demanded && (err != nil || got != c) {
				t.Errorf("%s: %v", made, err)
			}
			if made != demanded && (!errors.Is(err, refusal.ErrBinding) || got != (Context{})) {
				t.Errorf("made for %s, taken for %s: %v", made, demanded, err)
			}
		}
		x := ExtraData(payload, b)
		for demanded := range contexts() {
			if got, err := CheckExtraData(x[:], payload, b, demanded); (err == nil) != (made == demanded) || (got == c) != (made == demanded) {
				t.Errorf("extra data made for %s, taken for %s: %v", made, demanded, err)
			}
		}
		for _, bad := range [][]byte{nil, x[:31], append(x[:], 0), rd[:], rd[:32]} {
			if _, err := CheckExtraData(bad, payload, b, made); !errors.Is(err, refusal.ErrBinding) {
				t.Errorf("%s: extra data of %d bytes: %v", made, len(bad), err)
			}
		}
		if _, err := Check(rd, []byte("payload."), b, made); !errors.Is(err, refusal.ErrBinding) {
			t.Errorf("%s: another payload: %v", made, err)
		}
		for i := range rd {
			bad := rd
			bad[i] ^= 0x80
			if _, err := Check(bad, payload, b, made); !errors.Is(err, refusal.ErrBinding) {
				t.Errorf("%s: byte %d of the report data: %v", made, i, err)
			}
		}
		other := c
		other.EnvironmentKey = digest(0xee)
		ob, err := other.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Check(rd, payload, ob, made); !errors.Is(err, refusal.ErrBinding) {
			t.Errorf("%s: another context: %v", made, err)
		}
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	var d Digest
	if _, err := rand.Read(d[:]); err != nil {
		t.Fatal(err)
	}
	back, err := ParseDigest(d.String())
	if err != nil || back != d || d.IsZero() || !(Digest{}).IsZero() {
		t.Errorf("round trip: %v %v", back, err)
	}
	for _, s := range []string{"", "00", strings.ToUpper(rep("ab")), rep("ab") + "0", rep("ab") + "00", rep("g0"), " " + rep("ab")[1:]} {
		if _, err := ParseDigest(s); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
	if err := json.Unmarshal([]byte(`"`+strings.ToUpper(rep("ab"))+`"`), &d); err == nil {
		t.Error("upper case accepted in JSON")
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range contexts() {
		b, err := c.Canonical()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			if c != (Context{}) {
				t.Fatal("a context and an error")
			}
			return
		}
		again, err := c.Canonical()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("parsed %q, gives %q, %v", b, again, err)
		}
		other, err := jsoncanonicalizer.Transform(b)
		if err != nil || !bytes.Equal(other, b) {
			t.Fatalf("RFC 8785 of %q is %q, %v", b, other, err)
		}
	})
}
