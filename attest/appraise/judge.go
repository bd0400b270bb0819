// SPDX-License-Identifier: Apache-2.0

package appraise

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/floor"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/tdx"
)

// Terms are what a floor is judged by beside the evidence. The zero Terms trust no host and take a revocation list for
// SEV-SNP if one is there.
type Terms struct {
	Host           snp.Trust // hosts that are trusted not to attack their guests
	RevocationList bool      // SEV-SNP: a list has to be there; TDX always needs its own above the floor signature
}

// Judge reports, as nil, that the machine reaches the floor at the time of [Verify]. Otherwise it joins a refusal for
// each thing that falls short, the gravest first.
func (q *Quote) Judge(f floor.Floor, t Terms) error {
	if q == nil || q.report == nil && q.td == nil && q.tpm == nil && q.document == nil { // only Verify makes a Quote that says something
		return noEvidence()
	}
	var errs []error
	if q.report != nil {
		errs = append(errs, q.report.Judge(f, snp.Terms{Trust: t.Host}), q.revocation(f, t))
	}
	if q.td != nil {
		errs = append(errs, q.judgeTD(f))
	}
	if q.guest != nil {
		errs = append(errs, q.guest.Meets(f))
	}
	if q.kind == evidence.VTPM {
		errs = append(errs, knownFloor(f))
	}
	if q.document != nil {
		errs = append(errs, q.document.Meets(f))
	}
	return errors.Join(errs...)
}

// knownFloor refuses what is no floor; a plain TPM has nothing more to judge.
func knownFloor(f floor.Floor) error {
	switch f {
	case floor.Signature, floor.Default, floor.Strict:
		return nil
	}
	return &refusal.Refusal{
		Link: "platform", Code: refusal.Missing, Want: "a floor: signature, default or strict", Got: "none", Next: "choose one in the policy",
	}
}

// revocation judges AMD's list. Of several, one that holds is enough; a list that names a key is final.
func (q *Quote) revocation(f floor.Floor, t Terms) error {
	if f == floor.Signature {
		return nil
	}
	if len(q.crls) == 0 {
		if !t.RevocationList {
			return nil
		}
		return &refusal.Refusal{
			Link: "endorsements", Code: refusal.EndorsementsMissing, Want: "AMD's list of revoked keys, as environments.revocation requires",
			Got: "none", Next: "collect evidence with the list, or allow its absence in the policy in writing",
		}
	}
	var first error
	held := false
	for _, list := range q.crls[:min(len(q.crls), MaxEndorsements)] {
		err := q.report.NotRevoked(list, q.at)
		if errors.Is(err, refusal.ErrRevoked) {
			return err
		}
		held = held || err == nil
		if first == nil {
			first = err
		}
	}
	if held {
		return nil
	}
	return first
}

// TCB gives the status of a TD quote's platform for showing, by the first document that is for it.
func (q *Quote) TCB() (tdx.TCB, bool) {
	if q.td == nil {
		return tdx.TCB{}, false
	}
	for _, text := range q.collaterals[:min(len(q.collaterals), MaxEndorsements)] {
		if c, err := tdx.ParseCollateral(text); err == nil {
			if t, err := q.td.TCB(c, q.at); err == nil {
				return t, true
			}
		}
	}
	return tdx.TCB{}, false
}

// RevocationChecked says whether a list of revoked keys stood beside the quote for [Quote.Judge] to look at.
func (q *Quote) RevocationChecked() bool { return len(q.crls) > 0 || len(q.collaterals) > 0 }

// judgeTD judges a TD quote with the first document that is for its platform. The floor signature asks for none, so looks
// at none. A document that says revoked is final, whatever another says.
func (q *Quote) judgeTD(f floor.Floor) error {
	setting := tdx.Setting{Guest: tdx.Direct}
	if q.kind == evidence.AzureTDX {
		setting.Guest = tdx.Paravisor
	}
	if f == floor.Signature || len(q.collaterals) == 0 {
		return q.td.Meets(f, setting, nil, q.at)
	}
	var first error
	held := false
	for _, text := range q.collaterals[:min(len(q.collaterals), MaxEndorsements)] {
		err := q.meetsBy(text, f, setting)
		if errors.Is(err, refusal.ErrRevoked) {
			return err
		}
		held = held || err == nil
		if first == nil || errors.Is(first, refusal.ErrEndorsementsMismatch) {
			first = err
		}
	}
	if held {
		return nil
	}
	return first
}

// meetsBy judges by one document. One that cannot be read takes away what it would have said and nothing else: the fault
// stands where its absence would, behind debugging and before the attributes.
func (q *Quote) meetsBy(text []byte, f floor.Floor, setting tdx.Setting) error {
	c, fault := tdx.ParseCollateral(text)
	if fault == nil {
		return q.td.Meets(f, setting, c, q.at)
	}
	errs := []error{}
	for _, r := range refusal.All(q.td.Meets(f, setting, nil, q.at)) {
		if r.Code == refusal.EndorsementsMissing {
			errs = append(errs, fault)
		} else {
			errs = append(errs, r)
		}
	}
	return errors.Join(errs...)
}

