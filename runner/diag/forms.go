// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/url"
	"strings"
)

// Bounds on what is masked. Shorter texts than least are no secrets: masking them would take much else away. Longer ones
// than pieceSize are masked piece by piece, so that no form is longer than margin: JSON needs up to six bytes for one.
const (
	least     = 4
	leastLine = 8 // of a secret of several lines, by itself
	pieceSize = 16 << 10
)

// forms lists how a secret may be written: as it is, each of its lines, and each of those in base64 whatever stands before
// it, in hexadecimal, and escaped for URLs, JSON, XML, command lines and expressions. These are the forms that GitHub's
// runner masks (HostContext.cs, ValueEncoders.cs), but for those of PowerShell. In base64 only the digits that
// depend on nothing but the secret are part of the form.
func forms(value string) map[string]bool {
	found := map[string]bool{}
	for _, text := range texts(value) {
		for len(text) > 0 {
			piece := text[:min(pieceSize, len(text))]
			text = text[len(piece):]
			for _, form := range encodings(piece) {
				if len(form) >= least {
					found[form] = true
				}
			}
		}
	}
	return found
}

// texts are the secret itself, without the space around it, and its lines.
func texts(value string) []string {
	found := []string{value, strings.TrimSpace(value)}
	for line := range strings.Lines(value) {
		if line = strings.TrimSpace(line); len(line) >= leastLine {
			found = append(found, line)
		}
	}
	return found
}

func encodings(v string) []string {
	if len(v) < least {
		return nil
	}
	lower := hex.EncodeToString([]byte(v))
	found := []string{
		v, lower, strings.ToUpper(lower), url.QueryEscape(v), url.PathEscape(v), strings.ReplaceAll(v, `"`, `\"`), strings.ReplaceAll(v, "'", "''"),
		escapeData(v, "0123456789ABCDEF"), escapeData(v, "0123456789abcdef"), escapeJSON(v, false), escapeJSON(v, true), newtonsoft(v), escapeXML(v),
		strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;").Replace(v),
	}
	for _, std := range []string{base64.StdEncoding.EncodeToString([]byte(v)), base64Core(v, 0), base64Core(v, 1), base64Core(v, 2)} {
		found = append(found, std, strings.NewReplacer("+", "-", "/", "_").Replace(std))
	}
	return found
}

// base64Core gives the base64 digits that lie wholly within v when shift bytes stand before it.
func base64Core(v string, shift int) string {
	text := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), v...))
	first, end := (8*shift+5)/6, 8*(shift+len(v))/6
	return text[first:end]
}

// escapeData is .NET's Uri.EscapeDataString, with digits of either case.
func escapeData(v, digits string) string {
	var b strings.Builder
	for i := range len(v) {
		c := v[i]
		if isWord(c) || c == '-' || c == '.' || c == '~' {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', digits[c>>4], digits[c&15]})
	}
	return b.String()
}

// escapeJSON is what this program writes.
func escapeJSON(v string, html bool) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(html)
	if enc.Encode(v) != nil {
		return ""
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`)
}

// newtonsoft is what .NET's JsonConvert.ToString writes: short escapes, and \u for other control characters only.
func newtonsoft(v string) string {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`, 0x85: `\u0085`, 0x2028: `\u2028`, 0x2029: `\u2029`}
	var b strings.Builder
	for _, r := range v {
		switch text, ok := short[r]; {
		case ok:
			b.WriteString(text)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func escapeXML(v string) string {
	var b bytes.Buffer
	if xml.EscapeText(&b, []byte(v)) != nil {
		return ""
	}
	return b.String()
}
