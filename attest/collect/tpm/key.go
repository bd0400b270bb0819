// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/collect/fault"
)

// Handle is the handle of a persistent key.
type Handle uint32

// Key is a key in the TPM. A key that was created is loaded until [TPM.Flush].
type Key struct {
	Public []byte // TPMT_PUBLIC
	Name   []byte // TPM2B_NAME without its size: algorithm and digest
	handle tpm2.TPMHandle
	loaded bool // by us, to be flushed
}

func (k Key) auth() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: k.handle, Name: tpm2.TPM2BName{Buffer: k.Name}, Auth: tpm2.PasswordAuth(nil)}
}

// Key finds a persistent key. One that is not there is [ErrAbsent].
func (t *TPM) Key(ctx context.Context, h Handle) (Key, error) {
	doing := fmt.Sprintf("looking up key %#x", uint32(h))
	answer, err := run(ctx, t, tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(h)})
	if errors.Is(err, tpm2.TPMRCHandle) {
		return Key{}, fmt.Errorf("%s: %w", doing, ErrAbsent)
	}
	if err != nil {
		return Key{}, broken(ctx, doing, err)
	}
	k := Key{Public: answer.OutPublic.Bytes(), Name: answer.Name.Buffer, handle: tpm2.TPMHandle(h)}
	return k, k.check(doing)
}

// CreateAK makes this TPM's attestation key: a restricted signing key of curve P-256 with ECDSA and SHA-256, primary in
// the endorsement hierarchy. It is the same key after every start, until the hierarchy's seed changes.
func (t *TPM) CreateAK(ctx context.Context) (Key, error) {
	return t.create(ctx, "creating an attestation key", akTemplate())
}

// CreateFrom makes the primary key of the endorsement hierarchy that a template (TPMT_PUBLIC) describes, such as one
// that a provider left in an NV index beside the key's certificate.
func (t *TPM) CreateFrom(ctx context.Context, template []byte) (Key, error) {
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](template)
	if err != nil {
		return Key{}, fault.Broken("reading a key's template", err)
	}
	return t.create(ctx, "creating a key from a template", *public)
}

// CreateEK makes the TPM's endorsement key from one of the default templates (EK, sections B.3.3 and B.3.4).
func (t *TPM) CreateEK(ctx context.Context, a Algorithm) (Key, error) {
	template := tpm2.ECCEKTemplate
	if a == RSA2048 {
		template = tpm2.RSAEKTemplate
	}
	return t.create(ctx, "creating the endorsement key", template)
}

// Algorithm is a kind of endorsement key.
type Algorithm int

// The kinds for which every TPM has a template.
const (
	P256 Algorithm = iota
	RSA2048
)

// EKCertificate gives the NV index of the manufacturer's certificate for the kind of key (EK, section 2.2.1.4).
func (a Algorithm) EKCertificate() Index {
	if a == RSA2048 {
		return 0x01c00002
	}
	return 0x01c0000a
}

func akTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
	}
}

func (t *TPM) create(ctx context.Context, doing string, template tpm2.TPMTPublic) (Key, error) {
	answer, err := run(ctx, t, tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(template),
	})
	if err != nil {
		return Key{}, broken(ctx, doing, err)
	}
	k := Key{Public: answer.OutPublic.Bytes(), Name: answer.Name.Buffer, handle: answer.ObjectHandle, loaded: true}
	return k, k.check(doing)
}

// check demands a key in an answer that says success; go-tpm reads an answer that ends early as one of empty values.
func (k Key) check(doing string) error {
	if len(k.Public) == 0 || len(k.Name) == 0 {
		return fault.Broken(doing, errors.New("the TPM answered without a key"))
	}
	return nil
}

// Flush unloads a key that was created; others stay.
func (t *TPM) Flush(k Key) error {
	if !k.loaded {
		return nil
	}
	if _, err := (tpm2.FlushContext{FlushHandle: k.handle}).Execute(t.t); err != nil {
		return fault.Broken("unloading a key", err)
	}
	return nil
}

// Activate answers a challenge: it gives the secret that a verifier encrypted to the endorsement key for this very
// attestation key (TPM2_MakeCredential). credential and secret are the contents of the TPM2B_ID_OBJECT and the
// TPM2B_ENCRYPTED_SECRET. A TPM that does not hold both keys cannot answer.
func (t *TPM) Activate(ctx context.Context, ek, ak Key, credential, secret []byte) ([]byte, error) {
	const doing = "activating a credential"
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	session, closeSession, err := tpm2.PolicySession(t.t, tpm2.TPMAlgSHA256, 16)
	if err != nil {
		return nil, broken(ctx, doing, err)
	}
	defer closeSession() //nolint:errcheck // It ends with a successful command; then there is nothing to close.
	// The endorsement key's default policy is the knowledge of the endorsement hierarchy's authorization.
	_, err = run(ctx, t, tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		PolicySession: session.Handle(), NonceTPM: session.NonceTPM(),
	})
	if err != nil {
		return nil, broken(ctx, doing, err)
	}
	answer, err := run(ctx, t, tpm2.ActivateCredential{
		ActivateHandle: ak.auth(),
		KeyHandle:      tpm2.AuthHandle{Handle: ek.handle, Name: tpm2.TPM2BName{Buffer: ek.Name}, Auth: session},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: credential}, Secret: tpm2.TPM2BEncryptedSecret{Buffer: secret},
	})
	if err != nil {
		return nil, broken(ctx, doing, err)
	}
	return answer.CertInfo.Buffer, nil
}
