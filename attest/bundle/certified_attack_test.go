// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/fakesigstore"
)

// refused demands that a line is refused with a code first, in full sentences, and that nothing comes beside it.
func refused(t *testing.T, tr *Trust, line []byte, code refusal.Code) {
	t.Helper()
	payload, signer, err := tr.Verify(line)
	if err == nil {
		t.Fatalf("accepted, signed by %+v", signer)
	}
	if payload != nil || signer != (Signer{}) {
		t.Errorf("payload or signer beside a refusal")
	}
	all := refusal.All(err)
	if len(all) == 0 || all[0].Code != code {
		t.Fatalf("want code %s, got: %v", code, err)
	}
	for _, r := range all {
		if r.Link == "" || !r.Code.Valid() || r.Want == "" || r.Got == "" || r.Next == "" || strings.Contains(r.Error(), "%!") {
			t.Errorf("refusal with a gap: %+v", r)
		}
	}
}

// material gives the verification material of a line as JSON.
func material(m map[string]any) map[string]any { return m["verificationMaterial"].(map[string]any) }

// splice puts a part of one bundle's verification material into another's.
func splice(t *testing.T, into, from []byte, part string) []byte {
	t.Helper()
	var donor map[string]any
	if err := json.Unmarshal(from, &donor); err != nil {
		t.Fatal(err)
	}
	return edit(t, into, func(m map[string]any) { material(m)[part] = material(donor)[part] })
}

func TestAttackForeignInstance(t *testing.T) {
	t.Parallel()
	ours, theirs := fake(t, nil), fake(t, nil)
	refused(t, trust(t, ours.TrustedRoot()), certified(t, theirs, fakesigstore.Options{}), refusal.Chain)
	refused(t, nil, certified(t, ours, fakesigstore.Options{}), refusal.Chain)
	refused(t, new(Trust), certified(t, ours, fakesigstore.Options{}), refusal.Chain)
}

func TestAttackUnloggedSignature(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	refused(t, trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{WithoutLog: true}), refusal.Missing)
}

func TestAttackUnloggedCertificate(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	refused(t, trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{WithoutSCT: true}), refusal.Missing)
}

func TestAttackNoTimestamp(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	refused(t, trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{WithoutTimestamp: true}), refusal.Missing)
	private := fake(t, func(c *fakesigstore.Config) { c.WithoutCT, c.WithoutLog = true, true })
	refused(t, trust(t, private.TrustedRoot()), certified(t, private, fakesigstore.Options{WithoutTimestamp: true}), refusal.Missing)
}

// TestAttackExpiredCertificate signs with a key whose certificate is long over, or not yet begun.
func TestAttackExpiredCertificate(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	for name, at := range map[string]time.Time{
		"years later": signingDay().AddDate(2, 0, 0), "just after": signingDay().Add(10*time.Minute + time.Second), "before": signingDay().Add(-time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{Stamped: at}), refusal.Expired)
		})
	}
}

// TestAttackWeakerInstance takes what one instance demands and another does not from the other: both are trusted, each
// for itself.
func TestAttackWeakerInstance(t *testing.T) {
	t.Parallel()
	public := fake(t, nil)
	private := fake(t, func(c *fakesigstore.Config) { c.WithoutCT, c.WithoutLog = true, true })
	tr := trust(t, public.TrustedRoot(), private.TrustedRoot())
	for name, line := range map[string][]byte{"public": certified(t, public, fakesigstore.Options{}), "private": certified(t, private, fakesigstore.Options{})} {
		if _, _, err := tr.Verify(line); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused(t, tr, certified(t, public, fakesigstore.Options{WithoutSCT: true, WithoutLog: true, StampedBy: private}), refusal.Missing)
	refused(t, tr, certified(t, public, fakesigstore.Options{StampedBy: private}), refusal.Chain)
	refused(t, tr, certified(t, private, fakesigstore.Options{StampedBy: public}), refusal.Chain)
	other := fake(t, nil)
	refused(t, trust(t, public.TrustedRoot(), other.TrustedRoot()), certified(t, public, fakesigstore.Options{LoggedBy: other}), refusal.Chain)
}

func TestAttackAlteredStatement(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	tr, line, other := trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{}), certified(t, i, fakesigstore.Options{})
	altered := base64.StdEncoding.EncodeToString([]byte(strings.Replace(payloadText, `"a"`, `"b"`, 1)))
	refused(t, tr, edit(t, line, func(m map[string]any) { envelope(m)["payload"] = altered }), refusal.Signature)
	refused(t, tr, edit(t, line, func(m map[string]any) {
		raw, _ := base64.StdEncoding.DecodeString(firstSignature(m)["sig"].(string))
		raw[len(raw)-1] ^= 1
		firstSignature(m)["sig"] = base64.StdEncoding.EncodeToString(raw)
	}), refusal.Signature)
	refused(t, tr, edit(t, line, func(m map[string]any) { firstSignature(m)["sig"] = "" }), refusal.Signature)
	refused(t, tr, splice(t, line, other, "certificate"), refusal.Signature)
}

