// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// Offsets in the TPMS_ATTEST that vtpmtest makes with a nonce of 32 bytes.
const (
	atType      = 4
	atNameSize  = 6
	atExtraSize = 42
	atSafe      = 92
	atCount     = 101
	atBank      = 105
	atSelect    = 107
	atDigest    = 111
)

func goodQuote() vtpmtest.Quote {
	return vtpmtest.Quote{
		ExtraData: bytes.Repeat([]byte{7}, 32), PCRs: registers(0, 4, 9, 11, 12, 23), Firmware: 0x2020031200120003,
		Clock: vtpm.Clock{Milliseconds: 1, ResetCount: 2, RestartCount: 3, Safe: true},
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for name, s := range map[string]*vtpmtest.Signer{"rsa": w.rsa, "p256": w.p256, "p384": w.p384} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := goodQuote()
			e := quote(t, s, want)
			q, err := vtpm.Verify(w.certified(t, s), e.Attest, e.Signature, e.PCRs)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(q.ExtraData(), want.ExtraData) || q.Clock() != want.Clock || q.FirmwareVersion() != want.Firmware {
				t.Errorf("%x %+v %#x", q.ExtraData(), q.Clock(), q.FirmwareVersion())
			}
			if !slices.Equal(q.Selected(), []int{0, 4, 9, 11, 12, 23}) || len(q.QualifiedSigner()) != 34 {
				t.Errorf("selected %v, signer %x", q.Selected(), q.QualifiedSigner())
			}
			for i := -1; i <= vtpm.MaxPCRs; i++ {
				wanted, quoted := want.PCRs[i]
				if got, ok := q.PCR(i); ok != quoted || got != wanted {
					t.Errorf("PCR %d: %x %v", i, got, ok)
				}
			}
			readAgain(t, e, q)
		})
	}
}

// readAgain lets go-tpm read the same bytes.
func readAgain(t *testing.T, e *vtpmtest.Evidence, q *vtpm.Quote) {
	t.Helper()
	a, err := tpm2.Unmarshal[tpm2.TPMSAttest](e.Attest)
	if err != nil {
		t.Fatal(err)
	}
	info, err := a.Attested.Quote()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tpm2.Marshal(a), e.Attest) || !bytes.Equal(info.PCRDigest.Buffer, q.PCRDigest()) ||
		!bytes.Equal(a.QualifiedSigner.Buffer, q.QualifiedSigner()) || a.ClockInfo.Clock != q.Clock().Milliseconds {
		t.Error("go-tpm reads another quote")
	}
	s, err := tpm2.Unmarshal[tpm2.TPMTSignature](e.Signature)
	if err != nil || !bytes.Equal(tpm2.Marshal(s), e.Signature) {
		t.Errorf("go-tpm reads another signature: %v", err)
	}
}

// TestVerifyBytesAreCopied: a result cannot change with the buffers it was read from.
func TestVerifyBytesAreCopied(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.p256, goodQuote())
	q, err := vtpm.Verify(w.certified(t, w.p256), e.Attest, e.Signature, e.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	clear(e.Attest)
	clear(e.PCRs[0])
	q.ExtraData()[0]++
	if value, _ := q.PCR(0); value != registers(0)[0] || !bytes.Equal(q.ExtraData(), goodQuote().ExtraData) {
		t.Error("the quote changed")
	}
}

