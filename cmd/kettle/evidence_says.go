// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/vtpm"
)

// snpTCB is one TCB version of an SEV-SNP report.
type snpTCB struct {
	FMC        uint8 `json:"fmc"`
	Bootloader uint8 `json:"bootloader"`
	TEE        uint8 `json:"tee"`
	SNP        uint8 `json:"snp"`
	Microcode  uint8 `json:"microcode"`
}

// tdxTCB is the status of a TDX platform. The statuses are there only with collateral.
type tdxTCB struct {
	SVN        string   `json:"teeTcbSvn"`
	Components string   `json:"sgxComponents"`
	PCESVN     uint16   `json:"pceSvn"`
	FMSPC      string   `json:"fmspc"`
	Status     string   `json:"status,omitempty"`
	Platform   string   `json:"platform,omitempty"`
	Module     string   `json:"module,omitempty"`
	QE         string   `json:"qe,omitempty"`
	Evaluation uint32   `json:"evaluationDataNumber,omitempty"`
	Date       string   `json:"date,omitempty"`
	Advisories []string `json:"advisories,omitempty"`
}

// snpFlags are the settings of an SEV-SNP guest and its host.
type snpFlags struct {
	Policy         string   `json:"policy"`
	PolicyNames    []string `json:"policyNames,omitempty"`
	PlatformInfo   string   `json:"platformInfo"`
	PlatformNames  []string `json:"platformNames,omitempty"`
	ReportVersion  uint32   `json:"reportVersion"`
	VMPL           uint32   `json:"vmpl"`
	Debug          bool     `json:"debug"`
	MigrationAgent bool     `json:"migrationAgent"`
	SMT            bool     `json:"smt"`
	AliasCheck     bool     `json:"aliasCheckComplete"`
	CiphertextHide bool     `json:"ciphertextHiding"`

	Guest *guestFlags `json:"guest,omitempty"`
}

// tdxFlags are the settings of a trust domain.
type tdxFlags struct {
	Attributes    string `json:"attributes"`
	XFAM          string `json:"xfam"`
	QuoteVersion  uint16 `json:"quoteVersion"`
	Debug         bool   `json:"debug"`
	Migratable    bool   `json:"migratable"`
	SEPTVEDisable bool   `json:"septVeDisable"`
	Perfmon       bool   `json:"perfmon"`

	Guest *guestFlags `json:"guest,omitempty"`
}

// guestFlags is what a paravisor says of the machine above it.
type guestFlags struct {
	SecureBoot *bool `json:"secureBoot,omitempty"`
	Console    *bool `json:"consoleEnabled,omitempty"`
	TPM        *bool `json:"tpmEnabled,omitempty"`
}

// bootJSON is what an event log says about registers that have the values which it gives them.
type bootJSON struct {
	Registers        []string `json:"registers"`
	Events           int      `json:"events"`
	SecureBoot       string   `json:"secureBoot"`
	Firmware         string   `json:"firmware,omitempty"`
	CommandLines     []string `json:"commandLines,omitempty"`
	ExitBootServices bool     `json:"exitBootServices"`
}

// tcbOf gives the TCB of the hardware that speaks.
func tcbOf(q *appraise.Quote) any {
	if r := q.Report(); r != nil {
		return map[string]snpTCB{
			"reported": snpTCB(r.ReportedTCB()), "committed": snpTCB(r.CommittedTCB()), "current": snpTCB(r.CurrentTCB()),
			"launch": snpTCB(r.LaunchTCB()),
		}
	}
	if td := q.TD(); td != nil {
		return tcbOfTD(q, td)
	}
	return nil
}

func tcbOfTD(q *appraise.Quote, td *tdx.Quote) tdxTCB {
	svn, pck := td.TEETCBSVN(), td.PCK()
	out := tdxTCB{
		SVN: hex.EncodeToString(svn[:]), Components: hex.EncodeToString(pck.Components[:]), PCESVN: pck.PCESVN,
		FMSPC: hex.EncodeToString(pck.FMSPC[:]),
	}
	if t, ok := q.TCB(); ok {
		out.Status, out.Platform, out.Module, out.QE = string(t.Status), string(t.Platform), string(t.Module), string(t.QE)
		out.Evaluation, out.Advisories, out.Date = t.Evaluation, t.Advisories, t.Date.UTC().Format(time.DateOnly)
	}
	return out
}

// flagsOf gives the settings of the guest as the hardware states them, and beside them what a paravisor adds.
func flagsOf(q *appraise.Quote) any {
	var guest *guestFlags
	if g := q.Guest(); g != nil {
		guest = flagsOfGuest(g.Configuration())
	}
	if r := q.Report(); r != nil {
		p, i := r.Policy(), r.PlatformInfo()
		return snpFlags{
			Policy: fmt.Sprintf("%#x", uint64(p)), PolicyNames: p.Names(), PlatformInfo: fmt.Sprintf("%#x", uint64(i)), PlatformNames: i.Names(),
			ReportVersion: r.Version(), VMPL: r.VMPL(), Debug: p.Debug(), MigrationAgent: p.MigrationAgent(), SMT: p.SMT(),
			AliasCheck: i.AliasCheckComplete(), CiphertextHide: i.CiphertextHiding(), Guest: guest,
		}
	}
	if td := q.TD(); td != nil {
		a := td.Attributes()
		return tdxFlags{
			Attributes: fmt.Sprintf("%#x", uint64(a)), XFAM: fmt.Sprintf("%#x", td.XFAM()), QuoteVersion: td.Version(), Debug: a.Debug(),
			Migratable: a.Migratable(), SEPTVEDisable: a.SEPTVEDisable(), Perfmon: a.Perfmon(), Guest: guest,
		}
	}
	return nil
}

