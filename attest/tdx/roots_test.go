// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// TestIntelRootIsPinned holds Intel's root by SHA-256. It changes when Intel announces another root, and not otherwise.
func TestIntelRootIsPinned(t *testing.T) {
	t.Parallel()
	roots := intelRoots(t)
	if len(roots) != 1 || !roots[0].Intel() {
		t.Fatalf("%d roots", len(roots))
	}
	f := roots[0].Fingerprint()
	if got := hex.EncodeToString(f[:]); got != "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3" {
		t.Errorf("another root: %s", got)
	}
	if (tdx.Root{}).Fingerprint() != [32]byte{} || (tdx.Root{}).Intel() {
		t.Error("the zero root is something")
	}
}

func TestParseRoots(t *testing.T) {
	t.Parallel()
	good := tdxtest.New(tdxtest.Config{}).PEM(tdxtest.Root)
	for _, text := range [][]byte{good, append([]byte("\n"), good...), bytes.TrimSpace(good)} {
		if roots, err := tdx.ParseRoots(text); err != nil || len(roots) != 1 || roots[0].Intel() {
			t.Errorf("%v", err)
		}
	}
	root := func(change func(c *x509.Certificate)) []byte {
		return tdxtest.New(tdxtest.Config{Change: func(name string, c *x509.Certificate) {
			if name == tdxtest.Root {
				change(c)
			}
		}}).PEM(tdxtest.Root)
	}
	if _, err := tdx.ParseRoots(root(func(c *x509.Certificate) { c.Subject.CommonName = "My simulator" })); err != nil {
		t.Errorf("a private root may be called anything: %v", err)
	}
	v := tdxVector(t, "tdx15-v4-uptodate")
	for name, c := range map[string]struct {
		text []byte
		code refusal.Code
	}{
		"empty":           {nil, refusal.Malformed},
		"no PEM":          {[]byte("root"), refusal.Malformed},
		"two":             {append(bytes.Clone(good), good...), refusal.Malformed},
		"text before":     {append([]byte("root:\n"), good...), refusal.Malformed},
		"no certificate":  {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), refusal.Malformed},
		"a leaf":          {tdxtest.New(tdxtest.Config{}).PEM(tdxtest.PCKLeaf), refusal.Chain},
		"an intermediate": {tdxtest.New(tdxtest.Config{}).PEM(tdxtest.PCKCA), refusal.Chain},
		"not its own":     {tdxtest.New(tdxtest.Config{Issuers: map[string]string{tdxtest.Root: "another"}}).PEM(tdxtest.Root), refusal.Chain},
		"path length 0":   {root(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), refusal.Chain},
		"usage":           {root(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), refusal.Chain},
		"Intel's":         {chainOf(t, v.quote, 2), refusal.Policy},
	} {
		_, err := tdx.ParseRoots(c.text)
		t.Run(name, func(t *testing.T) { wantFirst(t, err, c.code) })
	}
}

// FuzzRoots feeds foreign PEM.
func FuzzRoots(f *testing.F) {
	f.Add(tdxtest.New(tdxtest.Config{}).PEM(tdxtest.Root))
	f.Add(tdxtest.New(tdxtest.Config{}).PEM(tdxtest.PCKCA, tdxtest.Root))
	f.Fuzz(func(t *testing.T, data []byte) {
		if roots, err := tdx.ParseRoots(data); err == nil && (len(roots) != 1 || roots[0].Intel()) {
			t.Fatal("a private root that is none")
		} else if err != nil && len(refusal.All(err)) == 0 {
			t.Fatalf("an error that is no refusal: %v", err)
		}
	})
}
