// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/eventlog/tcg"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
)

// maxExtraData is the largest extra data of a TPM quote in bytes (TPM2B_DATA with SHA-512).
const maxExtraData = 66

// judged is what came out for one piece.
type judged struct {
	piece   piece
	quote   *appraise.Quote // nil unless it is genuine
	account *tcg.Account    // nil unless an event log matches
	notes   []string
	err     error
}

// judge asks whether the evidence is genuine, and then whether the platform is good enough, the event log matches, and
// it quotes what it should. What follows a genuine quote is joined, so that all faults are seen, the gravest first:
// whose memory the host reads says nothing; what contradicts the quote comes before what the platform falls short of.
func (d *demand) judge(p piece) judged {
	j := judged{piece: p}
	j.quote, j.err = appraise.Verify(&p.Evidence, p.others, d.roots, d.at)
	if j.err != nil {
		return j
	}
	platform := j.quote.Judge(d.floor, appraise.Terms{})
	var contradictions error
	if log := d.log(p); log != nil {
		j.account, contradictions = j.quote.BootLog(log)
	}
	contradictions = errors.Join(contradictions, d.bound(&j))
	if errors.Is(platform, refusal.ErrDebug) {
		j.err = errors.Join(platform, contradictions)
	} else {
		j.err = errors.Join(contradictions, platform)
	}
	j.notes = d.openEnds(&j)
	return j
}

// log is the event log that was named, or the one that travels with the evidence.
func (d *demand) log(p piece) []byte {
	if d.eventLog != nil {
		return d.eventLog
	}
	if len(p.BootLog) > 0 {
		return p.BootLog
	}
	return nil
}

// bound compares what was quoted with what was asked for, and with the binding that travels beside it.
func (d *demand) bound(j *judged) error {
	if extra, ok := j.quote.ExtraData(); ok {
		return d.boundExtra(j, extra)
	}
	got, _ := j.quote.ReportData()
	var errs []error
	if d.reportData != nil {
		errs = append(errs, differs("report data", d.reportData, got[:]))
	}
	if d.payload != nil {
		sum := binding.Sum(d.payload)
		errs = append(errs, differs("report data that starts with the payload's SHA-256,", sum[:], got[:32]))
	}
	if c := j.piece.Collection; c != nil {
		sum := binding.Sum(c.Binding)
		errs = append(errs, differs("report data that ends with the SHA-256 of the binding beside it,", sum[:], got[32:]))
		_, err := binding.Parse(c.Binding)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// boundExtra is bound where a TPM speaks. A TPM of Kettle's carries the SHA-256 of the 64 bytes; documents of others the
// SHA-256 of the payload, or of the payload's JSON without white space, which is their rule and never ours.
func (d *demand) boundExtra(j *judged, got []byte) error {
	var errs []error
	if d.reportData != nil {
		err := differs("extra data", d.reportData, got)
		if sum := binding.Sum(d.reportData); err != nil && len(d.reportData) == len([64]byte{}) {
			err = differs("extra data that is the SHA-256 of the report data,", sum[:], got)
		}
		errs = append(errs, err)
	}
	c := j.piece.Collection
	if d.payload != nil && c != nil {
		want := binding.ExtraData(d.payload, c.Binding)
		errs = append(errs, differs("extra data over payload and binding,", want[:], got))
	}
	if d.payload != nil && c == nil {
		errs = append(errs, d.boundForeign(j, got))
	}
	if c != nil {
		_, err := binding.Parse(c.Binding)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (d *demand) boundForeign(j *judged, got []byte) error {
	sum := binding.Sum(d.payload)
	err := differs("extra data that is the payload's SHA-256,", sum[:], got)
	if err == nil {
		return nil
	}
	var compact bytes.Buffer
	if json.Compact(&compact, d.payload) != nil {
		return err
	}
	if sum = binding.Sum(compact.Bytes()); differs("", sum[:], got) != nil {
		return err
	}
	j.notes = append(j.notes, "payload: its JSON without white space was quoted, not its bytes")
	return nil
}

// differs refuses got where it is not want, whole.
func differs(what string, want, got []byte) error {
	if subtle.ConstantTimeCompare(want, got) == 1 {
		return nil
	}
	return &refusal.Refusal{
		Link: "binding", Code: refusal.Binding, Want: what + " " + hex.EncodeToString(want), Got: hex.EncodeToString(got),
		Next: "the quote was made for something else; take the evidence that belongs to it",
	}
}

// openEnds says what the verdict leaves open.
func (d *demand) openEnds(j *judged) []string {
	notes := j.notes
	if !j.quote.RevocationChecked() {
		notes = append(notes, "revocation: not checked")
	}
	notes = append(notes, "measurement: shown, not judged")
	_, tpm := j.quote.ExtraData()
	switch {
	case d.payload == nil && d.reportData == nil:
		notes = append(notes, "report data: shown, not compared with anything of yours")
	case j.piece.Collection == nil && d.reportData == nil && !tpm:
		notes = append(notes, "report data: the second half was not compared with anything")
	}
	if d.log(j.piece) == nil && j.piece.Kind != evidence.SNP {
		notes = append(notes, "event log: none was given, so the registers are digests and nothing more")
	}
	if r := j.quote.Report(); r != nil {
		for _, o := range r.Unproven() {
			notes = append(notes, o.Name+": "+o.State)
		}
	}
	return notes
}
