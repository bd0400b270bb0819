// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
)

// Each test here passes when its attacks fail; mutants_test.go cuts out one check after the other and lets them succeed.

// refuses runs attacks on the verifier: each makes a machine whose report must not be believed.
func refuses(t *testing.T, attacks map[string]func(t *testing.T) *snptest.Machine) {
	t.Helper()
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r, err := attack(t).Verify(t); err == nil || r != nil {
				t.Errorf("believed: %v", err)
			}
		})
	}
}

// edited gives a machine with one change.
func edited(line, key string, change func(b *snptest.Machine)) func(t *testing.T) *snptest.Machine {
	return func(*testing.T) *snptest.Machine {
		b := snptest.New(line, key)
		change(b)
		return b
	}
}

// inside reads the second certificate of AMD's chain for Milan, or the first.
func inside(t *testing.T, second bool) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(trust.AskArkMilanVcekBytes)
	if second {
		block, _ = pem.Decode(rest)
	}
	return parsed(t, block.Bytes)
}

// TestAttackForgedEndorsement brings endorsement keys that the authority which they name never certified.
func TestAttackForgedEndorsement(t *testing.T) {
	t.Parallel()
	refuses(t, map[string]func(t *testing.T) *snptest.Machine{
		"signed by another key": edited("Milan", "VCEK", func(b *snptest.Machine) {
			b.RootsOf = snptest.New(b.Line, b.Key)
			b.ASKKey = b.ARKKey
		}),
		"of another authority": edited("Milan", "VCEK", func(b *snptest.Machine) { // which holds the same key
			b.RootsOf = snptest.New(b.Line, b.Key)
			b.ASK.Subject.Organization = []string{"Other"}
		}),
		"expired": edited("Milan", "VCEK", func(b *snptest.Machine) { b.Leaf.NotAfter = b.At.Add(-time.Second) }),
		"an authority itself": edited("Milan", "VCEK", func(b *snptest.Machine) {
			b.Leaf.IsCA, b.Leaf.BasicConstraintsValid = true, true
		}),
	})
	t.Run("in AMD's name", func(t *testing.T) {
		t.Parallel()
		b := snptest.New("Milan", "VCEK")
		b.ASK = inside(t, false)
		b.ASK.PublicKey = &b.ASKKey.PublicKey
		if r, err := snp.Verify(b.Signed(t), b.LeafDER(t), amdRoots(t), b.At); err == nil || r != nil {
			t.Errorf("believed: %v", err)
		}
	})
}

// TestAttackForeignEndorsement brings genuine certificates: of another chip, another TCB, another kind of key.
func TestAttackForeignEndorsement(t *testing.T) {
	t.Parallel()
	refuses(t, map[string]func(t *testing.T) *snptest.Machine{
		"of another chip":            edited("Milan", "VCEK", func(b *snptest.Machine) { b.Report[0x1df] ^= 1 }),
		"of another chip, Turin":     edited("Turin", "VCEK", func(b *snptest.Machine) { b.Report[0x1a7] ^= 1 }),
		"of a better TCB":            edited("Milan", "VCEK", func(b *snptest.Machine) { b.SPL[3] = 25 }),
		"of a better TCB, VLEK":      edited("Milan", "VLEK", func(b *snptest.Machine) { b.SPL[8] = 255 }),
		"of no provider":             edited("Milan", "VLEK", func(b *snptest.Machine) { b.CSP = nil }),
		"VLEK of the VCEKs' ASK":     edited("Turin", "VLEK", func(b *snptest.Machine) { b.ASK.Subject.CommonName = "SEV-Turin" }),
		"VCEK named VLEK":            edited("Milan", "VCEK", func(b *snptest.Machine) { b.Leaf.Subject.CommonName = "SEV-VLEK" }),
		"of another line's firmware": edited("Turin", "VCEK", func(b *snptest.Machine) { b.SPL[9] = 2 }),
	})
}

// TestAttackForgedReport changes what a key signed, or takes what was signed for the host.
func TestAttackForgedReport(t *testing.T) {
	t.Parallel()
	refuses(t, map[string]func(t *testing.T) *snptest.Machine{
		"another measurement": edited("Milan", "VCEK", func(b *snptest.Machine) { b.AfterSign = func(r []byte) { r[0x90] ^= 1 } }),
		"another key":         edited("Milan", "VCEK", func(b *snptest.Machine) { b.LeafKey = snptest.ECDSAKey(elliptic.P384()) }),
		"asked for by the host": edited("Milan", "VCEK", func(b *snptest.Machine) {
			binary.LittleEndian.PutUint32(b.Report[0x30:], 0xffffffff)
		}),
		"reported above what runs": edited("Milan", "VCEK", func(b *snptest.Machine) { b.Report[0x38+7] = 218 }),
	})
}

