// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/kettle/attest/attest/tdx"
)

var direct = tdx.Setting{Guest: tdx.Direct}

// chainOf gives the n-th certificate of a quote's chain in PEM.
func chainOf(t testing.TB, quote []byte, n int) []byte {
	t.Helper()
	const begin = "-----BEGIN CERTIFICATE-----"
	parts := bytes.Split(quote, []byte(begin))
	if len(parts) != 4 {
		t.Fatalf("%d certificates", len(parts)-1)
	}
	return append([]byte(begin), bytes.TrimRight(parts[n+1], "\x00")...)
}

// intelCertificate is Intel's root as a certificate, for the library.
func intelCertificate(t testing.TB, quote []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(chainOf(t, quote, 2))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
