// SPDX-License-Identifier: Apache-2.0

package nitro_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/nitro"
	"github.com/kettle/attest/attest/nitro/nitrotest"
	"github.com/kettle/attest/attest/refusal"
)

// TestAttackNitroOwnRoot brings a whole PKI along, in which every signature is right, with the root in the document.
func TestAttackNitroOwnRoot(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	doc := p.Sign(p.NewDocument().Payload())
	_, err := nitro.Verify(doc, awsRoots(t), p.Day())
	wantCodes(t, err, refusal.Chain)
}

// TestAttackNitroBorrowedRoot puts AWS's own root at the head of the attacker's bundle, above certificates that have
// AWS's names.
func TestAttackNitroBorrowedRoot(t *testing.T) {
	t.Parallel()
	p := nitrotest.New(nitrotest.Config{})
	var named x509.Certificate
	named.RawSubject = awsCertificate(t).RawSubject
	attacker := nitrotest.New(nitrotest.Config{Change: func(name string, template *x509.Certificate) {
		if name == nitrotest.Root {
			template.RawSubject = named.RawSubject
		}
	}})
	bundle := nitrotest.Array(
		nitrotest.Bytes(awsCertificate(t).Raw), nitrotest.Bytes(attacker.Certs[nitrotest.Regional].Raw),
		nitrotest.Bytes(attacker.Certs[nitrotest.Zonal].Raw), nitrotest.Bytes(attacker.Certs[nitrotest.Instance].Raw),
	)
	doc := attacker.Sign(attacker.NewDocument().With("cabundle", bundle).Payload())
	_, err := nitro.Verify(doc, awsRoots(t), p.Day())
	wantCodes(t, err, refusal.Chain)
	if r := refusal.All(err)[0]; !bytes.Contains([]byte(r.Want), []byte("signed by")) && !bytes.Contains([]byte(r.Want), []byte("issued by the key")) {
		t.Errorf("refused for another reason: %v", r)
	}
}

// TestAttackNitroRelabelledRoot names AWS's root as a private one, so that genuine evidence would pass for a simulator's
// or the reverse.
func TestAttackNitroRelabelledRoot(t *testing.T) {
	t.Parallel()
	roots, err := nitro.ParseRoots(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: awsCertificate(t).Raw}))
	if roots != nil {
		t.Fatal("roots")
	}
	wantCodes(t, err, refusal.Policy)
}

// TestAttackNitroDebugEnclave runs the right image in debug mode: the document is genuine, but measures nothing.
func TestAttackNitroDebugEnclave(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	d := good(t, p, p.Sign(p.NewDocument().With("pcrs", nitrotest.Registers(16, 3, 4, 8)).Payload()))
	for _, f := range []floor.Floor{floor.Default, floor.Strict} {
		if all := refusal.All(d.Meets(f)); len(all) != 3 || all[0].Code != refusal.Debug {
			t.Errorf("floor %s: %v", f, all)
		}
	}
}

// TestAttackNitroIntermediateSigns uses the key of an issuer, which lives longer, for a document.
func TestAttackNitroIntermediateSigns(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	payload := p.NewDocument().
		With("certificate", nitrotest.Bytes(p.Certs[nitrotest.Instance].Raw)).
		With("cabundle", p.Bundle(nitrotest.Root, nitrotest.Regional, nitrotest.Zonal)).Payload()
	_, err := verify(t, p, p.SignAs(nitrotest.Instance, payload, []byte(nitrotest.Protected)))
	wantCodes(t, err, refusal.Chain)
}

// TestAttackNitroLeafIssues uses the key of a signer of documents to issue a certificate for another module.
func TestAttackNitroLeafIssues(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	parent := *p.Certs[nitrotest.Leaf]
	template := *p.Certs[nitrotest.Leaf]
	template.SerialNumber, template.Subject.CommonName, template.RawSubject = big.NewInt(2), "another module", nil
	key := p.Key("another module")
	der, err := x509.CreateCertificate(nil, &template, &parent, &key.PublicKey, p.Key(nitrotest.Leaf))
	if err != nil {
		t.Fatal(err)
	}
	payload := p.NewDocument().
		With("certificate", nitrotest.Bytes(der)).
		With("cabundle", p.Bundle(nitrotest.Root, nitrotest.Regional, nitrotest.Zonal, nitrotest.Instance, nitrotest.Leaf)).Payload()
	_, err = verify(t, p, p.SignAs("another module", payload, []byte(nitrotest.Protected)))
	wantCodes(t, err, refusal.Chain)
}

