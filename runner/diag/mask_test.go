// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/kettle/attest/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func secrets(values ...string) []secret.String {
	var all []secret.String
	for _, v := range values {
		all = append(all, secret.New(v))
	}
	return all
}

// masked writes a text in pieces of step bytes, each of which is looked at at once.
func masked(t testing.TB, m *Masker, text string, step int) string {
	t.Helper()
	var out bytes.Buffer
	w := m.Writer(&out)
	w.block = 1
	for rest := text; rest != ""; {
		n := min(step, len(rest))
		if k, err := w.Write([]byte(rest[:n])); k != n || err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), m.Marker()); n < w.Masked() {
		t.Errorf("says %d masks, shows %d", w.Masked(), n)
	}
	return out.String()
}

// awkward is a secret in which everything is escaped somewhere.
const awkward = `p&ss'w"ord<é>/+\` + "\t\u2028=$ü %"

func TestForms(t *testing.T) {
	t.Parallel()
	m := NewMasker(secrets(awkward, "line one of it\n  line two of it  \nno"))
	encoded, _ := json.Marshal(awkward)
	for _, text := range []string{
		awkward, url.QueryEscape(awkward), url.PathEscape(awkward), string(encoded[1 : len(encoded)-1]),
		`p&ss'w\"ord<é>/+\\\t\u2028=$ü %`, "p&amp;ss&apos;w&quot;ord&lt;é&gt;/+\\\t\u2028=$ü %", `p&ss''w"ord<é>/+\` + "\t\u2028=$ü %",
		`p&ss'w\"ord<é>/+\` + "\t\u2028=$ü %", fmt.Sprintf("%x", awkward), fmt.Sprintf("%X", awkward),
		"p%26ss%27w%22ord%3C%C3%A9%3E%2F%2B%5C%09%E2%80%A8%3D%24%C3%BC%20%25", "p%26ss%27w%22ord%3c%c3%a9%3e%2f%2b%5c%09%e2%80%a8%3d%24%c3%bc%20%25",
		"line one of it", "line two of it", base64.StdEncoding.EncodeToString([]byte("line two of it")),
	} {
		if got := masked(t, m, "before "+text+" after", 3); got != "before *** after" {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

// TestBase64Anywhere: whatever stands around a secret before it is encoded, none of it can be decoded.
func TestBase64Anywhere(t *testing.T) {
	t.Parallel()
	const value = "a secret of some length?>~"
	m := NewMasker(secrets(value))
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		for before := range 7 {
			for after := range 4 {
				text := enc.EncodeToString([]byte(strings.Repeat("u", before) + value + strings.Repeat(":", after)))
				got := masked(t, m, text, 5)
				if !strings.Contains(got, "***") || len(got) > len(text)-len(value)*4/3+8 {
					t.Errorf("%d before, %d after: %q became %q", before, after, text, got)
				}
			}
		}
	}
}

// TestAttackOverlaps: secrets that share bytes, with each other and with what stands in their place.
func TestAttackOverlaps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		secrets    []string
		text, want string
	}{
		{[]string{"abcdef", "defghi"}, "xabcdefghix", "x***x"},
		{[]string{"abcd", "efgh"}, "xabcdefghx", "x***x"},
		{[]string{"abcdefgh", "cdef"}, "xabcdefghx cdef", "x***x ***"},
		{[]string{"aaaa"}, "xaaaaaaax", "x***x"},
		{[]string{"abcd"}, "abcabcd abc", "abc*** abc"},
		{[]string{"**ab"}, "xx**ab*ab", "xx###*ab"},        // the marker has no part in a secret
		{[]string{"ab**", "#abc"}, "#abc#ab**", "~~~#~~~"}, // nor have its pieces
		{[]string{"abcdefghij"}, "x abcdefgh", "x ***"},    // whoever wrote it died
		{[]string{"abcdefghij"}, "x abcdefg", "x abcdefg"},
		{[]string{"abcdefghij"}, "", ""},
		{[]string{"", "a", "ab", "abc", "  a\n"}, "a ab abc", "a ab abc"},
	} {
		m := NewMasker(secrets(tc.secrets...))
		for step := 1; step <= len(tc.text)+1; step++ {
			if got := masked(t, m, tc.text, step); got != tc.want {
				t.Errorf("%q without %q in steps of %d: got %q", tc.text, tc.secrets, step, got)
			}
		}
	}
	if m := NewMasker(secrets("", "abc", "abcd")); m.short != 2 {
		t.Errorf("%d are too short", m.short)
	}
}

// TestNoMarkerLeft: without a character for the marker nothing is passed on.
func TestNoMarkerLeft(t *testing.T) {
	t.Parallel()
	m := NewMasker(secrets("*#~^_!%+=@.x"))
	var out bytes.Buffer
	if n, err := m.Writer(&out).Write([]byte("text")); n != 0 || err == nil || m.Marker() != "" {
		t.Errorf("wrote %d: %v", n, err)
	}
}

func TestShapes(t *testing.T) {
	t.Parallel()
	const key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB\n\nMIIEpAIB+/AAK\nabc=\n-----END RSA PRIVATE KEY-----\n"
	long := strings.Repeat("Ab9", 12)
	m := NewMasker(nil)
	for text, want := range map[string]string{
		"x ghp_" + long + " y": "x ghp_*** y", "gho_" + long: "gho_***", "ghs_" + long: "ghs_***", "ghr_" + long: "ghr_***", "ghu_" + long: "ghu_***",
		"ghs_123_eyJhbGciOi.eyJ-x_z.sig,":                           "ghs_***,",
		"github_pat_11ABCDEFG0_" + long + "\n":                      "github_pat_***\n",
		"t=eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl;":      "t=eyJ***;",
		"AKIAIOSFODNN7EXAMPLE,":                                     "AKIA***,",
		"ASIAIOSFODNN7EXAMPLE x":                                    "ASIA*** x",
		"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY k":  "aws_secret_access_key = *** k",
		`"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCY"`:       `"SecretAccessKey": "***"`,
		`AWS_SESSION_TOKEN=FwoGZXIvYXdzEJr//////////wEa`:            `AWS_SESSION_TOKEN=***`,
		"Authorization: Bearer abc def\r\nHost: x":                  "Authorization: ***\r\nHost: x",
		"authorization=Basic dTpw\nx":                               "authorization=***\nx",
		`{"Authorization":"token t","a":1}`:                         `{"Authorization":"***","a":1}`,
		`{\"AUTHORIZATION\": \"token t\", \"a\"`:                    `{\"AUTHORIZATION\": \"***", \"a\"`,
		"Authorization: ghs_" + long + " and more\nnext":            "Authorization: ***\nnext",
		"x\n" + key + "y":                                           "x\n-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\ny",
		"-----BEGIN PRIVATE KEY-----\nMIIE\n[log] y":                "-----BEGIN PRIVATE KEY-----***[log] y",
		`"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\nbnNz\n-----E"`: `"-----BEGIN OPENSSH PRIVATE KEY-----***-----E"`,
		base64.StdEncoding.EncodeToString([]byte(key)) + "\n":       "LS0tLS1CRUdJTi***\n",
	} {
		for _, step := range []int{1, 2, 7, len(text)} {
			if got := masked(t, m, text, step); got != want {
				t.Errorf("%q in steps of %d: got %q, want %q", text, step, got, want)
			}
		}
	}
}