func flagsOfGuest(c vtpm.Configuration) *guestFlags {
	known := func(on, known bool) *bool {
		if !known {
			return nil
		}
		return &on
	}
	return &guestFlags{SecureBoot: known(c.SecureBoot()), Console: known(c.Console()), TPM: known(c.TPM())}
}

// identitiesOf gives every name in the quote that is not blank.
func identitiesOf(q *appraise.Quote) map[string]string {
	out := map[string]string{}
	add := func(name string, b []byte) {
		if strings.Trim(string(b), "\x00") != "" {
			out[name] = hex.EncodeToString(b)
		}
	}
	if r := q.Report(); r != nil {
		identifySNP(r, out, add)
	}
	if td := q.TD(); td != nil {
		identifyTD(td, out, add)
	}
	if d := q.Document(); d != nil {
		root := d.Root().Fingerprint()
		from, to := d.Validity()
		add("root", root[:])
		add("nonce", d.Nonce())
		add("publicKey", d.PublicKey())
		out["moduleId"], out["documentTime"] = atMost(d.ModuleID(), maxName), d.Timestamp().UTC().Format(time.RFC3339)
		out["endorsementFrom"], out["endorsementExpires"] = from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)
	}
	if t := q.TPM(); t != nil {
		key := t.AK().Fingerprint()
		add("attestationKey", key[:])
		out["attestationKeyTrustedBy"] = t.AK().Origin().String()
	}
	if g := q.Guest(); g != nil && g.Configuration().UniqueID() != "" {
		out["vmUniqueId"] = atMost(g.Configuration().UniqueID(), maxName)
	}
	return out
}

func identifySNP(r *snp.Report, out map[string]string, add func(string, []byte)) {
	report, chip, host, id := r.ReportID(), r.ChipID(), r.HostData(), r.IDKeyDigest()
	family, image, root := r.FamilyID(), r.ImageID(), r.Root().Fingerprint()
	out["signingKey"], out["endorsementExpires"] = r.SigningKey(), r.EndorsementExpires().UTC().Format(time.RFC3339)
	add("root", root[:])
	add("reportId", report[:])
	add("chipId", chip[:])
	add("hostData", host[:])
	add("familyId", family[:])
	add("imageId", image[:])
	add("idKeyDigest", id[:])
	if author, ok := r.AuthorKeyDigest(); ok {
		add("authorKeyDigest", author[:])
	}
	if p := r.Provider(); p != "" {
		out["provider"] = atMost(p, maxName)
	}
}

func identifyTD(td *tdx.Quote, out map[string]string, add func(string, []byte)) {
	pck, root, seam := td.PCK(), td.Root().Fingerprint(), td.MRSEAM()
	config, owner, ownerConfig := td.MRConfigID(), td.MROwner(), td.MROwnerConfig()
	out["signingKey"], out["endorsementExpires"] = td.PCKIssuer(), td.EndorsementExpires().UTC().Format(time.RFC3339)
	add("root", root[:])
	add("ppid", pck.PPID[:])
	add("fmspc", pck.FMSPC[:])
	add("mrSeam", seam[:])
	add("mrConfigId", config[:])
	add("mrOwner", owner[:])
	add("mrOwnerConfig", ownerConfig[:])
	if service, ok := td.MRServiceTD(); ok {
		add("mrServiceTd", service[:])
	}
}

// Bounds of foreign text that is shown, in bytes. A log may be 16 MiB and whoever runs the machine can have all of it
// measured; Linux takes 2048 bytes of command line.
const (
	maxName         = 256
	maxCommandLine  = 8 << 10
	maxCommandLines = 64
)

// atMost gives at most limit bytes of s, whole characters, and says how many it leaves out.
func atMost(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes more)", s[:cut], len(s)-cut)
}

// bootOf tells what the event log says.
func bootOf(a *tcg.Account) *bootJSON {
	if a == nil {
		return nil
	}
	f := a.Facts()
	out := &bootJSON{
		Events: len(a.Events()), SecureBoot: f.SecureBoot.String(), Firmware: atMost(f.Firmware, maxName), ExitBootServices: f.ExitBootServices,
	}
	for _, i := range a.Covered() {
		out.Registers = append(out.Registers, a.Kind().Register(i))
	}
	for _, c := range f.CommandLines[:min(len(f.CommandLines), maxCommandLines)] {
		out.CommandLines = append(out.CommandLines, atMost(c.Text, maxCommandLine))
	}
	if n := len(f.CommandLines) - maxCommandLines; n > 0 {
		out.CommandLines = append(out.CommandLines, fmt.Sprintf("… and %d more", n))
	}
	return out
}

// registerNames gives the names of registers in the order of their numbers.
func registerNames(m map[string]string) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	})
}