// TestAttackSplicedProof proves with what was made for another signature.
func TestAttackSplicedProof(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	tr, line, other := trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{}), certified(t, i, fakesigstore.Options{})
	refused(t, tr, splice(t, line, other, "tlogEntries"), refusal.Chain)
	refused(t, tr, splice(t, line, other, "timestampVerificationData"), refusal.Chain)
	entry := func(change func(e, proof map[string]any)) []byte {
		return edit(t, line, func(m map[string]any) {
			e := material(m)["tlogEntries"].([]any)[0].(map[string]any)
			change(e, e["inclusionProof"].(map[string]any))
		})
	}
	refused(t, tr, entry(func(e, _ map[string]any) { e["logIndex"] = "0" }), refusal.Chain)
	refused(t, tr, entry(func(_, p map[string]any) { p["hashes"] = []any{} }), refusal.Chain)
	refused(t, tr, entry(func(_, p map[string]any) {
		c := p["checkpoint"].(map[string]any)
		c["envelope"] = strings.Replace(c["envelope"].(string), "\n4\n", "\n5\n", 1)
	}), refusal.Chain)
}

// TestAttackMixedGenerations makes an entry that one reader takes for Rekor v1 and another for Rekor v2.
func TestAttackMixedGenerations(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	tr, line := trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{})
	for name, change := range map[string]func(e map[string]any){
		"promise": func(e map[string]any) { e["inclusionPromise"] = map[string]any{"signedEntryTimestamp": "AAAA"} },
		"time":    func(e map[string]any) { e["integratedTime"] = "1795262400" },
		"checkpoint": func(e map[string]any) {
			c := e["inclusionProof"].(map[string]any)["checkpoint"].(map[string]any)
			c["envelope"] = strings.Replace(c["envelope"].(string), "rekor.kettle.test\n", "rekor.kettle.test - 123456\n", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, tr, edit(t, line, func(m map[string]any) { change(material(m)["tlogEntries"].([]any)[0].(map[string]any)) }), refusal.Malformed)
		})
	}
}

// TestAttackRetiredAuthority signs with what the trusted root says is out of service.
func TestAttackRetiredAuthority(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	line := certified(t, i, fakesigstore.Options{})
	retire := func(part string, holder func(map[string]any) map[string]any) *Trust {
		return trust(t, edit(t, i.TrustedRoot(), func(m map[string]any) {
			holder(m[part].([]any)[0].(map[string]any))["validFor"].(map[string]any)["end"] = signingDay().Add(-time.Hour).Format(time.RFC3339)
		}))
	}
	key := func(m map[string]any) map[string]any { return m["publicKey"].(map[string]any) }
	itself := func(m map[string]any) map[string]any { return m }
	refused(t, retire("tlogs", key), line, refusal.Expired)
	refused(t, retire("ctlogs", key), line, refusal.Chain)
	refused(t, retire("certificateAuthorities", itself), line, refusal.Chain)
	refused(t, retire("timestampAuthorities", itself), line, refusal.Chain)
}