// TestHarmless: what is no secret stays as it is.
func TestHarmless(t *testing.T) {
	t.Parallel()
	m := NewMasker(secrets("hunter2 is the password"))
	for _, text := range []string{
		"", "a", "abc", "ghp_", "ghs_short", "ghx_" + strings.Repeat("a", 36), "eyJ", "the keyJ", "AKIA is a prefix", "akiaiosfodnn7example",
		`{"authorizationUrl":"https://github.example"}`, "authorization is needed", "Authorization:\n", "secret_access_key is not set",
		"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "-----------------------", "hunter2 is the pass of",
		"-----BEGIN " + strings.Repeat("A", 99) + " PRIVATE KEY-----\nMII", strings.Repeat("-----BEGIN ", 20),
	} {
		for _, step := range []int{1, 3, 1000} {
			if got := masked(t, m, text, step); got != text {
				t.Errorf("%q became %q", text, got)
			}
		}
	}
}

// random makes secrets that are like others, in parts and in characters, and a text of their forms and of parts of them.
func random(r *rand.Rand) ([]secret.String, string) {
	alphabet := []string{"a", "b", "ab", `"`, "*", "\n", "é", "/", "+", "<", "\xff", "ghp_", "eyJ", "="}[:2+r.IntN(13)]
	word := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		return b.String()
	}
	var all []secret.String
	var pool []string
	for range 1 + r.IntN(4) {
		value := word(4 + r.IntN(20))
		all = append(all, secret.New(value))
		for form := range forms(value) {
			pool = append(pool, form, form[:r.IntN(len(form))], form[r.IntN(len(form)):])
		}
	}
	var text strings.Builder
	for range r.IntN(12) {
		if len(pool) > 0 && r.IntN(3) > 0 {
			text.WriteString(pool[r.IntN(len(pool))])
		} else {
			text.WriteString(word(r.IntN(9)))
		}
	}
	return all, text.String()
}