// TestAttackNitroStolenKey signs, with a key whose three hours are over, a document that says it was made within them.
func TestAttackNitroStolenKey(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	doc := p.Sign(p.NewDocument().Payload())
	for _, at := range []time.Time{p.At.Add(3*time.Hour + time.Second), p.At.AddDate(1, 0, 0), p.At.Add(-time.Second)} {
		d, err := nitro.Verify(doc, p.roots, at)
		if d != nil || len(refusal.All(err)) == 0 || refusal.All(err)[0].Code != refusal.Expired {
			t.Errorf("at %s: %v", at, err)
		}
	}
}

// TestAttackNitroSecondValue writes a register, a field or the map of registers a second time, for a reader that takes
// the other one.
func TestAttackNitroSecondValue(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	wanted, ran := nitrotest.PCR(0), nitrotest.PCR(9)
	d := p.NewDocument()
	for name, payload := range map[string]nitrotest.Item{
		"register": d.With("pcrs", nitrotest.Map(nitrotest.Uint(0), nitrotest.Bytes(ran[:]), nitrotest.Uint(0), nitrotest.Bytes(wanted[:]))).Payload(),
		"register in another form": d.With("pcrs",
			nitrotest.Map(nitrotest.Uint(0), nitrotest.Bytes(ran[:]), nitrotest.Wide(nitrotest.Uint(0), 8), nitrotest.Bytes(wanted[:]))).Payload(),
		"registers":            append(slices.Clone(d), nitrotest.Field{Name: nitrotest.Text("pcrs"), Value: nitrotest.Registers(16, 0)}).Payload(),
		"registers of a TPM":   append(slices.Clone(d), nitrotest.Field{Name: nitrotest.Text("nitrotpm_pcrs"), Value: nitrotest.Registers(16, 0)}).Payload(),
		"user data":            append(slices.Clone(d), nitrotest.Field{Name: nitrotest.Text("user_data"), Value: nitrotest.Bytes(wanted[:])}).Payload(),
		"user data, open map":  nitrotest.Open(append(slices.Clone(d), nitrotest.Field{Name: nitrotest.Text("user_data"), Value: nitrotest.Bytes(wanted[:])}).Payload()),
		"user data in chunks":  d.With("user_data", nitrotest.Open(nitrotest.Bytes(wanted[:20]))).Payload(),
		"field name in a form": append(slices.Clone(d), nitrotest.Field{Name: nitrotest.Wide(nitrotest.Text("nonce"), 1), Value: nitrotest.Bytes(wanted[:])}).Payload(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := verify(t, p, p.Sign(payload))
			wantCodes(t, err, refusal.Malformed)
		})
	}
}

// TestAttackNitroEnclaveAsInstance renames the registers of an enclave, whose owner chose them, to those of a TPM.
func TestAttackNitroEnclaveAsInstance(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	doc := p.Sign(p.NewDocument().Payload())
	renamed := slices.Clone(p.NewDocument())
	renamed[3].Name = nitrotest.Text("nitrotpm_pcrs")
	signature := nitrotest.Bytes(doc[len(doc)-96:])
	forged := nitrotest.Envelope(nitrotest.Bytes([]byte(nitrotest.Protected)), nitrotest.Item(nitrotest.Unprotected), nitrotest.Bytes(renamed.Payload()), signature)
	_, err := verify(t, p, forged)
	wantCodes(t, err, refusal.Signature)
	if good(t, p, doc).TPM() {
		t.Error("an enclave's document is a TPM's")
	}
}