// TestAttackWeakMachine takes genuine reports of machines whose host may read them, to the floor.
func TestAttackWeakMachine(t *testing.T) {
	t.Parallel()
	const smtOff = 0x24
	for name, tt := range map[string]struct {
		line   string
		f      floor.Floor
		change func(b *snptest.Machine)
	}{
		"debugged":                  {"Milan", floor.Default, func(b *snptest.Machine) { b.Report[0x0a] |= 1 << 3 }},
		"migrated":                  {"Milan", floor.Default, func(b *snptest.Machine) { b.Report[0x0a] |= 1 << 2 }},
		"old microcode":             {"Milan", floor.Default, func(b *snptest.Machine) { b.SetTCB(7, 8, 218) }},
		"firmware behind microcode": {"Milan", floor.Default, func(b *snptest.Machine) { b.SetTCB(6, 3, 23); b.SetTCB(7, 8, 255) }},
		"unknown processor":         {"Milan", floor.Default, func(b *snptest.Machine) { b.Report[0x18a] = 0 }},
		"launched on old firmware":  {"Milan", floor.Strict, func(b *snptest.Machine) { b.Report[0x1f0+6] = 23 }},
		"can be rolled back":        {"Milan", floor.Strict, func(b *snptest.Machine) { b.Report[0x1e0+6] = 23 }},
		"aliased memory":            {"Milan", floor.Strict, func(b *snptest.Machine) { b.Report[0x40] &^= 1 << 5 }},
		"asked for below VMPL 0":    {"Milan", floor.Strict, func(b *snptest.Machine) { b.Report[0x30] = 1 }},
		"host's threads beside":     {"Milan", floor.Strict, func(b *snptest.Machine) { b.Report[0x40] |= 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := snptest.New(tt.line, "VCEK")
			b.Report[0x40] = smtOff
			tt.change(b)
			r, err := b.Verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Meets(tt.f); err == nil {
				t.Errorf("good enough for %s", tt.f)
			}
		})
	}
}

// TestAttackRelabelledRoot gives AMD's own authorities as a private root, so that genuine machines would pass for a
// simulator's, and a forged one for AMD's.
func TestAttackRelabelledRoot(t *testing.T) {
	t.Parallel()
	good := snptest.New("Milan", "VCEK")
	for name, text := range map[string][]byte{
		"AMD's chain": trust.AskArkMilanVcekBytes,
		"AMD's key below another ARK": slices.Concat(snptest.PEM(snptest.Certificate(t, good.ASK, good.ARK, inside(t, false).PublicKey, good.ARKKey)),
			snptest.PEM(good.ARKDER(t))),
		"signed by nobody": slices.Concat(snptest.PEM(good.ASKDER(t)), snptest.PEM(reSigned(t, good))),
	} {
		if roots, err := snp.ParseRoots(text); err == nil || roots != nil {
			t.Errorf("%s: a root", name)
		}
	}
}

// TestAttackOtherRevocationList keeps a revocation from a verifier by an older list, another's or a part of one.
func TestAttackOtherRevocationList(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]func(t *testing.T, b *snptest.Machine) []byte{
		"none": func(*testing.T, *snptest.Machine) []byte { return nil },
		"of yesterday": func(t *testing.T, b *snptest.Machine) []byte {
			b.CRLEnd = b.At.Add(-time.Minute)
			return b.CRL(t)
		},
		"signed by the ASK": func(t *testing.T, b *snptest.Machine) []byte {
			return b.CRLBy(t, b.ASKKey, x509.SHA384WithRSAPSS)
		},
		"of another line": func(t *testing.T, _ *snptest.Machine) []byte { return snptest.New("Genoa", "VCEK").CRL(t) },
		"a delta": func(t *testing.T, b *snptest.Machine) []byte {
			b.CRLExtra = append(b.CRLExtra, deltaCRL())
			return b.CRL(t)
		},
		"with the ASK on it": func(t *testing.T, b *snptest.Machine) []byte { return b.CRL(t, big.NewInt(1), b.ASK.SerialNumber) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := snptest.New("Milan", "VCEK")
			r, err := b.Verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if r.NotRevoked(list(t, b), b.At) == nil {
				t.Error("not revoked")
			}
		})
	}
}