// survivor finds a form of a secret in an output.
func survivor(all []secret.String, out string) string {
	for _, s := range all {
		if len(strings.TrimSpace(s.Reveal())) < least {
			continue
		}
		for form := range forms(s.Reveal()) {
			if strings.Contains(out, form) {
				return form
			}
		}
	}
	return ""
}

// TestAttackBorders cuts random texts at every border.
func TestAttackBorders(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 600 {
		all, text := random(r)
		m := NewMasker(all)
		if m.marker == nil {
			continue
		}
		want := masked(t, m, text, len(text)+1)
		if form := survivor(all, want); form != "" {
			t.Fatalf("%q survives in %q of %q", form, want, text)
		}
		for _, step := range []int{1, 2, 3, 1 + r.IntN(40)} {
			if got := masked(t, m, text, step); got != want {
				t.Fatalf("%q in steps of %d: got %q, want %q", text, step, got, want)
			}
		}
	}
}

// TestAttackCut cuts a text that is too long everywhere around a secret: no part of it is left.
func TestAttackCut(t *testing.T) {
	t.Parallel()
	const value = "The-secret-0123456789-abcdefghijklm"
	m := NewMasker(secrets(value))
	for _, form := range []string{value, base64.StdEncoding.EncodeToString([]byte(value)), fmt.Sprintf("%x", value)} {
		text := []byte(strings.Repeat(".", 700) + form + strings.Repeat(",", 500) + form + strings.Repeat(";", 900))
		for most := int64(200); most < int64(len(text)); most++ {
			got, left, n := m.cut(whole(text), most)
			if int64(len(got)) > most || n > 2 || left <= 0 {
				t.Fatalf("of %d bytes: %d are kept, %d left, %d masked", most, len(got), left, n)
			}
			for i := 0; i+6 <= len(form)-2; i++ {
				if bytes.Contains(got, []byte(form[i:i+6])) {
					t.Fatalf("of %d bytes: %q is left in %q", most, form[i:i+6], got)
				}
			}
		}
	}
}

