// SPDX-License-Identifier: Apache-2.0

// Package mask hides secrets in log text: each occurrence becomes "***".
//
// Guarantees: a secret is also found in its JSON, URI, XML, expression and base64 spellings; secrets may be added while
// text is masked. Trusts: that every secret was added before it was written. Does not: find a secret that was cut,
// reversed or otherwise changed.
package mask

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

const stars = "***"

// Masker holds the secrets. The zero value has none.
type Masker struct {
	mu       sync.RWMutex
	values   []string
	patterns []*regexp.Regexp
}

// Add hides a value and its encoded spellings. The empty value is ignored.
func (m *Masker) Add(value string) {
	if value == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range append(encodings(value), value) {
		if v != "" && !slices.Contains(m.values, v) {
			m.values = append(m.values, v)
		}
	}
}

// AddLines hides a value as a whole and each of its lines.
func (m *Masker) AddLines(value string) {
	m.Add(strings.TrimSpace(value))
	for line := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == '\r' || r == '\n' }) {
		m.Add(strings.TrimSpace(line))
	}
}

// AddPattern hides what matches a regular expression, and the text of the expression itself. A pattern Go can't read
// counts as text only.
func (m *Masker) AddPattern(pattern string) {
	m.Add(pattern)
	re, err := regexp.Compile(pattern)
	if err != nil || re.MatchString("") {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.patterns = append(m.patterns, re)
}

func encodings(value string) []string {
	out := []string{
		url.QueryEscape(value), url.PathEscape(value), strings.ReplaceAll(value, "'", "''"),
	}
	if len(value) > 8 && strings.HasPrefix(value, `"`) && strings.HasSuffix(value, `"`) {
		out = append(out, value[1:len(value)-1])
	}
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err == nil {
		out = append(out, strings.Trim(strings.TrimSuffix(plain.String(), "\n"), `"`))
	}
	var escaped bytes.Buffer
	if err := xml.EscapeText(&escaped, []byte(value)); err == nil {
		out = append(out, escaped.String())
	}
	for shift := 0; shift < 3 && shift < len(value); shift++ {
		out = append(out, base64.StdEncoding.EncodeToString([]byte(value[shift:])))
	}
	return out
}

// Mask returns the text with every secret replaced. Secrets that touch or overlap become one replacement.
func (m *Masker) Mask(text string) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var spans [][]int
	for _, v := range m.values {
		for from := 0; ; {
			i := strings.Index(text[from:], v)
			if i < 0 {
				break
			}
			spans = append(spans, []int{from + i, from + i + len(v)})
			from += i + 1
		}
	}
	for _, re := range m.patterns {
		spans = append(spans, re.FindAllStringIndex(text, -1)...)
	}
	if len(spans) == 0 {
		return text
	}
	slices.SortFunc(spans, func(a, b []int) int { return a[0] - b[0] })
	var out strings.Builder
	end := 0
	for i, s := range spans {
		if i == 0 || s[0] > end {
			out.WriteString(text[end:s[0]] + stars)
		}
		end = max(end, s[1])
	}
	out.WriteString(text[end:])
	return out.String()
}