// TestRefusedStructures signs structures that no TPM should have made: the signature is right, the verdict is malformed.
func TestRefusedStructures(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ak := w.certified(t, w.p256)
	set := func(at int, b ...byte) func([]byte) []byte {
		return func(a []byte) []byte { copy(a[at:], b); return a }
	}
	second := []byte{0, 0x0b, 3, 0xff, 0xff, 0xff}
	for name, change := range map[string]func([]byte) []byte{
		"empty":                   func([]byte) []byte { return nil },
		"magic":                   set(0, 0xff, 'T', 'C', 'X'),
		"type certify":            set(atType, 0x80, 0x17),
		"type NV":                 set(atType, 0x80, 0x14),
		"name too long":           set(atNameSize, 0, 67),
		"name past the end":       set(atNameSize, 0xff, 0xff),
		"extra data too long":     set(atExtraSize, 0, 67),
		"safe neither":            set(atSafe, 2),
		"no selection":            func(a []byte) []byte { return slices.Concat(a[:atCount], make([]byte, 4), a[atDigest:]) },
		"two selections":          func(a []byte) []byte { a[atCount+3] = 2; return slices.Insert(a, atDigest, second...) },
		"four billion selections": set(atCount, 0xff, 0xff, 0xff, 0xff),
		"bank SHA-1":              set(atBank, 0, 0x04),
		"bank SHA-384":            set(atBank, 0, 0x0c),
		"selection of 2 bytes":    func(a []byte) []byte { a[atSelect] = 2; return slices.Delete(a, atSelect+3, atSelect+4) },
		"selection of 5 bytes":    func(a []byte) []byte { a[atSelect] = 5; return slices.Insert(a, atDigest, 0, 0) },
		"digest too long":         set(atDigest, 0, 65),
		"trailing byte":           func(a []byte) []byte { return append(a, 0) },
		"cut":                     func(a []byte) []byte { return a[:len(a)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := quote(t, w.p256, goodQuote())
			attest := change(e.Attest)
			sig, err := w.p256.Sign(attest)
			if err != nil {
				t.Fatal(err)
			}
			_, err = vtpm.Verify(ak, attest, sig, e.PCRs)
			wantFirst(t, err, refusal.Malformed)
		})
	}
}

// TestAttackEmptySelection is CVE-2022-0317: a genuine quote over no register proves nothing of any value.
func TestAttackEmptySelection(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ak := w.certified(t, w.rsa)
	empty := quote(t, w.rsa, vtpmtest.Quote{ExtraData: make([]byte, 32)})
	for name, pcrs := range map[string][][]byte{"none": nil, "wanted": {make([]byte, 32)}} {
		_, err := vtpm.Verify(ak, empty.Attest, empty.Signature, pcrs)
		if wantFirst(t, err, refusal.Malformed); err == nil {
			t.Error(name)
		}
	}
}

// TestAttackUnquotedRegister gives good values for registers that the quote leaves out.
func TestAttackUnquotedRegister(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ak := w.certified(t, w.rsa)
	e := quote(t, w.rsa, vtpmtest.Quote{PCRs: registers(0, 1)})
	good := registers(11)[11]
	_, err := vtpm.Verify(ak, e.Attest, e.Signature, append(e.PCRs, good[:]))
	wantFirst(t, err, refusal.Malformed)
	q, err := vtpm.Verify(ak, e.Attest, e.Signature, e.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := q.PCR(11); ok {
		t.Error("a register that was not quoted")
	}
	wantFirst(t, q.Match(map[int][sha256.Size]byte{11: {}}), refusal.Measurement) // not even as zeros
	wantFirst(t, q.Match(registers(11)), refusal.Measurement)
}

// TestAttackOtherBank quotes the SHA-1 bank, which firmware may leave to anyone to extend.
func TestAttackOtherBank(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.rsa, goodQuote())
	e.Attest[atBank+1] = 4
	sig, err := w.rsa.Sign(e.Attest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.Verify(w.certified(t, w.rsa), e.Attest, sig, e.PCRs)
	wantFirst(t, err, refusal.Malformed)
}

// TestAttackUntrustedKey: a good quote by a key that nothing vouches for is worth nothing.
func TestAttackUntrustedKey(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.rsa, goodQuote())
	for _, ak := range []*vtpm.AK{nil, {}} {
		_, err := vtpm.Verify(ak, e.Attest, e.Signature, e.PCRs)
		wantFirst(t, err, refusal.Chain)
	}
	_, err := vtpm.Verify(w.certified(t, w.otherRSA), e.Attest, e.Signature, e.PCRs)
	wantFirst(t, err, refusal.Signature)
	_, err = vtpm.Verify(w.certified(t, w.p256), e.Attest, e.Signature, e.PCRs)
	wantFirst(t, err, refusal.Signature)
}