func TestJIT(t *testing.T) {
	t.Parallel()
	std := base64.StdEncoding.EncodeToString
	rsa := `{"d":"ZGRkZGRk","dp":"ZHBkcGRw","exponent":"AQAB","modulus":"bW9kdWx1cw==","p":"cHBwcHBw","q":7}`
	credentials := `{"Scheme":"OAuth","Data":{"clientId":"c"}}`
	outer, _ := json.Marshal(map[string]string{".runner": std([]byte(`{"AgentName":"kettle-1"}`)), ".credentials": std([]byte(credentials)), ".credentials_rsaparams": std([]byte(rsa))})
	all := JIT(secret.New(std(outer)))
	found := map[string]bool{}
	for _, s := range all {
		found[s.Reveal()] = true
	}
	for _, want := range []string{std(outer), string(outer), rsa, std([]byte(rsa)), credentials, std([]byte(credentials)), "ZGRkZGRk", "ZHBkcGRw", "cHBwcHBw"} {
		if !found[want] {
			t.Errorf("not listed: %q", want)
		}
	}
	for _, public := range []string{"bW9kdWx1cw==", "AQAB", "kettle-1"} {
		if found[public] {
			t.Errorf("listed: %q", public)
		}
	}
	m := NewMasker(all)
	if got := masked(t, m, "got "+std(outer)+"\nkey ZGRkZGRk of kettle-1", 9); got != "got ***\nkey *** of kettle-1" {
		t.Errorf("got %q", got)
	}
	for _, blob := range []string{"", "no base64!", std([]byte("no JSON")), std([]byte(`{".credentials":"!"}`)), std([]byte(`{".credentials_rsaparams":"` + std([]byte("[]")) + `"}`))} {
		if got := JIT(secret.New(blob)); len(got) == 0 || got[0].Reveal() != blob {
			t.Errorf("%q: got %d", blob, len(got))
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add("a secret", "text with a secret and a%20secret and YSBzZWNyZXQ=", 3)
	f.Add("eyJhbGciOiJSUzI1NiJ9", "Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.x\n-----BEGIN PRIVATE KEY-----\nMII", 1)
	f.Add("one line\nand another", "one line and another one line\\nand another", 2)
	f.Add("****####", "##****####**", 1)
	f.Fuzz(func(t *testing.T, value, text string, step int) {
		all := secrets(value)
		m := NewMasker(all)
		if m.marker == nil {
			return
		}
		for form := range forms(value) {
			text += form[:len(form)/2] + form + "|" + form + form[len(form)/2:]
			if len(text) > 1<<16 {
				break
			}
		}
		want := masked(t, m, text, len(text)+1)
		if form := survivor(all, want); form != "" {
			t.Errorf("%q survives in %q", form, want)
		}
		if got := masked(t, m, text, 1+int(uint(step)%61)); got != want { //nolint:gosec // any step.
			t.Errorf("in steps: got %q, want %q", got, want)
		}
		half := len(text) / 2
		got, _ := m.window([]byte(text), half/2, half)
		if form := survivor(all, string(got)); form != "" {
			t.Errorf("%q survives in the window %q", form, got)
		}
	})
}

// log is what a runner program's log looks like.
func log(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "[2026-11-22 04:05:%02dZ INFO HostContext] Well known directory 'Diag': '/home/runner/actions-runner/_diag' (%d)\n", i%60, i)
	}
	return b.Bytes()[:size]
}

func BenchmarkMask(b *testing.B) {
	jit := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(`{"d":"ZGRkZGRk","dp":"ZHBk"}`), 120))
	m := NewMasker(append(JIT(secret.New(jit)), secrets("ghs_0123456789abcdefghijABCDEFGHIJ012345", "another token, and a longer one")...))
	text := log(4 << 20)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, n := m.window(text, 0, len(text)); n != 0 {
			b.Fatal(n)
		}
	}
}

// BenchmarkMaskHostile masks what takes the longest: a job that repeats the beginnings of what is looked for.
func BenchmarkMaskHostile(b *testing.B) {
	jit := "eyJ" + strings.Repeat("abcdefghij", 400)
	m := NewMasker(secrets(jit))
	for name, unit := range map[string]string{"secret": jit[:3900] + " ", "pem": "-----BEGIN A ", "header": "authorization:", "eyJ": "eyJ", "run": "ghs_aaaaaaaaaaaaaaaa"} {
		b.Run(name, func(b *testing.B) {
			text := bytes.Repeat([]byte(unit), 1<<20/len(unit))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				m.window(text, 0, len(text))
			}
		})
	}
}