// leafChanges runs a change of the certificate that a dishonest or careless authority would have to make.
func leafChanges(t *testing.T, code refusal.Code, changes map[string]func(*x509.Certificate)) {
	t.Helper()
	i := fake(t, nil)
	tr := trust(t, i.TrustedRoot())
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, tr, certified(t, i, fakesigstore.Options{Template: change}), code)
		})
	}
}

func rawSAN(names ...asn1.RawValue) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		value, err := asn1.Marshal(names)
		if err != nil {
			panic(err)
		}
		c.URIs = nil
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: value})
	}
}

func name(tag int, text string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(text)}
}

// TestAttackSeveralNames has a certificate with more than one name, or a name of another kind that reads the same. A
// reader that takes the first of two, or any text for a URI, is told what the attacker wants.
func TestAttackSeveralNames(t *testing.T) {
	t.Parallel()
	good := release().SAN()
	evil := &url.URL{Scheme: "https", Host: "github.com", Path: "/mallory/image/.github/workflows/image.yml@refs/heads/main"}
	leafChanges(t, refusal.Identity, map[string]func(*x509.Certificate){
		"two URIs":                     func(c *x509.Certificate) { c.URIs = append(c.URIs, evil) },
		"URI and e-mail":               func(c *x509.Certificate) { c.EmailAddresses = []string{"mallory@example.com"} },
		"URI and host":                 func(c *x509.Certificate) { c.DNSNames = []string{"example.com"} },
		"e-mail":                       func(c *x509.Certificate) { c.URIs, c.EmailAddresses = nil, []string{"mallory@example.com"} },
		"none":                         func(c *x509.Certificate) { c.URIs = nil },
		"host that reads as the URI":   rawSAN(name(2, good)),
		"e-mail that reads as the URI": rawSAN(name(1, good)),
		"user name that reads as the URI": func(c *x509.Certificate) {
			other, err := asn1.Marshal(struct {
				ID    asn1.ObjectIdentifier
				Value string `asn1:"utf8,explicit,tag:0"`
			}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 7}, good})
			if err != nil {
				panic(err)
			}
			var inner asn1.RawValue
			if _, err := asn1.Unmarshal(other, &inner); err != nil {
				panic(err)
			}
			rawSAN(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner.Bytes})(c)
		},
		"URI with a blank": rawSAN(name(6, good+" ")),
	})
}

// extension replaces one of Fulcio's extensions.
func extension(n int, value []byte) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		id := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}
		for k := range c.ExtraExtensions {
			if c.ExtraExtensions[k].Id.Equal(id) {
				c.ExtraExtensions[k].Value = value
				return
			}
		}
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Value: value})
	}
}

func utf8(text string) []byte {
	b, err := asn1.MarshalWithParams(text, "utf8")
	if err != nil {
		panic(err)
	}
	return b
}

// TestAttackTwoIdentities has a certificate that says two things about one matter in two places.
func TestAttackTwoIdentities(t *testing.T) {
	t.Parallel()
	leafChanges(t, refusal.Identity, map[string]func(*x509.Certificate){
		"old issuer":     extension(1, []byte("https://issuer.example.com")),
		"issuer":         extension(8, utf8("https://issuer.example.com")),
		"signing build":  extension(9, utf8("https://github.com/mallory/image/.github/workflows/image.yml@refs/heads/main")),
		"without issuer": func(c *x509.Certificate) { extension(1, nil)(c); extension(8, utf8(""))(c) },
	})
}

// TestAttackUnreadableIdentity hides one text in another, or in an encoding that readers take differently.
func TestAttackUnreadableIdentity(t *testing.T) {
	t.Parallel()
	printable, err := asn1.MarshalWithParams("https://github.com/acme/image", "ia5")
	if err != nil {
		t.Fatal(err)
	}
	leafChanges(t, refusal.Malformed, map[string]func(*x509.Certificate){
		"another string type": extension(12, printable),
		"raw text":            extension(12, []byte("https://github.com/acme/image")),
		"data behind it":      extension(12, append(utf8("https://github.com/acme/image"), 0)),
		"NUL inside":          extension(12, utf8("https://github.com/acme/image\x00.evil")),
		"line break":          extension(14, utf8("refs/tags/v1\nrefs/heads/main")),
		"endless":             extension(21, utf8(strings.Repeat("x", maxIdentity+1))),
		"not UTF-8":           extension(14, []byte{12, 1, 0xff}),
	})
}

