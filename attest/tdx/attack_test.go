// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// Each test here passes when its attacks fail; mutants_test.go cuts out one check after the other and lets them succeed.

// TestAttackForgedQuote breaks the way from the quote to the PCK in each of its places.
func TestAttackForgedQuote(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"changed measurement":            func(s *scene) { s.edit = func(b []byte) []byte { b[48+0x88]++; return b } },
		"attestation key of one's own":   func(s *scene) { s.quote.BoundKey = "another" },
		"quoting enclave of no platform": func(s *scene) { s.quote.QESigner = "another" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			change(s)
			if _, _, err := s.verify(t); err == nil {
				t.Error("believed")
			}
		})
	}
}

// TestAttackForgedPlatform brings certificates of platforms that Intel never certified, or did once.
func TestAttackForgedPlatform(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *scene){
		"PCK by another key": func(s *scene) { s.config.Issuers = map[string]string{tdxtest.PCKLeaf: "another"} },
		"CA by another key":  func(s *scene) { s.config.Issuers = map[string]string{tdxtest.PCKCA: "another"} },
		"signed as a CA":     certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.IsCA = true }),
		"expired":            certificate(tdxtest.PCKLeaf, func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(time.Hour) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			change(s)
			if _, _, err := s.verify(t); err == nil {
				t.Error("believed")
			}
		})
	}
}

// accepted runs attacks on the floor default with genuine quotes.
func accepted(t *testing.T, attacks map[string]func(s *scene)) {
	t.Helper()
	for name, change := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			change(s)
			if s.meets(t, floor.Default, tdx.Direct) == nil {
				t.Error("good enough for default")
			}
		})
	}
}

// TestAttackForgedCollateral writes that a platform is up to date into documents that Intel did not sign so.
func TestAttackForgedCollateral(t *testing.T) {
	t.Parallel()
	accepted(t, map[string]func(s *scene){
		"changed TCB info":    edited("tcb_info", `"UpToDate"`, `"UpToDate" `),
		"changed QE identity": edited("qe_identity", `"UpToDate"`, `"UpToDate" `),
		"signed by nobody":    func(s *scene) { s.config.Issuers = map[string]string{tdxtest.TCBSigning: "another"} },
		"list by nobody":      described(func(c *tdxtest.Collateral) { c.PCKCRL.SignedBy = "another" }),
		"root's list by the CA": described(func(c *tdxtest.Collateral) {
			c.RootCRL.SignedBy = tdxtest.PCKCA
		}),
	})
}

// TestAttackOtherCollateral brings genuine documents: of another platform, another enclave, another day.
func TestAttackOtherCollateral(t *testing.T) {
	t.Parallel()
	accepted(t, map[string]func(s *scene){
		"of another platform":      described(func(c *tdxtest.Collateral) { c.TCBInfo.FMSPC = "00806f050000" }),
		"of another enclave":       described(func(c *tdxtest.Collateral) { c.QEIdentity.Product = 1 }),
		"of yesterday":             described(func(c *tdxtest.Collateral) { c.TCBInfo.NextUpdate = "2026-06-01T12:00:00Z" }),
		"with a list of yesterday": described(func(c *tdxtest.Collateral) { c.PCKCRL.Next = c.PCKCRL.ThisUpdate.Add(time.Hour) }),
	})
}

// TestAttackRevokedPlatform quotes on a platform that Intel has revoked, or one certified by a CA that it has.
func TestAttackRevokedPlatform(t *testing.T) {
	t.Parallel()
	accepted(t, map[string]func(s *scene){
		"PCK":         described(func(c *tdxtest.Collateral) { c.PCKCRL.Revoked = []string{tdxtest.PCKLeaf} }),
		"CA":          described(func(c *tdxtest.Collateral) { c.RootCRL.Revoked = []string{tdxtest.PCKCA} }),
		"TCB signing": described(func(c *tdxtest.Collateral) { c.RootCRL.Revoked = []string{tdxtest.TCBSigning} }),
	})
}

// TestAttackWeakPlatform takes genuine quotes of platforms whose host may read or change the TD to the floor.
func TestAttackWeakPlatform(t *testing.T) {
	t.Parallel()
	accepted(t, map[string]func(s *scene){
		"debugged":             func(s *scene) { s.quote.Body.Attributes |= 1 },
		"migratable":           func(s *scene) { s.quote.Body.Attributes |= 1 << 29 },
		"with a service TD":    func(s *scene) { s.quote.Version, s.quote.BodyType, s.quote.Body.MRServiceTD = 5, 3, [48]byte{1} },
		"one component behind": func(s *scene) { s.config.SVNs = [16]byte{9, 9, 9, 9, 9, 1, 0, 4} },
		"PCE behind":           func(s *scene) { s.config.PCESVN = 10 },
		"module behind":        func(s *scene) { s.quote.Body.TEETCBSVN = [16]byte{3, 1, 3} },
		"QE behind":            func(s *scene) { s.quote.Enclave.SVN = 3 },
	})
	s := newScene()
	s.quote.Body.Attributes &^= 1 << 28
	if s.meets(t, floor.Strict, tdx.Direct) == nil {
		t.Error("without SEPT_VE_DISABLE: good enough for strict")
	}
}