// Environment is what the quote says of its machine, in the policy's words.
func (q *Quote) Environment() policy.Environment {
	e := policy.Environment{Platform: q.Platform(), Registers: map[string]string{}}
	if q.report != nil {
		e.ChipID, e.Provider, e.Measurement = q.report.EndorsedChip(), q.report.Provider(), q.report.Measurement()
	}
	if q.td != nil {
		ppid := q.td.PCK().PPID
		copy(e.ChipID[:], ppid[:])
		e.Measurement = q.td.MRTD()
		for i, r := range q.td.RTMRs() {
			e.Registers[fmt.Sprintf("rtmr%d", i)] = hex.EncodeToString(r[:])
		}
	}
	if d := q.document; d != nil {
		e.Measurement, _ = d.PCR(0) // of an enclave's image
		if d.TPM() {
			e.Measurement = [48]byte{} // a constant of AWS's, which proves nothing about the image
		}
		for _, i := range d.Selected() {
			if v, ok := d.PCR(i); ok {
				e.Registers[fmt.Sprintf("pcr%d", i)] = hex.EncodeToString(v[:])
			}
		}
	}
	if q.tpm != nil {
		for _, i := range q.tpm.Selected() {
			if v, ok := q.tpm.PCR(i); ok {
				e.Registers[fmt.Sprintf("pcr%d", i)] = hex.EncodeToString(v[:])
			}
		}
	}
	return e
}

// MeetsFloor reports, as nil, that the machine reaches the floor of the policy's environments.
func (q *Quote) MeetsFloor(e policy.Environments, at time.Time) error {
	word, err := e.Floor(at)
	if err != nil {
		return err
	}
	f, err := floor.Parse(word)
	if err != nil {
		return fmt.Errorf("reading the policy's floor: %w", err)
	}
	named, err := e.Names(q.Environment(), at)
	if err != nil {
		return err
	}
	t := Terms{}
	if t.RevocationList, err = e.RevocationRequired(at); err != nil {
		return err
	}
	if named && q.report != nil { // the policy's list, of this one machine
		t.Host = snp.Trust{Chips: [][64]byte{q.report.EndorsedChip()}}
		if p := q.report.Provider(); p != "" {
			t.Host.Providers = []string{p}
		}
	}
	return errors.Join(q.Judge(f, t), q.highest(f, named))
}

// highest demands that the highest privilege level of an SEV-SNP guest asked for the report: what runs below it may be
// the job's. A provider whose own layer runs there has to be named, and the measurement says which layer that is.
func (q *Quote) highest(f floor.Floor, named bool) error {
	if q.kind != evidence.SNP || f != floor.Default || named { // strict asks itself
		return nil
	}
	return q.report.AtVMPL(0)
}

// Meets judges the machine by the policy's environments: floor, platform, chip, image, measurement and registers.
// Independent faults are joined. signed names the values that package reference found among the signed reference values of
// an image which the policy accepts; none where no image was verified.
func (q *Quote) Meets(e policy.Environments, at time.Time, signed ...string) (*Appraisal, error) {
	machine := q.Environment()
	machine.Signed = signed
	if err := errors.Join(q.MeetsFloor(e, at), e.Allow(machine, at)); err != nil {
		return nil, err
	}
	return &Appraisal{quote: q}, nil
}

// Appraisal is the result of judging evidence: genuine, and of a machine that the policy accepts. Only [Quote.Meets]
// makes one.
type Appraisal struct{ quote *Quote }

// Quote gives the verified quote.
func (a *Appraisal) Quote() *Quote { return a.quote }

// Platform is [Quote.Platform].
func (a *Appraisal) Platform() string { return a.quote.Platform() }

// Measurement is the launch measurement in lower-case hexadecimal: SEV-SNP's launch digest, MRTD, or zeros on a plain TPM.
func (a *Appraisal) Measurement() string {
	m := a.quote.Environment().Measurement
	return hex.EncodeToString(m[:])
}

// Instance names the running machine that was quoted.
func (a *Appraisal) Instance() statement.Instance { return a.quote.Instance() }

// Instance names the running machine that was quoted.
func (q *Quote) Instance() statement.Instance {
	i := statement.Instance{Platform: q.Platform()}
	if q.report != nil {
		reportID, chipID := q.report.ReportID(), q.report.ChipID()
		i.ReportID, i.ChipID = hex.EncodeToString(reportID[:]), hex.EncodeToString(chipID[:])
	}
	if q.td != nil {
		ppid := q.td.PCK().PPID
		i.ChipID = hex.EncodeToString(ppid[:])
	}
	if q.tpm != nil {
		key := q.tpm.AK().Fingerprint()
		i.AttestationKey = hex.EncodeToString(key[:])
	}
	return i
}

// jobPCR is the register that an environment extends with its events where a TPM speaks.
const jobPCR = 15

// jobRTMR is the same on TDX.
const jobRTMR = 3

// Replays compares the machine's run-time register with the replay of the log. It is false where the machine has no
// such register: SEV-SNP has none, HOST_DATA is the host's, fixed at launch; only under a simulator's root is HOST_DATA
// the register.
func (a *Appraisal) Replays(log *eventlog.Log) (bool, error) { return a.quote.Replays(log) }

// Replays is [Appraisal.Replays].
func (q *Quote) Replays(log *eventlog.Log) (bool, error) {
	var want, got string
	switch {
	case q.tpm != nil:
		v, ok := q.tpm.PCR(jobPCR)
		if !ok {
			return false, nil
		}
		want, got = log.Register().String(), hex.EncodeToString(v[:])
	case q.td != nil:
		w, v := log.RTMR(), q.td.RTMRs()[jobRTMR]
		if v == [48]byte{} {
			return false, nil // nothing was ever extended: a kernel without the interface
		}
		want, got = hex.EncodeToString(w[:]), hex.EncodeToString(v[:])
	case q.Platform() == PlatformSim:
		v := q.report.HostData()
		want, got = log.Register().String(), hex.EncodeToString(v[:])
	default:
		return false, nil
	}
	if want == got {
		return true, nil
	}
	return true, &refusal.Refusal{
		Link: "event-log", Code: refusal.EventLogMismatch, Want: "the machine's register to be the replay of the log, " + want, Got: got,
		Next: "more or other things were extended than the log says; do not trust this environment",
	}
}
