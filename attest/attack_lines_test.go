// SPDX-License-Identifier: Apache-2.0

//go:build !race

package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
)

// The rows of this file are those of whoever hands over the file: he has the lines of two builds and keys of his own.

// slots names the lines of a bundle file in the order of [attesttest.Lines.List], with the link that misses each.
var slots = [...]struct {
	name, link string
	want       error
}{
	{"provenance", "artifact", refusal.ErrBinding},
	{"response", "signature", refusal.ErrMissing},
	{"response evidence", "signature", refusal.ErrMissing},
	{"dispatch", "dispatch", refusal.ErrMissing},
	{"dispatch evidence", "dispatch", refusal.ErrMissing},
	{"boot", "boot", refusal.ErrMissing},
	{"boot evidence", "boot", refusal.ErrMissing},
}

// piece is one parsed line, so that thousands of files can be put together.
type piece struct {
	bundle   *bundle.Bundle
	evidence *bundle.Evidence
}

func pieces(t testing.TB, l attesttest.Lines) [len(slots)]piece {
	t.Helper()
	var out [len(slots)]piece
	for i, line := range l.List() {
		var err error
		if evidence.Is(line) {
			out[i].evidence = &bundle.Evidence{Line: line}
			out[i].evidence.Collection, err = evidence.Parse(line)
		} else {
			out[i].bundle, err = bundle.Parse(line)
		}
		fatal(t, err)
	}
	return out
}

func fileOf(list ...piece) *bundle.File {
	f := new(bundle.File)
	for _, p := range list {
		if p.bundle != nil {
			f.Bundles = append(f.Bundles, p.bundle)
		}
		if p.evidence != nil {
			f.Evidence = append(f.Evidence, *p.evidence)
		}
	}
	return f
}

// pairs are two builds that somebody might mix: of two repositories, of two attempts of one job, and of one environment.
func pairs(t testing.TB) map[string][2]attesttest.Lines {
	t.Helper()
	again := attesttest.Facts()
	again.RunAttempt, again.JobID = "2", "4242424243"
	e := attesttest.Boot(t, attesttest.Options{})
	e.Dispatch(t)
	return map[string][2]attesttest.Lines{
		"two repositories": {whole(t, attesttest.Options{}, "widget"), whole(t, otherBuild(), "gadget")},
		"two attempts":     {whole(t, attesttest.Options{}, "widget"), whole(t, attesttest.Options{Facts: &again}, "widget again")},
		"one environment":  {e.Respond(t, "first", []byte("first")), e.Respond(t, "second", []byte("second"))},
	}
}

// mostChanged bounds the lines of one file that are not of the build that is asked for. More than that break no later
// than fewer, and every row costs three quotes.
const mostChanged = 3

// TestAttackSubstitutedLines makes every file that takes up to three lines from the other build or leaves them out, and
// asks for each build's artifact. One whole build verifies its own artifact; every other file is refused where the first
// line of the artifact's chain is missing.
func TestAttackSubstitutedLines(t *testing.T) {
	t.Parallel()
	for name, builds := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req, parts := asking(t), [2][len(slots)]piece{pieces(t, builds[0]), pieces(t, builds[1])}
			equal := func(slot int) bool { return bytes.Equal(builds[0].List()[slot], builds[1].List()[slot]) }
			rows := 1
			for range slots {
				rows *= 3
			}
			for row := range rows {
				var from [len(slots)]int // 0 and 1: that build; 2: left out
				var list []piece
				for i, rest := 0, row; i < len(slots); i, rest = i+1, rest/3 {
					if from[i] = rest % 3; from[i] < 2 {
						list = append(list, parts[from[i]][i])
					}
				}
				for wanted := range builds {
					if changed := len(slots) - count(from, wanted); changed > mostChanged {
						continue
					}
					broken := slices.IndexFunc(firstBroken, func(slot int) bool {
						return from[slot] == 2 || from[slot] != wanted && !equal(slot)
					})
					req.Files, req.Artifact.Digest = []*bundle.File{fileOf(list...)}, binding.Sum(builds[wanted].Artifact)
					expectLine(t, req, fmt.Sprintf("build %d of lines %v", wanted, from), broken)
				}
			}
		})
	}
}

