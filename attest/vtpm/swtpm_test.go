// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"crypto"
	"crypto/rsa"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

// softwareTPM starts a TPM in software that lives as long as the test.
func softwareTPM(t *testing.T) transport.TPM {
	t.Helper()
	path, err := exec.LookPath("swtpm")
	if err != nil {
		if os.Getenv("KETTLE_REQUIRE_SWTPM") == "1" {
			t.Fatalf("no software TPM: %v", err)
		}
		t.Skipf("no software TPM (Debian package swtpm): %v", err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	cmd := exec.CommandContext(t.Context(), path, "socket", "--tpm2", "--tpmstate", "dir="+dir,
		"--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 500 { // it may be there and not listen yet
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	tpm, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tpm.Close() })
	return tpm
}

func rsaAKTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: akAttributes(),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Scheme: tpm2.TPMTRSAScheme{
			Scheme:  tpm2.TPMAlgRSASSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
		}}),
	}
}

func eccAKTemplate(curve tpm2.TPMECCCurve, hash tpm2.TPMAlgID) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: hash, ObjectAttributes: akAttributes(),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curve, Scheme: tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash}),
		}}),
	}
}

func akAttributes() tpm2.TPMAObject {
	return tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true,
	}
}

// tpmKey is a key inside the software TPM.
type tpmKey struct {
	handle tpm2.NamedHandle
	public []byte // TPMT_PUBLIC
}

func primary(t *testing.T, tpm transport.TPM, hierarchy tpm2.TPMHandle, template tpm2.TPMTPublic) tpmKey {
	t.Helper()
	made, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	return tpmKey{tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, made.OutPublic.Bytes()}
}

// key gives the public key as go-tpm reads it.
func (k tpmKey) key(t *testing.T) crypto.PublicKey {
	t.Helper()
	p, err := tpm2.Unmarshal[tpm2.TPMTPublic](k.public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*p)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// takeQuote quotes registers of the SHA-256 bank.
func takeQuote(t *testing.T, tpm transport.TPM, ak tpm2.NamedHandle, nonce []byte, selected [3]byte) vtpmtest.Evidence {
	t.Helper()
	selection := func(bits []byte) tpm2.TPMLPCRSelection {
		return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bits}}}
	}
	q, err := tpm2.Quote{
		SignHandle: ak, QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect: selection(selected[:]),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	e := vtpmtest.Evidence{Attest: q.Quoted.Bytes(), Signature: tpm2.Marshal(q.Signature)}
	for i := range 24 {
		one := make([]byte, 3)
		one[i/8] = selected[i/8] & (1 << (i % 8))
		if one[i/8] == 0 {
			continue
		}
		r, err := tpm2.PCRRead{PCRSelectionIn: selection(one)}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		e.PCRs = append(e.PCRs, r.PCRValues.Digests[0].Buffer)
	}
	return e
}

func extend(t *testing.T, tpm transport.TPM, register int, digest []byte) {
	t.Helper()
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(register), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest}}},
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
}

// TestAzureMachine plays a confidential VM of Azure: its attestation key at 0x81000003, the paravisor's report in NV index
// 0x01400001. What is read from there verifies.
func TestAzureMachine(t *testing.T) {
	t.Parallel()
	tpm := softwareTPM(t)
	made := primary(t, tpm, tpm2.TPMRHOwner, rsaAKTemplate())
	const akHandle, nvIndex = 0x81000003, 0x01400001
	_, err := tpm2.EvictControl{Auth: tpm2.TPMRHOwner, ObjectHandle: &made.handle, PersistentHandle: akHandle}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := made.key(t).(*rsa.PublicKey)
	runtime := vtpmtest.Runtime{AK: key, SecureBoot: true, UniqueID: "vm"}.JSON()
	const largest = 2048 // what the software TPM takes; the rest of a report is zeros
	blob := throughNV(t, tpm, nvIndex, vtpmtest.HCL(vtpm.SNP, filled(1184), runtime)[:largest])

	extend(t, tpm, 15, filled(32))
	e := takeQuote(t, tpm, tpm2.NamedHandle{Handle: akHandle, Name: made.handle.Name}, filled(64), [3]byte{0xff, 0xff, 0xff})
	h, err := vtpm.ParseHCL(blob)
	if err != nil {
		t.Fatal(err)
	}
	g, err := h.Bind(vtpmtest.ReportData(runtime))
	if err != nil {
		t.Fatal(err)
	}
	q, err := vtpm.Verify(g.AK(), e.Attest, e.Signature, e.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Meets(floor.Strict); err != nil {
		t.Error(err)
	}
	if pcr, ok := q.PCR(15); !ok || pcr == ([32]byte{}) || len(q.ExtraData()) != 64 || q.Clock().Milliseconds == 0 {
		t.Errorf("PCR 15 %x, extra data %x, clock %+v", pcr, q.ExtraData(), q.Clock())
	}
	if _, err := vtpm.VerifyBare(g.AK(), e.Attest, e.Signature[6:], e.PCRs); err != nil {
		t.Errorf("bare: %v", err)
	}
}

// throughNV defines an NV index, writes data and reads it again.
func throughNV(t *testing.T, tpm transport.TPM, index tpm2.TPMHandle, data []byte) []byte {
	t.Helper()
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.TPMRHOwner,
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)),
			Attributes: tpm2.TPMANV{OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true},
		}),
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	named := func() tpm2.NamedHandle { // its name changes with the first write
		r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		return tpm2.NamedHandle{Handle: index, Name: r.NVName}
	}
	const piece = 1024
	for at := 0; at < len(data); at += piece {
		end := min(at+piece, len(data))
		_, err := tpm2.NVWrite{
			AuthHandle: tpm2.TPMRHOwner, NVIndex: named(), Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[at:end]}, Offset: uint16(at),
		}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
	}
	var out []byte
	for at := 0; at < len(data); at += piece {
		r, err := tpm2.NVRead{
			AuthHandle: tpm2.TPMRHOwner, NVIndex: named(), Size: uint16(min(piece, len(data)-at)), Offset: uint16(at),
		}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Data.Buffer...)
	}
	return out
}