// TestAttackOtherPurpose signs with a certificate that the authority gave for something else.
func TestAttackOtherPurpose(t *testing.T) {
	t.Parallel()
	leafChanges(t, refusal.Chain, map[string]func(*x509.Certificate){
		"server":       func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"any":          func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} },
		"unsaid":       func(c *x509.Certificate) { c.ExtKeyUsage = nil },
		"several":      func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) },
		"encryption":   func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment },
		"an authority": func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true },
	})
}

// TestAttackAmbiguousBundle writes a bundle that two readers understand differently.
func TestAttackAmbiguousBundle(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	tr, line := trust(t, i.TrustedRoot()), certified(t, i, fakesigstore.Options{})
	for name, bad := range map[string][]byte{
		"key twice":       bytes.Replace(line, []byte(`"payload":`), []byte(`"payload":"e30=","payload":`), 1),
		"key twice, case": bytes.Replace(line, []byte(`"payload":`), []byte(`"Payload":"e30=","payload":`), 1),
		"two spellings":   bytes.Replace(line, []byte(`"payloadType":`), []byte(`"payload_type":"x","payloadType":`), 1),
		"two documents":   append(bytes.Clone(line), line...),
		"unknown key":     bytes.Replace(line, []byte(`"mediaType"`), []byte(`"other":1,"mediaType"`), 1),
		"cut":             line[:len(line)-1],
		"too long":        append(bytes.Clone(line), bytes.Repeat([]byte(" "), MaxLine)...),
		"older version":   bytes.Replace(line, []byte(MediaType), []byte("application/vnd.dev.sigstore.bundle+json;version=0.3"), 1),
		"two signatures": edit(t, line, func(m map[string]any) {
			envelope(m)["signatures"] = append(envelope(m)["signatures"].([]any), firstSignature(m))
		}),
		"no signature":  edit(t, line, func(m map[string]any) { envelope(m)["signatures"] = []any{} }),
		"key and chain": edit(t, line, func(m map[string]any) { material(m)["publicKey"] = map[string]any{"hint": "x"} }),
		"a chain": edit(t, line, func(m map[string]any) {
			material(m)["x509CertificateChain"] = map[string]any{"certificates": []any{material(m)["certificate"]}}
			delete(material(m), "certificate")
		}),
		"no certificate":   edit(t, line, func(m map[string]any) { material(m)["certificate"] = map[string]any{} }),
		"half certificate": edit(t, line, func(m map[string]any) { material(m)["certificate"] = map[string]any{"rawBytes": "MAA="} }),
		"P-384": edit(t, line, func(m map[string]any) {
			material(m)["certificate"] = map[string]any{"rawBytes": selfSigned(t, elliptic.P384())}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused(t, tr, bad, refusal.Malformed)
		})
	}
	refused(t, tr, certified(t, i, fakesigstore.Options{PayloadType: "application/json"}), refusal.Malformed)
}

// selfSigned makes a certificate that nobody issued, with a key of a curve.
func selfSigned(t *testing.T, curve elliptic.Curve) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestAttackBareKey offers a bundle by a bare key where a workflow must have signed, and the other way round.
func TestAttackBareKey(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	_, keyed := signed(t)
	refused(t, trust(t, i.TrustedRoot()), keyed, refusal.Malformed)
	if _, err := Parse(certified(t, i, fakesigstore.Options{})); !errors.Is(err, refusal.ErrMalformed) {
		t.Errorf("a certificate where a key must be: %v", err)
	}
}