func count(from [len(slots)]int, build int) int {
	n := 0
	for _, f := range from {
		if f == build {
			n++
		}
	}
	return n
}

// firstBroken is the order in which a missing line is noticed: the slots.
var firstBroken = []int{0, 1, 2, 3, 4, 6, 5}

// expectLine demands acceptance, or the refusal that fits the place in firstBroken.
func expectLine(t *testing.T, req attest.Request, row string, broken int) {
	t.Helper()
	r, trace, err := attest.Verify(t.Context(), req)
	if broken < 0 {
		if err != nil || r == nil {
			t.Errorf("%s: %v", row, err)
		}
		return
	}
	slot := slots[firstBroken[broken]]
	want := slot.want
	if broken == 0 && !errors.Is(err, want) {
		want = refusal.ErrMissing // no provenance at all
	}
	if r != nil || !errors.Is(err, want) || failedLink(trace) != slot.link {
		t.Errorf("%s: without its %s: got %v at %q: %v", row, slot.name, r, failedLink(trace), err)
	}
}

// TestHarmlessSubstitutions changes files in ways that mean nothing: order, repetition, other lines, other builds beside.
func TestHarmlessSubstitutions(t *testing.T) {
	t.Parallel()
	for name, builds := range pairs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := asking(t)
			a, b := builds[0].List(), builds[1].List()
			rows := map[string][][]byte{
				"reversed": reversed(a), "all twice": append(slices.Clone(a), a...), "the other first": append(slices.Clone(b), a...),
				"the other last": append(slices.Clone(a), b...), "zipped": zipped(a, b), "zipped, the other first": zipped(b, a),
			}
			for i := range a {
				rows[fmt.Sprintf("turned by %d", i)] = append(slices.Clone(a[i:]), a[:i]...)
				rows[slots[i].name+" twice"] = append(slices.Clone(a), a[i])
				rows["the other's "+slots[i].name+" beside"] = append([][]byte{b[i]}, a...)
				rows["an unknown line before "+slots[i].name] = slices.Insert(slices.Clone(a), i, []byte(`{"mediaType":"text/plain"}`), nil)
				rows["all of the other but its "+slots[i].name] = append(slices.Delete(slices.Clone(b), i, i+1), a...)
				for j := range i {
					c := slices.Clone(a)
					c[i], c[j] = c[j], c[i]
					rows[slots[i].name+" and "+slots[j].name+" exchanged"] = c
				}
			}
			for row, list := range rows {
				if got := judge(t, req, builds[0].Artifact, list...); got != accepted {
					t.Errorf("%s: %s", row, got)
				}
			}
		})
	}
}

func reversed(list [][]byte) [][]byte {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}

func zipped(a, b [][]byte) [][]byte {
	var out [][]byte
	for i := range a {
		out = append(out, a[i], b[i])
	}
	return out
}

