// SPDX-License-Identifier: Apache-2.0

package vtpm

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// TestLibraryIsLenient writes down what go-tpm v0.9.8 takes for a good quote, and this package refuses: why the library
// is an oracle here and not the reader.
func TestLibraryIsLenient(t *testing.T) {
	t.Parallel()
	good := unhex(seedAttest)
	const atSafe, atCount = 69, 78
	for name, raw := range map[string][]byte{
		"trailing bytes": append(bytes.Clone(good), "anything"...),
		"safe neither":   replaced(good, atSafe, 7),
		"no selection":   append(replaced(good[:atCount+4], atCount+3, 0), good[atCount+10:]...),
	} {
		if _, err := tpm2.Unmarshal[tpm2.TPMSAttest](raw); err != nil {
			t.Errorf("%s: go-tpm has become strict, look again: %v", name, err)
		}
		if _, err := parseAttest(raw); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func replaced(b []byte, at int, v byte) []byte {
	b = bytes.Clone(b)
	b[at] = v
	return b
}

// TestLibraryMakesSameCredential compares the credential with go-tpm's, under the same randomness. What is sealed to the
// endorsement key differs each time and is the software TPM's to check.
func TestLibraryMakesSameCredential(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := tpm2.RSAEKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: key.N.Bytes()})
	ek, err := parsePublic(linkEK, tpm2.Marshal(template))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tpm2.ImportEncapsulationKey(&template)
	if err != nil {
		t.Fatal(err)
	}
	random := bytes.Repeat([]byte{0x3c}, 1<<10)
	name, secret := []byte("the name of an object"), bytes.Repeat([]byte{9}, SecretSize)
	got, _, err := makeCredential(bytes.NewReader(random), ek, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := tpm2.CreateCredential(bytes.NewReader(random), theirs, name, secret)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%x, go-tpm makes %x", got, want)
	}
}
