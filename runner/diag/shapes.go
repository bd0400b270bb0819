// SPDX-License-Identifier: Apache-2.0

package diag

import "bytes"

// class is a set of bytes that a credential of some kind may consist of.
type class uint8

const (
	token   class = iota + 1 // letters, digits and _ . -
	base64s                  // the same with + / =
	caps                     // capitals and digits
	line                     // anything up to the end of the line
	quoted                   // anything up to a quotation mark or the end of the line
	pem                      // the inside of a PEM block, also within JSON
)

// has reports whether the class has the first byte of b.
func (c class) has(b []byte) bool {
	x := b[0]
	switch c {
	case token:
		return isWord(x) || x == '.' || x == '-'
	case base64s:
		return isWord(x) || x == '.' || x == '-' || x == '+' || x == '/' || x == '='
	case caps:
		return x >= 'A' && x <= 'Z' || x >= '0' && x <= '9'
	case line:
		return x != '\n' && x != '\r'
	case quoted:
		return x != '\n' && x != '\r' && x != '"' && x != '\''
	case pem:
		return isWord(x) || x == '+' || x == '/' || x == '=' || x == '\\' || x == ':' || x == ',' || x == ' ' || x == '\n' || x == '\r' || x == '\t' ||
			x == '-' && (len(b) < 2 || b[1] != '-')
	}
	return false
}

func isWord(x byte) bool {
	return x >= 'a' && x <= 'z' || x >= 'A' && x <= 'Z' || x >= '0' && x <= '9' || x == '_'
}

// shape is how a well-known credential begins. What is masked is the bytes of its class that follow.
type shape struct {
	prefix string // in small letters when fold
	fold   bool   // the prefix may be in capitals
	keyed  bool   // the prefix is a name; a colon or equals sign follows, maybe among spaces and quotation marks
	run    class
	least  int // bytes that must follow at least
}

// shapes lists what is masked although nobody gave it: GitHub's tokens, JSON objects in base64 (of which JSON Web Tokens
// and JIT configurations consist), AWS's keys, what stands in Authorization headers, and private keys in PEM, as they
// are and in base64.
func shapes() []shape {
	all := []shape{
		{prefix: "github_pat_", run: token, least: 10},
		{prefix: "AKIA", run: caps, least: 12}, {prefix: "ASIA", run: caps, least: 12},
		{prefix: "eyJ", run: base64s, least: 16},
		{prefix: "LS0tLS1CRUdJTi", run: base64s, least: 16},
		{prefix: "secret_access_key", fold: true, keyed: true, run: base64s, least: 16},
		{prefix: "secretaccesskey", fold: true, keyed: true, run: base64s, least: 16},
		{prefix: "session_token", fold: true, keyed: true, run: base64s, least: 16},
		{prefix: "sessiontoken", fold: true, keyed: true, run: base64s, least: 16},
		{prefix: "authorization", fold: true, keyed: true, run: line, least: 1},
		{prefix: pemBegin, run: pem},
	}
	for _, kind := range []string{"ghp_", "gho_", "ghs_", "ghr_", "ghu_"} {
		all = append(all, shape{prefix: kind, run: token, least: 10})
	}
	return all
}

const (
	pemBegin   = "-----BEGIN "
	pemEnd     = "PRIVATE KEY-----"
	maxPEMName = 64
	maxSigns   = 16 // between a name and its value
)

// verdict is what is known about a place of a text of which more may come.
type verdict int

const (
	no verdict = iota
	yes
	more // it depends on what follows
)

// match says whether b begins with the shape, after how many bytes the masked part begins, and what it consists of.
func (s *shape) match(b []byte, final bool) (int, class, verdict) {
	for i := range len(s.prefix) {
		if i == len(b) {
			return 0, 0, unless(final)
		}
		if x := b[i]; x != s.prefix[i] && (!s.fold || small(x) != s.prefix[i]) {
			return 0, 0, no
		}
	}
	n, run := len(s.prefix), s.run
	if s.run == pem {
		return matchPEM(b, final)
	}
	if s.keyed {
		sign := false
		for limit := n + maxSigns; ; n++ {
			if n == len(b) && n < limit {
				return 0, 0, unless(final)
			}
			if n == limit || !bytes.ContainsRune([]byte(" \t:=\"'\\"), rune(b[n])) {
				break
			}
			sign = sign || b[n] == ':' || b[n] == '='
			if sign && (b[n] == '"' || b[n] == '\'') && run == line {
				run = quoted
			}
		}
		if !sign {
			return 0, 0, no
		}
	}
	for i := range s.least {
		if n+i == len(b) {
			return 0, 0, unless(final)
		}
		if !run.has(b[n+i:]) {
			return 0, 0, no
		}
	}
	return n, run, yes
}

// matchPEM looks for the rest of the line after pemBegin.
func matchPEM(b []byte, final bool) (int, class, verdict) {
	name := b[len(pemBegin):min(len(b), len(pemBegin)+maxPEMName)]
	for i, x := range name {
		if bytes.HasPrefix(name[i:], []byte(pemEnd)) {
			return len(pemBegin) + i + len(pemEnd), pem, yes
		}
		if x != ' ' && !caps.has(name[i:]) && !bytes.HasPrefix([]byte(pemEnd), name[i:]) && x != '-' {
			return 0, 0, no
		}
	}
	if len(name) == maxPEMName {
		return 0, 0, no
	}
	return 0, 0, unless(final)
}

func unless(final bool) verdict {
	if final {
		return no
	}
	return more
}

func small(x byte) byte {
	if x >= 'A' && x <= 'Z' {
		return x + 'a' - 'A'
	}
	return x
}