// TestAttackNitroHeader hides what decides about the signature where nobody signs it, or asks for a weaker one.
func TestAttackNitroHeader(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	payload := p.NewDocument().Payload()
	doc := p.Sign(payload)
	signature := nitrotest.Bytes(doc[len(doc)-96:])
	algorithm := nitrotest.Map(nitrotest.Uint(1), nitrotest.Negative(34))
	for name, forged := range map[string]nitrotest.Item{
		"algorithm unprotected":        nitrotest.Envelope(nitrotest.Bytes(nil), algorithm, nitrotest.Bytes(payload), signature),
		"algorithm in both":            nitrotest.Envelope(nitrotest.Bytes(algorithm), algorithm, nitrotest.Bytes(payload), signature),
		"a key of the attacker's":      nitrotest.Envelope(nitrotest.Bytes(algorithm), nitrotest.Map(nitrotest.Uint(33), nitrotest.Bytes(p.Certs[nitrotest.Leaf].Raw)), nitrotest.Bytes(payload), signature),
		"no algorithm, no signature":   nitrotest.Envelope(nitrotest.Bytes([]byte("\xa1\x01\x00")), nitrotest.Item(nitrotest.Unprotected), nitrotest.Bytes(payload), nitrotest.Bytes(nil)),
		"a MAC under the public key":   p.SignAs(nitrotest.Leaf, payload, []byte("\xa1\x01\x06")),
		"an algorithm that is text":    p.SignAs(nitrotest.Leaf, payload, []byte("\xa1\x01\x65ES384")),
		"one header too many, crit":    p.SignAs(nitrotest.Leaf, payload, []byte("\xa2\x01\x38\x22\x02\x81\x04")),
		"an algorithm in another form": p.SignAs(nitrotest.Leaf, payload, []byte("\xa1\x01\x39\x00\x22")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := verify(t, p, forged)
			wantCodes(t, err, refusal.Malformed)
		})
	}
}

// TestAttackNitroNoSignature gives the signatures that careless readers take for valid: zeros, the order of the curve,
// one of another payload or of the payload alone.
func TestAttackNitroNoSignature(t *testing.T) {
	t.Parallel()
	p := newScene(t, nitrotest.Config{})
	payload := p.NewDocument().Payload()
	order := p.Key(nitrotest.Leaf).Params().N.Bytes()
	other := p.Sign(p.NewDocument().With("nonce", nitrotest.Bytes(nil)).Payload())
	context := nitrotest.Array(nitrotest.Text("Signature"), nitrotest.Bytes([]byte(nitrotest.Protected)), nitrotest.Bytes(nil), nitrotest.Bytes(payload))
	for name, signature := range map[string][]byte{
		"zeros":               make([]byte, 96),
		"the order twice":     slices.Concat(order, order),
		"one and the order":   slices.Concat(make([]byte, 47), []byte{1}, order),
		"of another":          other[len(other)-96:],
		"of the payload":      p.Signature(nitrotest.Leaf, payload),
		"of another purpose":  p.Signature(nitrotest.Leaf, context),
		"of the instance":     p.Signature(nitrotest.Instance, nitrotest.Array(nitrotest.Text("Signature1"), nitrotest.Bytes([]byte(nitrotest.Protected)), nitrotest.Bytes(nil), nitrotest.Bytes(payload))),
		"of other outer data": p.Signature(nitrotest.Leaf, nitrotest.Array(nitrotest.Text("Signature1"), nitrotest.Bytes([]byte(nitrotest.Protected)), nitrotest.Bytes([]byte{0}), nitrotest.Bytes(payload))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc := nitrotest.Envelope(nitrotest.Bytes([]byte(nitrotest.Protected)), nitrotest.Item(nitrotest.Unprotected), nitrotest.Bytes(payload), nitrotest.Bytes(signature))
			_, err := verify(t, p, doc)
			wantCodes(t, err, refusal.Signature)
		})
	}
}

// TestAttackNitroHugeLengths promises 2^62 bytes, items or pairs in every place and brings none. It counts what is
// allocated, so nothing runs beside it.
func TestAttackNitroHugeLengths(t *testing.T) {
	p := newScene(t, nitrotest.Config{})
	const huge = "\x40\x00\x00\x00\x00\x00\x00\x00"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, major := range []string{"\x5b", "\x7b", "\x9b", "\xbb", "\xdb"} {
		lie := nitrotest.Item(major + huge)
		_, err := verify(t, p, lie)
		wantCodes(t, err, refusal.Malformed)
		_, err = verify(t, p, p.Sign(lie))
		wantCodes(t, err, refusal.Malformed)
		for _, name := range []string{"module_id", "pcrs", "certificate", "cabundle", "user_data"} {
			_, err = verify(t, p, p.Sign(p.NewDocument().With(name, lie).Payload()))
			wantCodes(t, err, refusal.Malformed)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}
