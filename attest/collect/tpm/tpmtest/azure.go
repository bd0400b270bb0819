// SPDX-License-Identifier: Apache-2.0

package tpmtest

import (
	"bytes"
	"crypto/rsa"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Where Azure's paravisor keeps what it has.
const (
	azureAK       = 0x81000003
	azureReport   = 0x01400001
	azureUserData = 0x01400002
)

// AzureKey makes an RSA attestation key of the kind that Azure's paravisor leaves at handle 0x81000003.
func AzureKey(t testing.TB, tpm transport.TPM) *rsa.PublicKey {
	t.Helper()
	public := tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Scheme: tpm2.TPMTRSAScheme{
			Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
		}}),
	})
	key, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: public}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: &tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, PersistentHandle: azureAK,
	}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: key.ObjectHandle}).Execute(tpm); err != nil {
		t.Fatal(err)
	}
	contents, err := key.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	unique, err := contents.Unique.RSA()
	if err != nil {
		t.Fatal(err)
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(unique.Buffer), E: 65537}
}

// Paravisor is a TPM whose report in NV index 0x01400001 is made anew when somebody looks at it.
type Paravisor struct {
	*Hook
	// Report makes the report around user data.
	Report func(userData [64]byte) []byte
	// Late is how many looks the paravisor lets pass before it makes the next report.
	Late  int
	Looks int
	shown []byte
}

// NewParavisor puts a paravisor around a TPM, with a first report over no user data.
func NewParavisor(t testing.TB, tpm transport.TPMCloser, report func([64]byte) []byte) *Paravisor {
	t.Helper()
	p := &Paravisor{Report: report}
	Define(t, tpm, azureReport, trim(report([64]byte{})))
	p.Hook = &Hook{TPMCloser: tpm, Before: func(code tpm2.TPMCC, handle uint32, _ []byte) ([]byte, error) {
		if code != tpm2.TPMCCNVReadPublic || handle != azureReport {
			return nil, nil //nolint:nilnil // The TPM answers.
		}
		if p.Looks++; p.Looks <= p.Late {
			return nil, nil //nolint:nilnil // As above.
		}
		if user := Read(t, tpm, azureUserData, 64); len(user) == 64 && !bytes.Equal(user, p.shown) {
			p.shown = user
			Write(t, tpm, azureReport, trim(p.Report([64]byte(user))))
		}
		return nil, nil //nolint:nilnil // As above.
	}}
	return p
}

// trim drops trailing zeros, for which swtpm's NV indexes have no room, to a length that is always the same.
func trim(report []byte) []byte {
	const room = 2048
	report = append(bytes.TrimRight(report, "\x00"), make([]byte, room)...)
	return report[:room]
}