// TestAttackGraftedBundles gives each signed line another signature, key, hint, certificate or timestamp, from every
// other line of both builds and from a thief.
func TestAttackGraftedBundles(t *testing.T) {
	t.Parallel()
	const hint, stamp = "the hint chooses no key", "it is not looked at, and no result says that a time was proven"
	m := newMatrix(map[string]string{
		"hint of": hint, "thief's copy before": "the genuine line stands in the file too", "timestamp grafted on": stamp,
	})
	bundles := []int{0, 1, 3, 5}
	keys := map[string]*bundle.Key{}
	remember := func(who string, o attesttest.Options) attesttest.Options {
		o.Hooks.Signer = func(kind string, own *bundle.Key) *bundle.Key { keys[who+kind] = own; return own }
		return o
	}
	a, b := whole(t, remember("own ", attesttest.Options{}), "widget"), whole(t, remember("other ", otherBuild()), "gadget")
	thief, err := bundle.NewKey()
	fatal(t, err)
	keys["thief"] = thief
	req := asking(t)
	graft := func(name string, slot int, line []byte) {
		list := slices.Clone(a.List())
		list[slot] = line
		m.add(t, name+" "+slots[slot].name, judge(t, req, a.Artifact, list...))
	}
	for _, slot := range bundles {
		line := a.List()[slot]
		own := values(document(t, line))
		take := func(name string, from []byte, path string) {
			if l := values(document(t, from))[path]; !bytes.Equal(encoded(t, l.value), encoded(t, own[path].value)) {
				graft(name, slot, encoded(t, with(document(t, line), l)))
			}
		}
		for who, lines := range map[string][][]byte{"own ": a.List(), "other ": b.List()} {
			for _, donor := range bundles {
				if who == "own " && donor == slot {
					continue
				}
				take("signature of "+who+slots[donor].name+" on", lines[donor], "dsseEnvelope.signatures")
				take("hint of "+who+slots[donor].name+" on", lines[donor], "verificationMaterial.publicKey.hint")
				take("payload of "+who+slots[donor].name+" in", lines[donor], "dsseEnvelope.payload")
			}
		}
		for who, key := range keys {
			if key.Digest() == keys["own "+slots[slot].name].Digest() {
				continue
			}
			signed, err := bundle.Sign(t.Context(), key, payloadOf(t, line))
			fatal(t, err)
			graft("signed by "+who+",", slot, signed)
			graft("thief's copy before, signed by "+who+",", slot, append(append(signed, '\n'), line...))
		}
		graftMaterial(t, line, func(name string, changed []byte) { graft(name, slot, changed) })
	}
	m.check(t, "bundles.txt")
}

// graftMaterial hangs certificates and timestamps on a line.
func graftMaterial(t *testing.T, line []byte, graft func(name string, line []byte)) {
	t.Helper()
	material := func(l ...leaf) []byte {
		v := document(t, line)
		for _, one := range l {
			one.path = append([]any{"verificationMaterial"}, one.path...)
			v = with(v, one)
		}
		return encoded(t, v)
	}
	certificate := map[string]any{"rawBytes": base64.StdEncoding.EncodeToString(selfSigned(t))}
	bare := leaf{path: []any{"publicKey"}}
	stamps := map[string]any{"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": base64.StdEncoding.EncodeToString([]byte("a stamp"))}}}
	graft("certificate in place of the hint of", material(bare, leaf{[]any{"certificate"}, certificate}))
	graft("certificate beside the hint of", material(leaf{[]any{"certificate"}, certificate}))
	graft("certificate chain in place of the hint of", material(bare, leaf{[]any{"x509CertificateChain"}, map[string]any{"certificates": []any{certificate}}}))
	graft("no material in", material(bare))
	graft("timestamp grafted on", material(leaf{[]any{"timestampVerificationData"}, stamps}))
	graft("log entry grafted on", material(leaf{[]any{"tlogEntries"}, []any{map[string]any{"logIndex": "1"}}}))
}

// selfSigned is a thief's certificate.
func selfSigned(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fatal(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	fatal(t, err)
	return der
}

// TestAttackGraftedEvidence puts every item of every other evidence line, of both builds, into each evidence line, and
// leaves all that names the line as it was.
func TestAttackGraftedEvidence(t *testing.T) {
	t.Parallel()
	m := newMatrix(map[string]string{})
	a, b := whole(t, attesttest.Options{}, "widget"), whole(t, otherBuild(), "gadget")
	req := asking(t)
	donors := map[string]map[string]*[]byte{}
	for who, l := range map[string]attesttest.Lines{"own ": a, "other ": b} {
		for i, line := range l.List() {
			if evidence.Is(line) {
				c, err := evidence.Parse(line)
				fatal(t, err)
				donors[who+slots[i].name] = items(c)
			}
		}
	}
	for i, line := range a.List() {
		if !evidence.Is(line) {
			continue
		}
		for _, donor := range slices.Sorted(maps.Keys(donors)) {
			for item, value := range donors[donor] {
				c, err := evidence.Parse(line)
				fatal(t, err)
				if bytes.Equal(*items(c)[item], *value) {
					continue
				}
				*items(c)[item] = *value
				list := slices.Clone(a.List())
				list[i], err = c.Line()
				fatal(t, err)
				m.add(t, strings.Join([]string{slots[i].name, "with", item, "of", donor}, " "), judge(t, req, a.Artifact, list...))
			}
		}
	}
	m.check(t, "grafts.txt")
}
