// SPDX-License-Identifier: Apache-2.0

package idblock_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/kettle/attest/image/idblock"
	"github.com/kettle/attest/internal/secret"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	ours := key(t, 7)
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(k any) string {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	sec1, err := x509.MarshalECPrivateKey(ours)
	if err != nil {
		t.Fatal(err)
	}
	good := pkcs8(ours)
	for name, tt := range map[string]struct{ text, says string }{
		"PKCS#8":            {good, ""},
		"SEC 1":             {string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})), ""},
		"nothing":           {"", "one PEM block"},
		"two blocks":        {good + good, "one PEM block"},
		"words behind":      {good + "x", "one PEM block"},
		"a certificate":     {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sec1})), "CERTIFICATE"},
		"other bytes":       {string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sec1[:20]})), "P-384"},
		"another curve":     {pkcs8(other), "P-384"},
		"another algorithm": {pkcs8(edwards), "P-384"},
	} {
		got, err := idblock.ParseKey(secret.New(tt.text))
		switch {
		case tt.says == "" && (err != nil || !got.Equal(ours)):
			t.Errorf("%s: %v", name, err)
		case tt.says != "" && (err == nil || got != nil || !strings.Contains(err.Error(), tt.says)):
			t.Errorf("%s: %v; want %q", name, err, tt.says)
		}
	}
}
