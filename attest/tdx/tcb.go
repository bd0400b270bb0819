// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kettle/attest/attest/refusal"
)

// TCB verifies the collateral and gives what it says of the platform, whatever that is: a platform out of date is no
// error here. Codes: endorsements-missing, signature, chain, revoked, endorsements-mismatch, expired; tcb when the
// collateral knows no level for the platform; missing without a verified quote or a time.
func (q *Quote) TCB(c *Collateral, at time.Time) (TCB, error) {
	if q == nil || !q.verified {
		return TCB{}, platformRefusal(refusal.Missing, "a verified quote", "none", nextFreshQuote)
	}
	if at.IsZero() {
		return TCB{}, noTime()
	}
	if c == nil || c.tcb == nil {
		return TCB{}, endorsements(refusal.EndorsementsMissing, "TDX collateral (TCB info, QE identity and revocation lists)", "none")
	}
	if err := q.checkCollateral(c, at); err != nil {
		return TCB{}, err
	}
	return q.evaluate(c)
}

// checkCollateral demands genuine and current collateral for this platform. What a document says counts only after its
// signature; that it is stale or for another platform is told only of a genuine one.
func (q *Quote) checkCollateral(c *Collateral, at time.Time) error {
	for _, d := range [...]struct {
		name           string
		chain          issuerChain
		doc, signature []byte
	}{
		{"TCB info", c.tcbChain, c.parts.TCBInfo, c.parts.TCBInfoSignature},
		{"QE identity", c.qeChain, c.parts.QEIdentity, c.parts.QEIdentitySignature},
	} {
		if !bytes.Equal(d.chain.root, q.root.cert.Raw) {
			return brokenChain("a "+d.name+" issuer chain that ends in the root of the quote", "another root")
		}
		if d.name == "TCB info" || d.chain.signer != c.tcbChain.signer {
			if fault := checkCertificate(d.chain.signer, q.root.cert, shape{names: []string{nameTCBSigning}}); fault != nil {
				return fault
			}
		}
		key, ok := d.chain.signer.PublicKey.(*ecdsa.PublicKey)
		if !ok || !signedBy(key, d.doc, d.signature) {
			return endorsements(refusal.Signature, "Intel's signature over the "+d.name, "another signature, or changed bytes")
		}
	}
	if err := errors.Join(checkCRL(c.rootCRL, q.root.cert), checkCRL(c.pckCRL, q.ca)); err != nil {
		return err
	}
	return errors.Join(q.checkRevocation(c), q.checkPlatform(c), q.checkCurrent(c, at))
}

func (q *Quote) checkRevocation(c *Collateral) error {
	errs := []error{
		checkRevoked(c.pckCRL, q.leaf.SerialNumber, "PCK certificate"),
		checkRevoked(c.rootCRL, q.ca.SerialNumber, "PCK CA certificate"),
		checkRevoked(c.rootCRL, c.tcbChain.signer.SerialNumber, "TCB signing certificate"),
	}
	if c.qeChain.signer != c.tcbChain.signer {
		errs = append(errs, checkRevoked(c.rootCRL, c.qeChain.signer.SerialNumber, "QE identity signing certificate"))
	}
	return errors.Join(errs...)
}

// checkPlatform demands that the documents are about this platform, its module and its quoting enclave (QVL, 4.1.2.4.10,
// .11 and .15).
func (q *Quote) checkPlatform(c *Collateral) error {
	if c.tcb.fmspc != q.pck.FMSPC || c.tcb.pceID != q.pck.PCEID {
		return endorsements(refusal.EndorsementsMismatch, fmt.Sprintf("a TCB info for FMSPC %x and PCEID %x", q.pck.FMSPC, q.pck.PCEID),
			fmt.Sprintf("one for %x and %x", c.tcb.fmspc, c.tcb.pceID))
	}
	qe, report := c.qe, q.qeReport[:]
	if !masked(report[16:20], qe.miscMask[:], qe.miscSelect[:]) || !masked(report[48:64], qe.mask[:], qe.attributes[:]) ||
		!bytes.Equal(report[128:160], qe.signer[:]) || binary.LittleEndian.Uint16(report[256:]) != qe.product {
		return endorsements(refusal.EndorsementsMismatch, "a QE identity for the quoting enclave of the quote", "one for another enclave")
	}
	if m, found := q.module(c); found && (m.signer != q.mrSignerSEAM || !masked(q.seamAttributes[:], m.mask[:], m.attributes[:])) {
		return endorsements(refusal.EndorsementsMismatch, "a TDX module identity for the module of the quote", "one for another module")
	}
	return nil
}