// TestAttackTrustedRoot gives roots that do not say clearly what is demanded.
func TestAttackTrustedRoot(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	good := i.TrustedRoot()
	without := func(parts ...string) []byte {
		return edit(t, good, func(m map[string]any) {
			for _, p := range parts {
				delete(m, p)
			}
		})
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "blank": []byte("\n"), "array": []byte("[]"), "null": []byte("null"), "object": []byte("{}"), "cut": good[:len(good)-1],
		"no time":        without("tlogs", "timestampAuthorities"),
		"no authority":   without("certificateAuthorities"),
		"media type":     without("mediaType"),
		"key twice":      bytes.Replace(good, []byte(`"tlogs"`), []byte(`"tlogs":[],"tlogs"`), 1),
		"other case":     bytes.Replace(good, []byte(`"tlogs"`), []byte(`"TLOGS":[],"tlogs"`), 1),
		"unknown key":    bytes.Replace(good, []byte(`"tlogs"`), []byte(`"others":[],"tlogs"`), 1),
		"instance twice": append(append(bytes.Clone(good), '\n'), without("tlogs", "ctlogs")...),
		"too long":       append(bytes.Clone(good), bytes.Repeat([]byte(" "), MaxTrust)...),
		"too many":       bytes.Repeat([]byte("{}\n"), MaxInstances+1),
	} {
		if tr, err := ParseTrust(bad); !errors.Is(err, ErrTrust) || tr != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCertifiedLines(t *testing.T) {
	t.Parallel()
	i := fake(t, nil)
	_, keyed := signed(t)
	one, two := certified(t, i, fakesigstore.Options{}), certified(t, i, fakesigstore.Options{})
	server := certified(t, i, fakesigstore.Options{Template: func(c *x509.Certificate) { c.ExtKeyUsage = nil }})
	text := bytes.Join([][]byte{one, keyed, server, []byte(`{"other":1}`), nil, two, certified(t, i, fakesigstore.Options{PayloadType: "text/plain"})}, []byte("\r\n"))
	lines, err := Certified(text)
	if err != nil || len(lines) != 2 || !bytes.Equal(lines[0], one) || !bytes.Equal(lines[1], two) {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	for name, tc := range map[string]struct {
		text []byte
		want error
	}{
		"none": {keyed, refusal.ErrMissing}, "empty": {nil, refusal.ErrMissing}, "cut": {one[:len(one)-9], refusal.ErrMalformed},
		"text": {[]byte("hello"), refusal.ErrMalformed}, "too many": {bytes.Repeat([]byte("\n"), MaxLines+1), refusal.ErrMalformed},
	} {
		if lines, err := Certified(tc.text); !errors.Is(err, tc.want) || lines != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzTrustVerify(f *testing.F) {
	i := fake(f, nil)
	tr := trust(f, i.TrustedRoot())
	good := certified(f, i, fakesigstore.Options{})
	_, want, err := tr.Verify(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(certified(f, i, fakesigstore.Options{WithoutLog: true, WithoutTimestamp: true}))
	f.Fuzz(func(t *testing.T, line []byte) {
		payload, signer, err := tr.Verify(line)
		if err != nil {
			if payload != nil || signer != (Signer{}) || !errors.Is(err, refusal.ErrNotVerified) {
				t.Fatalf("payload, signer or no refusal beside %v", err)
			}
			return
		}
		if string(payload) != payloadText || signer != want {
			t.Fatalf("verified %q by %+v, which nobody signed", payload, signer)
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	i := fake(f, nil)
	line := certified(f, i, fakesigstore.Options{})
	f.Add(i.TrustedRoot())
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := ParseTrust(text)
		if (tr == nil) == (err == nil) {
			t.Fatal("a trust and an error, or neither")
		}
		_, _, _ = tr.Verify(line) // must not panic, whatever the root says
	})
}

func BenchmarkCertified(b *testing.B) {
	i := fake(b, nil)
	tr, line := trust(b, i.TrustedRoot()), certified(b, i, fakesigstore.Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := tr.Verify(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseTrust(b *testing.B) {
	text := fake(b, nil).TrustedRoot()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseTrust(text); err != nil {
			b.Fatal(err)
		}
	}
}
