// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// TestAttackSecondKey: runtime data with two attestation keys, of which readers would take different ones.
func TestAttackSecondKey(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	first := string(w.runtime(w.rsa).JSON())
	second := string(w.runtime(w.otherRSA).JSON())
	const start, end = `{"kid":"HCLAkPub"`, `,{"kid":"HCLEkPub"`
	key := second[strings.Index(second, start):strings.Index(second, end)]
	for _, both := range []string{
		strings.Replace(first, start, key+","+start, 1),
		strings.Replace(first, end, ","+key+end, 1),
		strings.Replace(first, end, ","+strings.Replace(key, "HCLAkPub", "HCLAkpub", 1)+end, 1),
		strings.Replace(first, `"keys":`, `"keys":[`+key+`],"keys":`, 1),
		strings.Replace(first, `"keys":`, `"Keys":[`+key+`],"keys":`, 1),
	} {
		_, err := bind(t, both)
		wantFirst(t, err, refusal.Malformed)
	}
}

// TestAttackReportDataTail: report data whose first half binds the runtime data and whose second half says something else.
func TestAttackReportDataTail(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	runtime := w.runtime(w.rsa).JSON()
	h, err := vtpm.ParseHCL(vtpmtest.HCL(vtpm.SNP, nil, runtime))
	if err != nil {
		t.Fatal(err)
	}
	good := vtpmtest.ReportData(runtime)
	for i := range good {
		data := good
		data[i] ^= 1
		_, err := h.Bind(data)
		wantFirst(t, err, refusal.Binding)
	}
}

// TestAttackRuntimeDataSwapped: the hardware's report of one machine around the runtime data of another, whose key the
// attacker holds.
func TestAttackRuntimeDataSwapped(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	honest, forged := w.runtime(w.rsa).JSON(), w.runtime(w.otherRSA).JSON()
	h, err := vtpm.ParseHCL(vtpmtest.HCL(vtpm.SNP, nil, forged))
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Bind(vtpmtest.ReportData(honest))
	wantFirst(t, err, refusal.Binding)
}

// TestAttackTrailingBytes hides bytes behind structures that a lenient reader would take for whole.
func TestAttackTrailingBytes(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ak := w.certified(t, w.rsa)
	e := quote(t, w.rsa, goodQuote())
	longer := append(e.Attest, 0)
	sig, err := w.rsa.Sign(longer)
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.Verify(ak, longer, sig, e.PCRs)
	wantFirst(t, err, refusal.Malformed)
	_, err = vtpm.Verify(ak, e.Attest, append(e.Signature, 0), e.PCRs)
	wantFirst(t, err, refusal.Malformed)
	runtime := w.runtime(w.rsa).JSON()
	blob := vtpmtest.HCL(vtpm.SNP, nil, runtime)
	blob[len(blob)-1] = '}'
	_, err = vtpm.ParseHCL(blob)
	wantFirst(t, err, refusal.Malformed)
}

// TestAttackSplitRegisters moves the border between register values: the digest over them is the same.
func TestAttackSplitRegisters(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.rsa, vtpmtest.Quote{PCRs: registers(4, 9)})
	all := append(append([]byte{}, e.PCRs[0]...), e.PCRs[1]...)
	for _, pcrs := range [][][]byte{{all}, {all[:16], all[16:]}, {all[:32], all[32:48], all[48:]}, {nil, all}} {
		_, err := vtpm.Verify(w.certified(t, w.rsa), e.Attest, e.Signature, pcrs)
		wantFirst(t, err, refusal.Malformed)
	}
}

// TestAttackForgedByKeyOfNoTPM: bytes signed by an unrestricted key, which a TPM would not let start with its magic.
func TestAttackForgedByKeyOfNoTPM(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.rsa, goodQuote())
	copy(e.Attest, []byte{0, 0, 0, 0})
	sig, err := w.rsa.Sign(e.Attest)
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.Verify(w.certified(t, w.rsa), e.Attest, sig, e.PCRs)
	wantFirst(t, err, refusal.Malformed)
}

// TestAttackPolicyOfNothing: an expectation that names no register accepts nothing.
func TestAttackPolicyOfNothing(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.rsa, goodQuote())
	q, err := vtpm.Verify(w.certified(t, w.rsa), e.Attest, e.Signature, e.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	wantFirst(t, q.Match(nil), refusal.Missing)
	wantFirst(t, q.Match(map[int][sha256.Size]byte{}), refusal.Missing)
}

// TestAttackChangedRegister gives values other than those that the quote's digest was taken over.
func TestAttackChangedRegister(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	e := quote(t, w.p256, goodQuote())
	e.PCRs[3][0] ^= 1
	_, err := vtpm.Verify(w.certified(t, w.p256), e.Attest, e.Signature, e.PCRs)
	wantFirst(t, err, refusal.Binding)
}

// TestAttackForeignAuthority: evidence that brings the authority of its key along, root and all.
func TestAttackForeignAuthority(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	foreign, err := vtpmtest.NewAuthority(issued, expires)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := foreign.AK(w.otherRSA.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, err = vtpm.CertifiedAK(append(chain, foreign.Root().Raw), w.roots(), now)
	wantFirst(t, err, refusal.Chain)
}

// TestAttackForeignEndorsementKey: the certificate of a genuine TPM beside a key that somebody made, who could then
// answer the challenge.
func TestAttackForeignEndorsementKey(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	_, err := certifiedEK(t, w, w.rsa, withKey(t, tpm2.RSAEKTemplate, w.otherRSA))
	wantFirst(t, err, refusal.EndorsementsMismatch)
}

// TestAttackGuessedSecret answers a challenge without the TPM.
func TestAttackGuessedSecret(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	ek, err := certifiedEK(t, w, w.otherRSA, withKey(t, tpm2.RSAEKTemplate, w.otherRSA))
	if err != nil {
		t.Fatal(err)
	}
	a, err := vtpm.Activate(ek, withKey(t, rsaAKTemplate(), w.rsa), randomness())
	if err != nil {
		t.Fatal(err)
	}
	for _, guess := range [][]byte{nil, {}, make([]byte, vtpm.SecretSize), make([]byte, 1)} {
		_, err := a.Complete(guess)
		wantFirst(t, err, refusal.Chain)
	}
}