// activate answers a challenge inside the TPM.
func activate(tpm transport.TPM, ek, ak tpm2.NamedHandle, c vtpm.Challenge) ([]byte, error) {
	policy := func(tpm transport.TPM, handle tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicySecret{AuthHandle: tpm2.TPMRHEndorsement, PolicySession: handle, NonceTPM: nonce}.Execute(tpm)
		return err
	}
	r, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.AuthHandle{Handle: ak.Handle, Name: ak.Name, Auth: tpm2.PasswordAuth(nil)},
		KeyHandle:      tpm2.AuthHandle{Handle: ek.Handle, Name: ek.Name, Auth: tpm2.Policy(tpm2.TPMAlgSHA256, 16, policy)},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.IDObject},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.EncryptedSecret},
	}.Execute(tpm)
	if err != nil {
		return nil, err
	}
	return r.CertInfo.Buffer, nil
}

// TestActivation plays a plain TPM: a certified endorsement key activates an attestation key, whose quote then verifies.
func TestActivation(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	for name, tt := range map[string]struct{ ek, ak tpm2.TPMTPublic }{
		"rsa": {tpm2.RSAEKTemplate, rsaAKTemplate()},
		"ecc": {tpm2.ECCEKTemplate, eccAKTemplate(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256)},
		"384": {tpm2.RSAEKTemplate, eccAKTemplate(tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tpm := softwareTPM(t)
			ek := primary(t, tpm, tpm2.TPMRHEndorsement, tt.ek)
			ak := primary(t, tpm, tpm2.TPMRHOwner, tt.ak)
			if name, err := vtpm.Name(ak.public); err != nil || string(name) != string(ak.handle.Name.Buffer) {
				t.Errorf("name %x, the TPM says %x: %v", name, ak.handle.Name.Buffer, err)
			}
			a := challenge(t, w, ek, ak)
			secret, err := activate(tpm, ek.handle, ak.handle, a.Challenge())
			if err != nil {
				t.Fatal(err)
			}
			trusted, err := a.Complete(secret)
			if err != nil {
				t.Fatal(err)
			}
			if trusted.Origin() != vtpm.Activated || trusted.CertificateDER() == nil || !trusted.CertificateExpires().Equal(expires) {
				t.Errorf("%v until %v", trusted.Origin(), trusted.CertificateExpires())
			}
			e := takeQuote(t, tpm, ak.handle, filled(32), [3]byte{0x11, 0x02, 0x80})
			q, err := vtpm.Verify(trusted, e.Attest, e.Signature, e.PCRs)
			if err != nil {
				t.Fatal(err)
			}
			if pcr, ok := q.PCR(23); !ok || pcr != ([32]byte{}) || len(q.Selected()) != 4 {
				t.Errorf("PCR 23 %x %v of %v", pcr, ok, q.Selected())
			}
		})
	}
}

// challenge certifies the endorsement key and starts an activation.
func challenge(t *testing.T, w *world, ek, ak tpmKey) *vtpm.Activation {
	t.Helper()
	chain, err := w.authority.EK(ek.key(t))
	if err != nil {
		t.Fatal(err)
	}
	certified, err := vtpm.CertifiedEK(chain, ek.public, w.roots(), now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := vtpm.Activate(certified, ak.public, randomness())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAttackActivateAnotherKey: a TPM does not answer for a key it does not hold, nor for one beside the one named.
func TestAttackActivateAnotherKey(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	tpm, otherTPM := softwareTPM(t), softwareTPM(t)
	ek := primary(t, tpm, tpm2.TPMRHEndorsement, tpm2.RSAEKTemplate)
	ak := primary(t, tpm, tpm2.TPMRHOwner, rsaAKTemplate())
	beside := primary(t, tpm, tpm2.TPMRHOwner, eccAKTemplate(tpm2.TPMECCNistP256, tpm2.TPMAlgSHA256))
	a := challenge(t, w, ek, ak)
	if _, err := activate(tpm, ek.handle, beside.handle, a.Challenge()); err == nil {
		t.Error("the TPM gave the secret for another key")
	}
	otherEK := primary(t, otherTPM, tpm2.TPMRHEndorsement, tpm2.RSAEKTemplate)
	otherAK := primary(t, otherTPM, tpm2.TPMRHOwner, rsaAKTemplate())
	if _, err := activate(otherTPM, otherEK.handle, otherAK.handle, a.Challenge()); err == nil {
		t.Error("another TPM gave the secret")
	}
	for _, secret := range [][]byte{nil, {}, make([]byte, vtpm.SecretSize), make([]byte, vtpm.SecretSize+1)} {
		trusted, err := a.Complete(secret)
		wantFirst(t, err, refusal.Chain)
		if trusted != nil {
			t.Error("a key besides the refusal")
		}
	}
	_, err := (*vtpm.Activation)(nil).Complete(nil)
	wantFirst(t, err, refusal.Chain)
}