func masked(have, mask, want []byte) bool {
	for i := range have {
		if have[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

// checkCurrent demands that everything in the collateral was in force at the time.
func (q *Quote) checkCurrent(c *Collateral, at time.Time) error {
	for _, w := range [...]struct {
		name     string
		from, to time.Time
	}{
		{"the TCB info", c.tcb.issued, c.tcb.nextUpdate},
		{"the QE identity", c.qe.issued, c.qe.nextUpdate},
		{"the PCK revocation list", c.pckCRL.ThisUpdate, c.pckCRL.NextUpdate},
		{"the root revocation list", c.rootCRL.ThisUpdate, c.rootCRL.NextUpdate},
	} {
		if at.Before(w.from) || at.After(w.to) {
			return outside(w.name, at, w.from, w.to)
		}
	}
	return validAt(at, c.tcbChain.signer, c.qeChain.signer, q.leaf, q.ca, q.root.cert)
}

// module gives the identity that Intel holds for the module of the quote: the one for its major version, or for version
// 0 (TDX 1.0) the one of the document itself, which has no levels of its own.
func (q *Quote) module(c *Collateral) (*module, bool) {
	major := q.teeTCBSVN[1]
	if major == 0 {
		return &c.tcb.module, true
	}
	id := fmt.Sprintf("TDX_%02X", major)
	i := slices.IndexFunc(c.tcb.modules, func(m module) bool { return strings.EqualFold(m.id, id) })
	if i < 0 {
		return nil, false
	}
	return &c.tcb.modules[i], true
}

// evaluate finds the levels of platform, module and QE and converges their statuses (PCS, "TCB Info"; QVL, 4.1.2.4.17).
func (q *Quote) evaluate(c *Collateral) (TCB, error) {
	sgx, platform := q.platformLevels(c.tcb)
	if platform == nil {
		return TCB{}, noLevel("platform", fmt.Sprintf("SGX components %v, PCE %d, TDX components %v", q.pck.Components, q.pck.PCESVN, q.teeTCBSVN))
	}
	levels := []*level{platform}
	module := &level{status: UpToDate, date: platform.date}
	if q.teeTCBSVN[1] > 0 {
		identity, found := q.module(c)
		if found {
			module = enclaveLevel(identity.levels, uint16(q.teeTCBSVN[0]))
		}
		if !found || module == nil {
			return TCB{}, noLevel("TDX module", fmt.Sprintf("version %d with SVN %d", q.teeTCBSVN[1], q.teeTCBSVN[0]))
		}
		levels = append(levels, module)
	}
	svn := binary.LittleEndian.Uint16(q.qeReport[258:])
	qe := enclaveLevel(c.qe.levels, svn)
	if qe == nil {
		return TCB{}, noLevel("quoting enclave", fmt.Sprintf("SVN %d", svn))
	}
	t := TCB{
		Platform: platform.status, Module: module.status, QE: qe.status, Date: platform.date,
		Evaluation: min(c.tcb.evaluation, c.qe.evaluation), Issued: c.Issued(), Expires: c.Expires(),
	}
	for _, l := range append(levels, qe) {
		for _, id := range l.advisories {
			if !slices.Contains(t.Advisories, id) {
				t.Advisories = append(t.Advisories, id)
			}
		}
		if l.date.Before(t.Date) {
			t.Date = l.date
		}
	}
	t.Status = platform.status.worsen(module.status)
	if q.relaunchHelps(c.tcb, sgx.status, t) {
		t.Status = relaunch(sgx.status, t.Status)
	}
	t.Status = t.Status.worsen(qe.status)
	return t, nil
}

func noLevel(of, got string) error {
	return platformRefusal(refusal.TCB, "a "+of+" that Intel's collateral has a TCB level for", got, nextUpdate)
}

// platformLevels gives the first level that the platform's SGX components and PCE reach, and the first whose TDX
// components it reaches too. From module version 1 on, components 0 and 1 are the module's own and are judged by its
// identity.
func (q *Quote) platformLevels(t *tcbInfo) (sgx, all *level) {
	skip := 0
	if q.teeTCBSVN[1] > 0 {
		skip = 2
	}
	for i := range t.levels {
		l := &t.levels[i]
		if !reaches(q.pck.Components[:], l.sgx[:]) || q.pck.PCESVN < l.pcesvn {
			continue
		}
		if sgx == nil {
			sgx = l
		}
		if reaches(q.teeTCBSVN[skip:], l.tdx[skip:]) {
			return sgx, l
		}
	}
	return sgx, nil
}

// reaches reports whether every single component is at least the wanted one.
func reaches(have, want []uint8) bool {
	for i := range have {
		if have[i] < want[i] {
			return false
		}
	}
	return true
}

// enclaveLevel gives the first level whose SVN is reached, or nil.
func enclaveLevel(levels []level, svn uint16) *level {
	i := slices.IndexFunc(levels, func(l level) bool { return l.isvsvn <= svn })
	if i < 0 {
		return nil
	}
	return &levels[i]
}