func TestRefusedSignatures(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	set := func(at int, b ...byte) func([]byte) []byte {
		return func(s []byte) []byte { copy(s[at:], b); return s }
	}
	for name, tt := range map[string]struct {
		by     *vtpmtest.Signer
		change func([]byte) []byte
		code   refusal.Code
	}{
		"empty":            {w.rsa, func([]byte) []byte { return nil }, refusal.Malformed},
		"null":             {w.rsa, func([]byte) []byte { return []byte{0, 0x10} }, refusal.Malformed},
		"HMAC":             {w.rsa, set(0, 0, 5), refusal.Malformed},
		"RSAPSS":           {w.rsa, set(0, 0, 0x16), refusal.Malformed},
		"SHA-1":            {w.rsa, set(2, 0, 4), refusal.Malformed},
		"other hash":       {w.rsa, set(2, 0, 0x0c), refusal.Signature},
		"bit":              {w.rsa, func(s []byte) []byte { s[70] ^= 4; return s }, refusal.Signature},
		"too long":         {w.rsa, set(4, 2, 1), refusal.Malformed},
		"past the end":     {w.rsa, set(4, 1, 1), refusal.Malformed},
		"trailing":         {w.rsa, func(s []byte) []byte { return append(s, 0) }, refusal.Malformed},
		"bare":             {w.rsa, func(s []byte) []byte { return s[6:] }, refusal.Malformed},
		"ECC other hash":   {w.p256, set(2, 0, 0x0c), refusal.Signature},
		"ECC bit":          {w.p256, func(s []byte) []byte { s[7] ^= 4; return s }, refusal.Signature},
		"ECC zeros":        {w.p256, func(s []byte) []byte { clear(s[6:38]); return s }, refusal.Signature},
		"ECC as RSA":       {w.p256, set(0, 0, 0x14), refusal.Malformed},
		"ECC empty r":      {w.p256, func(s []byte) []byte { return slices.Concat(s[:4], []byte{0, 0}, s[38:]) }, refusal.Signature},
		"ECC r too long":   {w.p256, set(4, 0, 49), refusal.Malformed},
		"P-384 in SHA-256": {w.p384, set(2, 0, 0x0b), refusal.Signature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := quote(t, tt.by, goodQuote())
			_, err := vtpm.Verify(w.certified(t, tt.by), e.Attest, tt.change(e.Signature), e.PCRs)
			wantFirst(t, err, tt.code)
		})
	}
}

// TestPCRDigestFollowsSignature: with ECDSA on P-384 the digest over the registers is a SHA-384, not the bank's hash.
func TestPCRDigestFollowsSignature(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.p384, goodQuote())
	h := sha256.New()
	for _, v := range e.PCRs {
		h.Write(v)
	}
	attest := append(e.Attest[:atDigest:atDigest], append([]byte{0, 32}, h.Sum(nil)...)...)
	sig, err := w.p384.Sign(attest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.Verify(w.certified(t, w.p384), attest, sig, e.PCRs)
	wantFirst(t, err, refusal.Binding)
}

func TestMatch(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.p256, goodQuote())
	q, err := vtpm.Verify(w.certified(t, w.p256), e.Attest, e.Signature, e.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Match(registers(4, 9)); err != nil {
		t.Errorf("good values: %v", err)
	}
	wantFirst(t, q.Match(nil), refusal.Missing)
	wantFirst(t, q.Match(map[int][sha256.Size]byte{}), refusal.Missing)
	wrong := registers(4, 9, 13)
	wrong[9] = [sha256.Size]byte{1}
	err = q.Match(wrong)
	wantFirst(t, err, refusal.Measurement)
	if n := len(refusal.All(err)); n != 2 {
		t.Errorf("%d refusals, want one for PCR 9 and one for PCR 13: %v", n, err)
	}
	for _, i := range []int{-1, 24, 32, 1 << 20} {
		wantFirst(t, q.Match(map[int][sha256.Size]byte{i: {}}), refusal.Measurement)
	}
}
